"""What README says holds: commands parse, tables are the code's, params load, figures are measured."""

import argparse
import re
import shlex
import tarfile
from importlib import import_module
from pathlib import Path

import msgspec
import pytest
import synthetic
import yaml
from dvc.cli.parser import get_main_parser

from benchmarks import end_to_end, report
from contract import params, record
from data_pipeline.__main__ import main as data_pipeline
from training.settings import load

ROOT = Path(__file__).parents[1]
PAGES = {name: (ROOT / name).read_text("utf8") for name in ("README.md", "CONTRIBUTING.md")}
README = PAGES["README.md"]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


def commands(start: str) -> list[list[str]]:
    """The arguments of each line of a shell block that begins so."""
    lines = [line for page in PAGES.values() for block in blocks(page, "sh") for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith(f"{start} ")]


@pytest.mark.parametrize("words", commands("python -m data_pipeline"), ids=" ".join)
def test_data_pipeline_commands_parse(words, monkeypatch):
    _, _, _, name, *rest = words
    parsed: list[argparse.Namespace] = []
    monkeypatch.setattr(import_module(f"data_pipeline.stages.{name.replace('-', '_')}"), "run", parsed.append)
    data_pipeline([name, *rest])
    assert parsed


@pytest.mark.parametrize(
    "words", [w for w in commands("python -m") if w[2].startswith("training.")], ids=" ".join
)
def test_training_commands_parse(words):
    assert import_module(words[2]).parser().parse_args(words[3:]) is not None


@pytest.mark.parametrize("words", commands("dvc"), ids=" ".join)
def test_dvc_commands_parse(words):
    assert get_main_parser().parse_args(words[1:]).func is not None


@pytest.mark.parametrize("words", commands("make"), ids=" ".join)
def test_make_targets_exist(words):
    assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text("utf8")


def rows(first: str) -> list[list[str]]:
    """The cells of the table whose first column is titled so; an empty first cell repeats the one above."""
    table = README.partition(f"| {first} |")[2].partition("\n\n")[0].splitlines()[2:]
    found: list[list[str]] = []
    for line in table:
        top, *rest = [cell.strip() for cell in line.strip("|").split("|")]
        found.append([top or found[-1][0], *rest])
    return found


def test_the_table_of_the_record_is_the_record():
    said = {cells[0].strip("`"): re.findall(r"`(\w+)`", cells[1]) for cells in rows("struct")}
    assert said == {name: list(getattr(record, name).__struct_fields__) for name in said}
    kinds = [kind for kind in vars(record).values() if isinstance(kind, type)]
    structs = {kind.__name__ for kind in kinds if issubclass(kind, record.Strict)}
    assert structs - set(said) == {"Strict", "TextNegatives"}


def test_the_table_of_shards_is_what_lies_in_them(tmp_path):
    synthetic.build(tmp_path)
    members = {(cells[0].strip("`"), cells[1].strip("`")) for cells in rows("tar")}
    optional = {("data/gqa-000.tar", "<key>.jpg"), ("features/vit/gqa-000.tar", "<key>.vit.scale.npy")}
    found = set()
    for path in tmp_path.rglob("toy-000.tar"):
        shard = str(path.relative_to(tmp_path)).replace("toy", "gqa")
        found |= {(shard, f"<key>.{suffix}") for suffix in suffixes(path)}
    assert found == members - optional


def suffixes(path: Path) -> set[str]:
    with tarfile.open(path) as shard:
        return {name.partition(".")[2] for name in shard.getnames()}


def test_the_block_for_real_data_is_complete(tmp_path):
    content = yaml.safe_load((ROOT / "params.yaml").read_text("utf8"))
    (block,) = blocks(README, "yaml")
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content | yaml.safe_load(block)))
    loaded = params.load(path)
    settings, _ = load(path, [])
    assert set(settings.inputs.values()) <= set(loaded.encoders)
    assert not loaded.demo
    assert not loaded.pretrain


def test_the_figures_are_the_measured_ones():
    if not end_to_end.RESULT.is_file():
        pytest.skip(f"{end_to_end.RESULT.name} has not been measured")
    measured = msgspec.json.decode(end_to_end.RESULT.read_bytes(), type=report.Results)
    assert report.markdown(measured) in README
