"""Whatever `train` names: the commands of dvc.yaml's stages write what is listed there, and it is shown."""

import json
import re
import shlex
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

import every_task
import pytest
import yaml
from msgspec import structs
from torch import Tensor

from benchmarks import end_to_end
from contract import manifest
from contract.errors import MismatchError, ParamsError
from contract.manifest import DataManifest
from contract.record import Record
from training import blindness, evaluate, fit, preset, results, run, settings
from training.distributed import World
from training.evaluation import scored, vqa_scores
from training.evaluation.scored import Section
from training.model.tasks import TASKS
from training.starting import command_line, session

ROOT = Path(__file__).parents[1]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
MASK = "masking={ratio: 0.25, fill: learned}"
SHORT = ["optim.epochs=1", "optim.batch=10", "checkpoint_every=100", "log_every=100"]
CHOSEN = {
    **{task: [f"tasks={{{task}: {{}}}}", MASK] for task in TASKS},
    "all": [every_task.TASKS, MASK, "best=cir/R@1", "optim.groups={heads.cir: 0.5, trunk.picture.fusion: 2}"],
    "difnet": ["tasks={vqa: {}, itm: {}}", "fusion.kind=difnet"],
    "cross_attention": [
        "tasks={vqa: {}, cir: {}}",
        "fusion.kind=cross_attention",
        "masking.kind=block",
        MASK,
    ],
    "none": ["tasks={cir: {gated: true}}", "fusion.kind=none", "masking={kind: centre, ratio: 0.25}"],
    "text": ["inputs={grid: vit, words: text}", "masking={kind: object, ratio: 0.25, fill: mean}"],
    "masked": [
        "tasks={itm: {swapped: 1, sources: {masked: 1, swapped: 1}}, region: {masked: true}}",
        "masking.fill=noise",
    ],
    "bank": [
        "tasks={itc: {momentum: 0.9, alpha: 0.4, bank: {slots: 12, warmup: 1}}, region: {bank: {slots: 12}}}"
    ],
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("shards")
    every_task.build(made, train=20, val=4, shards=1)
    return made


@pytest.fixture
def project(shards, tmp_path, monkeypatch) -> Path:
    for name in ("data", "features", "negatives"):
        (tmp_path / name).symlink_to(shards / name)
    (tmp_path / "params.yaml").write_text((shards / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def choose(*chosen: str, named: str | None = None) -> list[str]:
    """Write these settings into params.yaml; returns its tasks."""
    path = Path("params.yaml")
    train, seed = settings.load(path, [*SHORT, *chosen], preset.load(named) if named else None)
    path.write_text(yaml.safe_dump({"seed": seed, "train": settings.to_builtins(train)}))
    return list(train.tasks.chosen)


def stage(name: str) -> None:
    """Its own command, and all files that it is to leave."""
    _, _, module, *arguments = shlex.split(STAGES[name]["cmd"])
    assert not import_module(module).main(arguments)
    listed = [STAGES[name].get(kind, []) for kind in ("outs", "metrics", "plots")]
    for out in (out for some in listed for out in some):
        assert Path(out if isinstance(out, str) else next(iter(out))).exists(), out


def check_stages(tasks: list[str], capsys) -> None:
    """All of them run in turn, and what they write is of these tasks."""
    for name in ("train", "blind", "evaluate"):
        stage(name)
    scores = json.loads(Path("reports/evaluate.json").read_text())
    noted = capsys.readouterr().err
    results.main([])
    shown = capsys.readouterr().out
    assert list(scores) == ["run", "split", *tasks]
    assert all(f"\n{task} " in shown for task in tasks if task != "vqa")
    if "vqa" in tasks:
        assert scores["vqa"]["blind"] is not None and "\nall " in shown
        assert list(run.open_run(Path("runs/blind")).settings.tasks.chosen) == ["vqa"]
    else:
        none = f"no blind baseline of {', '.join(tasks)}: each looks at pictures, and a blind model has none"
        assert f"note: {none}" in noted and none in shown
        assert json.loads(Path("reports/vqa_by_type.json").read_text()) == []


@pytest.mark.parametrize("name", CHOSEN)
def test_the_stages_of_any_tasks_run_and_their_scores_are_shown(project, capsys, name):
    check_stages(choose(*CHOSEN[name]), capsys)


@pytest.mark.parametrize("name", ["joint", "pretrain"])
def test_and_of_presets_of_several_tasks(project, capsys, name):
    check_stages(choose(named=name), capsys)


def test_a_forecast_without_pictures_makes_nothing(project, capsys):
    fit.main(["--blind", "--plan", "--set", "tasks={itm: {}}"])
    assert "no blind baseline of itm" in capsys.readouterr().out and not Path("runs").exists()
    fit.main(["--blind", "--plan", "--set", "tasks={vqa: {}, itm: {}}"])
    told = capsys.readouterr()
    assert "left out, for they look at pictures: itm" in told.err and "plan " in told.out


class Second(World, frozen=True):
    """The second process of a run that the first has made."""

    def gather(self, told: bytes) -> list[bytes]:
        return [b"runs/blind", told]

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """The first process's are in the run's folder."""


def test_every_process_of_a_blind_run_leaves_the_same_tasks_out(project):
    made = [
        "--blind",
        "--run",
        "runs/blind",
        "--set",
        "tasks={vqa: {}, itc: {width: 64}}",
        "best=itc/text_of_picture",
    ]
    fit.main([*made, *SHORT, "optim.accumulate=2"])
    second = session.shared_session(command_line.parser().parse_args([*made, *SHORT]), Second(rank=1, size=2))
    assert list(second.run.settings.tasks.chosen) == ["vqa"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b'{"tasks": 3}', b'{"tasks": ["\xff"]}', b'{"\xff": 1}', b"[" * 100_000]
    + [b'{"tasks": [], "step": 1}', b'{"tasks": [' + b"9" * 5000 + b"]}"],
)
def test_what_only_looks_like_a_blind_folder_without_a_run_is_one_error(tmp_path, content):
    (tmp_path / blindness.FILE).write_bytes(content)
    with pytest.raises(MismatchError, match=r"no_baseline\.json: is not of this version: "):
        blindness.read(tmp_path)


def test_stages_that_may_read_negatives_depend_on_them():
    assert all("negatives" in STAGES[name]["deps"] for name in ("train", "evaluate"))


def test_what_there_is_instead_of_a_blind_run_is_left_once_and_overwrites_nothing(project):
    itm = ["--blind", "--run", "runs/blind", "--set", "tasks={itm: {}}"]
    for options in ([], [], ["--resume", "auto"]):
        fit.main([*itm, *options])
    with pytest.raises(ParamsError, match="runs/blind: is no empty folder"):
        fit.main(["--blind", "--run", "runs/blind", "--set", "tasks={cir: {}}"])
    with pytest.raises(ParamsError, match="--blind: does not go with --resume"):
        fit.main(["--blind", "--resume", "runs/blind", "--set", "tasks={itm: {}}"])
    assert [path.name for path in Path("runs/blind").iterdir()] == [blindness.FILE]


def test_questions_are_not_scored_beside_a_blind_run_that_is_none(project):
    fit.main(["--run", "runs/demo", "--set", "optim.epochs=0.3"])
    fit.main(["--run", "runs/blind", "--blind", "--set", "tasks={itm: {}}"])
    with pytest.raises(ParamsError, match="runs/blind: holds no run[\\s\\S]*no blind baseline of itm"):
        evaluate.main(["--run", "runs/demo", "--blind", "runs/blind"])


def test_a_blind_run_takes_the_datasets_that_have_questions(tmp_path, monkeypatch):
    def asked_or_edited(number: int, record: Record) -> Record:
        """In the second shard there are edits alone."""
        made = every_task.with_all(number, record)
        role = "edit" if number % 2 else "question"
        return structs.replace(made, texts=[text for text in made.texts if text.role == role])

    every_task.build(tmp_path, train=24, val=8, shards=2, change=asked_or_edited)
    monkeypatch.chdir(tmp_path)
    known = manifest.load(Path("data"), DataManifest)
    known.shards["toy-001"].dataset = "edits"
    manifest.save(Path("data"), known)
    command = [
        "--blind",
        "--set",
        "tasks={vqa: {}, cir: {}}",
        "datasets={toy: 2, edits: 1}",
        "optim.epochs=1",
    ]
    fit.main(["--run", "runs/20260102-a-vqa-blind", *command])
    fit.main(["--resume", "auto", *command])  # the same run
    assert [path.name for path in Path("runs").iterdir()] == ["20260102-a-vqa-blind"]
    assert run.open_run(Path("runs/20260102-a-vqa-blind")).settings.datasets == {"toy": 2}
    with pytest.raises(ParamsError, match=r"train\.datasets\.edits: has no picture"):
        fit.main(["--blind", "--set", "tasks={vqa: {}, cir: {}}", "datasets={edits: 1}"])


def test_sections_come_back_from_a_result():
    own = Section({"R@1": 1.0, "auc": None}, {"R@1": 0.5}, {"queries": 4, "withheld": 0})
    part = Section({"accuracy": 0.25}, {}, {"pairs": 3}, {"without_features": 2})
    for made in ({"": own}, {"random": part}, {"": own, "random": part}):
        assert scored.sections(json.loads(json.dumps(scored._plain(made)))) == made
    plain = scored.scored("cir", {"a": {"": own}, "b": {"": own}}).results["cir"]
    assert list(scored.sections(plain)) == [""]


def test_a_benchmark_without_questions_has_no_figures_of_them(tmp_path, monkeypatch):
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/evaluate.json").write_text('{"run": "runs/demo", "split": "val", "itm": {}}')
    (tmp_path / "reports/vqa_by_type.json").write_text("[]")
    ran = end_to_end.Ran(2.0, 1, [(0.0, "dvc repro"), (0.5, "Running stage 'train':"), (1.0, "Built")])
    monkeypatch.setattr(end_to_end, "run", lambda *_: ran)
    assert not [row for row in end_to_end.demo(tmp_path) if "VQA" in row.figure]


OTHERS = [
    *("", '{"run"', "{}", "[]", '{"split": {}}', '{"split": "\udcff"}'),
    *(f'{{"split": "val", {one}}}' for one in ('"vqa": 3', '"vqa": {}', '"vqa": "x"', '"itc": "x"')),
    '{"split": "val", "vqa": {"questions": 3}}',
]


@pytest.mark.parametrize("content", OTHERS)
def test_results_that_are_cut_off_or_no_results_are_one_error(reports, content):
    (reports / "evaluate.json").write_bytes(content.encode("utf8", "surrogateescape"))
    with pytest.raises(MismatchError, match=r"evaluate\.json: is damaged[\s\S]*dvc repro"):
        results.main([])


OTHER_TYPES = [
    *("", "[{", "{}", "3", '"x"', "null", "[3]", "[[]]", "[{}]", "[null]", '[{"\udcff": 1}]', "[" * 100_000),
    *(f'[{{"type": {kind}, "questions": {count}}}]' for kind, count in (("3", "3"), ('"color"', '"3"'))),
    *(f'[{{"type": "color", "questions": 3, "{name}": "x"}}]' for name in ("accuracy", "blind", "majority")),
]


@pytest.mark.parametrize("content", OTHER_TYPES)
def test_scores_by_type_that_are_none_are_one_error_of_their_file(reports, content):
    (reports / "vqa_by_type.json").write_bytes(content.encode("utf8", "surrogateescape"))
    with pytest.raises(MismatchError, match=r"vqa_by_type\.json: is damaged[\s\S]*dvc repro"):
        results.main([])


@pytest.fixture
def reports(project) -> Path:
    """Those of three questions, sound and of one type."""
    folder = Path("reports")
    folder.mkdir()
    noted = dict.fromkeys(vqa_scores.NOTED, 0)
    of_vqa = {"questions": 3, "accuracy": 0.5, "blind": None, **noted}
    (folder / "evaluate.json").write_text(json.dumps({"run": "runs/demo", "split": "val", "vqa": of_vqa}))
    row = {"type": "color", "questions": 3, "accuracy": 0.5, "blind": None, "shuffled_pictures": 0.25}
    (folder / "vqa_by_type.json").write_text(json.dumps([row]))
    return folder


def test_sound_results_are_shown(reports, capsys):
    results.main([])
    assert re.search(r"\ncolor +3 +50\.0% +– +25\.0% +–\n", capsys.readouterr().out)
