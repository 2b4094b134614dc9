"""Who may import whom, and that packages and names stay what they claim."""

import ast
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).parents[1]
PACKAGES = ("contract", "data_pipeline", "training")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
NO_NOUN = {"utils", "util", "common", "helpers", "helper", "misc"}


def test_the_arrows_of_pyproject_hold(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    status = lint_imports(no_cache=True)
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out


def test_every_module_is_named_after_something():
    assert not [path for path in SOURCES if NO_NOUN & {path.stem, path.parent.name}]


@pytest.mark.parametrize("path", [p for p in SOURCES if p.name == "__init__.py"], ids=lambda p: p.parent.name)
def test_packages_re_export_nothing(path):
    body = ast.parse(path.read_text("utf8")).body
    assert all(isinstance(node, ast.Expr | ast.Import) for node in body)
