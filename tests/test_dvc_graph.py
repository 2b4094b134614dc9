"""dvc.yaml against the code: DVC does not follow Python imports, so `deps` must list what a stage runs."""

import ast
import shlex
import subprocess
from functools import cache
from pathlib import Path

import pytest
from dvc.repo import Repo
from dvc.stage import Stage

ROOT = Path(__file__).parents[1]
PACKAGES = ("contract", "data_pipeline", "training")
DISPATCH = "data_pipeline/__main__.py"  # only finds the stage; its help texts should not rerun everything


def stages() -> dict[str, tuple[str, list[str], list[str]]]:
    """Name → (command, deps, outs), with every `foreach` written out."""
    with Repo(str(ROOT), uninitialized=True) as repo:
        return {
            stage.addressing: (
                stage.cmd,
                [dep.def_path for dep in stage.deps if dep.def_path],
                [out.def_path for out in stage.outs],
            )
            for stage in repo.index.stages
        }


STAGES = stages()
each_stage = pytest.mark.parametrize("name", STAGES)


def entry(command: str) -> Path:
    """The module that a stage's command runs."""
    python, dash_m, module, *rest = shlex.split(command)
    assert (python, dash_m) == ("python", "-m"), command
    module = f"data_pipeline.stages.{rest[0]}" if module == "data_pipeline" else module
    return ROOT / f"{module.replace('.', '/')}.py"


@cache
def imports(path: Path) -> frozenset[Path]:
    """Our modules that a module imports anywhere in it; a module named at run time is any of its package."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text("utf8"))):
        if isinstance(node, ast.Import):
            found.update(*(module(alias.name) for alias in node.names))
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update(module(node.module), *(module(f"{node.module}.{a.name}") for a in node.names))
        elif isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
            found.update(package(str(node.values[0].value)))
    return frozenset(found)


def module(name: str) -> list[Path]:
    """The file of a dotted name, if it is a module of ours."""
    path = ROOT / f"{name.replace('.', '/')}.py"
    return [path] if name.split(".")[0] in PACKAGES and path.is_file() else []


def package(prefix: str) -> list[Path]:
    """All modules of `data_pipeline.readers.`, the beginning of an f-string."""
    if not prefix.endswith(".") or prefix.split(".")[0] not in PACKAGES:
        return []
    return [path for path in (ROOT / prefix.replace(".", "/")).glob("*.py") if path.stem != "__init__"]


def closure(start: Path) -> set[str]:
    """All our files that running `start` can import, itself included."""
    found, waiting = set(), {start}
    while waiting:
        path = waiting.pop()
        found.add(path)
        waiting |= imports(path) - found
    return {str(path.relative_to(ROOT)) for path in found} - {DISPATCH}


def covers(dep: str, path: str) -> bool:
    return path == dep or path.startswith(f"{dep}/")


@each_stage
def test_deps_list_all_code_that_a_stage_runs(name):
    command, deps, _ = STAGES[name]
    missing = {path for path in closure(entry(command)) if not any(covers(dep, path) for dep in deps)}
    assert not missing, f"dvc.yaml, {name}: add to deps {sorted(missing)}"


@each_stage
def test_deps_list_no_code_that_a_stage_does_not_run(name):
    command, deps, _ = STAGES[name]
    code, used = [dep for dep in deps if dep.endswith(".py")], closure(entry(command))
    assert not set(code) - used, f"dvc.yaml, {name}: remove from deps {sorted(set(code) - used)}"


def test_outs_are_left_to_dvc_by_git():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    outs = [out for _, _, outs in STAGES.values() for out in outs]
    ignored = subprocess.run(
        ["git", "check-ignore", *outs], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert sorted(ignored.stdout.split()) == sorted(outs)


def test_no_two_stages_share_an_out():
    outs = [out for _, _, outs in STAGES.values() for out in outs]
    assert not [(a, b) for a in outs for b in outs if a != b and covers(a, b)]
    assert len(set(outs)) == len(outs)


def test_dvc_repro_at_the_root_runs_no_stage_of_the_ablation():
    apart = {name for name in STAGES if "ablation/dvc.yaml:" in name}
    outs = [out for name in apart for out in STAGES[name][2]]
    needed = [dep for name in STAGES.keys() - apart for dep in STAGES[name][1]]
    assert apart and not [
        (dep, out) for dep in needed for out in outs if covers(dep, out) or covers(out, dep)
    ]
    assert not apart & {stage.addressing for stage in _of_root()}


def _of_root() -> list[Stage]:
    """What `dvc repro` takes without a target."""
    with Repo(str(ROOT), uninitialized=True) as repo:
        return list(repo.stage.collect("dvc.yaml"))
