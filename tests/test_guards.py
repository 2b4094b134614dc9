"""A run goes on only over the shards and settings it was begun with; what differs is listed."""

import argparse
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import synthetic

from contract import index, tar
from contract.errors import FuselineError, MismatchError, ParamsError
from contract.record import Near, Record
from data_pipeline.stages import export
from training import evaluate, fit, run
from training.config import Train
from training.optimizing import checkpoint
from training.starting import guards

SHORT = ["--set", "optim.epochs=1", "log_every=1"]
TRAIN, VAL = "data/toy-<000..003>.tar", "data/toy-val-000.tar"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    synthetic.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def begun(world: Path) -> Path:
    """A run that is done."""
    fit.main(["--run", "runs/a", *SHORT])
    return Path("runs/a")


def resume(run: Path, *overrides: str) -> None:
    fit.main(["--resume", str(run), *(["--set", *overrides] if overrides else [])])


def changed(**kinds: str) -> Callable[[int, str], np.ndarray]:
    """Another drawing of the features of these pictures and columns."""
    whole = synthetic.features
    return lambda number, name: whole(number, name) + (kinds.get(synthetic.key(number)) == name)


def test_rebuilt_columns_and_records_are_named(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "features", changed(p0001="vit", p0002="esam"))
    synthetic.build(Path())
    with pytest.raises(MismatchError, match=r"2 rebuilt: toy-001 \(vit\), toy-002 \(esam\)"):
        resume(begun)


def test_a_changed_record_is_a_rebuilt_shard(begun: Path) -> None:
    def change(number: int, record: Record) -> Record:
        record.texts[0].type = "another" if number == 3 else record.texts[0].type
        return record

    synthetic.build(Path(), change=change)
    with pytest.raises(MismatchError, match=r"1 rebuilt: toy-003 \(records\)"):
        resume(begun)


def test_new_and_missing_shards_are_named(begun: Path) -> None:
    stored = json.loads((begun / "config.json").read_text())
    stored["opened"]["toy-007"] = stored["opened"].pop("toy-002")
    (begun / "config.json").write_text(json.dumps(stored))
    with pytest.raises(MismatchError, match="1 new: toy-002; 1 missing: toy-007"):
        resume(begun)


def test_mined_negatives_are_guarded_where_they_are_used(world: Path) -> None:
    task = ["--set", "tasks={itm: {mined: 1}}", "optim.epochs=1", "development=0"]
    synthetic.build(world, change=with_statements)
    fit.main(["--run", "runs/itm", *task])
    near = synthetic.neighbours
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "neighbours", lambda key, keys: near(keys[keys.index(key) - 5], keys))
        synthetic.build(world, change=with_statements)
    with pytest.raises(MismatchError, match=r"4 rebuilt: toy-000 \(negatives\)"):
        resume(Path("runs/itm"))


def with_statements(_number: int, record: Record) -> Record:
    """The answers to the questions, as statements."""
    for text in record.texts:
        said = text.answer or ""
        text.role, text.text, text.tokens, text.answer = (
            "statement",
            said,
            [synthetic.WORDS.index(said)],
            None,
        )
        text.span_chars, text.span_tokens, text.span_regions = [], [], []
    return record


def test_another_file_of_synonyms_is_refused(world: Path) -> None:
    words = Path("things.yaml")
    words.write_text("objects: {}\ninterchangeable: [[left, top]]")
    named = ["augment.synonyms=0.5", f"augment.vocabulary={words}"]
    fit.main(["--run", "runs/a", *SHORT, *named])
    resume(Path("runs/a"))
    words.write_text("objects: {}\ninterchangeable: [[left, right]]")
    with pytest.raises(MismatchError, match="is not the file of synonyms that runs/a was begun with"):
        resume(Path("runs/a"))


def test_a_run_that_did_not_note_its_synonyms_goes_on(world: Path) -> None:
    words = Path("things.yaml")
    words.write_text("objects: {}\ninterchangeable: [[left, top]]")
    fit.main(["--run", "runs/a", *SHORT, "augment.synonyms=0.5", f"augment.vocabulary={words}"])
    stored = json.loads(Path("runs/a/config.json").read_text())
    assert stored.pop("words")
    Path("runs/a/config.json").write_text(json.dumps(stored))
    resume(Path("runs/a"))


def test_the_same_shards_built_again_are_the_same(begun: Path) -> None:
    opened = run.open_run(begun).config.opened
    synthetic.build(Path())
    resume(begun)
    assert run.open_run(begun).config.opened == opened


@pytest.mark.parametrize(
    "overrides", [["threads=1", "ahead=4"], ["on_error=skip", "max_skipped=7"], ["optim.batch=8"]]
)
def test_what_changes_no_number_may_change(begun: Path, overrides: Sequence[str]) -> None:
    stored = (begun / "config.json").read_bytes()
    resume(begun, *overrides)
    assert (begun / "config.json").read_bytes() == stored


@pytest.mark.parametrize(
    ("override", "difference"),
    [
        ("optim.batch=4", "optim.batch 8 → 4"),
        ("masking={ratio: 0.5}", "masking.ratio 0.0 → 0.5"),
        ("inputs={grid: vit}", "inputs.pixel esam → None"),
        ("shuffle=none", "shuffle global → none"),
    ],
)
def test_what_would_change_a_run_is_refused_with_a_diff(begun: Path, override: str, difference: str) -> None:
    with pytest.raises(ParamsError, match=f"would change what runs/a was begun with[\\s\\S]*{difference}"):
        resume(begun, override, "threads=1")


def test_a_run_of_another_version_is_passed_over(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = Path("runs/20200101-000000-vqa")
    shutil.copytree(begun, old)
    stored = json.loads((old / "config.json").read_text())
    stored["opened"] = list(stored["opened"])
    (old / "config.json").write_text(json.dumps(stored))
    with pytest.raises(MismatchError, match="is not a run of this version"):
        resume(old)
    fit.main(["--resume", "auto", *SHORT])
    said = capsys.readouterr()
    assert f"note     passed over: {old}/config.json: is not a run of this version" in said.err
    (made,) = [path for path in Path("runs").glob("2*-vqa") if path != old]
    assert "done: 4 steps" in said.out and run.open_run(made)


def test_auto_takes_a_run_up_with_other_free_settings(
    begun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit.main(["--run", str(begun), "--resume", "auto", *SHORT, "threads=1"])
    assert "run      runs/a" in capsys.readouterr().out
    with pytest.raises(ParamsError, match="is a run already"):
        fit.main(["--run", str(begun), "--resume", "auto", "--set", "optim.epochs=3"])


def test_a_state_is_small(begun: Path) -> None:
    assert len((checkpoint.find(begun, "last") / "state.json").read_bytes()) < 1000


def longer(number: int, record: Record) -> Record:
    record.texts[0].text += " really?" * (100 * (number == 3))
    return record


def bare(folder: Path) -> None:
    """Records and features without index and manifest."""
    for place in ("data", "features/vit", "features/esam"):
        Path(folder, place, "manifest.json").unlink()
        for path in Path(folder, place).glob("*.idx"):
            path.unlink()


def test_without_an_index_a_rebuilt_tar_is_told_by_its_headers(world: Path) -> None:
    bare(world)
    words = ["--tokenizer", "data/tokenizer.json", "--answers", str(answers())]
    fit.main(["--shards", TRAIN, *words, "--run", "runs/a", *SHORT])
    resume(Path("runs/a"))
    synthetic.build(world, change=longer)
    bare(world)
    with pytest.raises(MismatchError, match=r"1 rebuilt: toy-003 \(records\)"):
        resume(Path("runs/a"))


def assert_told_once_mended(path: Path, sound: bytes, rebuilt: str) -> None:
    """A run over a damaged tar goes on, and no more once its sound bytes are there."""
    words = ["--tokenizer", "data/tokenizer.json", "--answers", str(answers())]
    fit.main(["--shards", TRAIN, *words, "--run", "runs/a", *SHORT, "on_error=skip"])
    resume(Path("runs/a"))
    path.write_bytes(sound)
    with pytest.raises(MismatchError, match=rebuilt):
        resume(Path("runs/a"))


def test_without_an_index_a_record_that_can_be_read_again_is_told(world: Path) -> None:
    """It may have other texts than it was taken to have, and then another picture would come next."""
    bare(world)
    path = Path("data/toy-001.tar")
    sound = path.read_bytes()
    path.write_bytes(sound.replace(b'{"v":1', b'["v":1', 1))
    assert_told_once_mended(path, sound, r"1 rebuilt: toy-001 \(records\)")


def test_without_an_index_an_array_that_can_be_read_again_is_told(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be empty, though it was taken to have tokens: then the picture drops out of the order."""
    whole, absent = synthetic.features, 5
    monkeypatch.setattr(synthetic, "features", lambda n, name: whole(n, name)[: 0 if n == absent else None])
    synthetic.build(world)
    bare(world)
    path = Path("features/vit/toy-001.tar")
    sound, known = path.read_bytes(), index.load(path)
    place = int(known.rows["offset"][known.keys().index(synthetic.key(absent)), 0]) + tar.BLOCK
    path.write_bytes(sound[:place] + b"?" + sound[place + 1 :])
    assert_told_once_mended(path, sound, r"1 rebuilt: toy-001 \(vit\)")


@pytest.mark.parametrize("indexed", [True, False])
def test_negatives_without_a_manifest_are_guarded_by_what_they_say_themselves(
    world: Path, indexed: bool
) -> None:
    def mine() -> None:
        synthetic.build(world, change=with_statements)
        bare(world)
        for path in [
            Path("negatives/manifest.json"),
            *Path("negatives").glob("*.idx" * (not indexed) or "-"),
        ]:
            path.unlink()

    mine()
    words = ["--tokenizer", "data/tokenizer.json", "--answers", str(answers())]
    task = ["--set", "tasks={itm: {mined: 1}}", "optim.epochs=1", "development=0"]
    fit.main(["--shards", TRAIN, *words, "--run", "runs/itm", *task])
    resume(Path("runs/itm"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "neighbours", lambda key, keys: Near([keys[0]], [""], [0.5]))
        mine()
    with pytest.raises(MismatchError, match=r"4 rebuilt: toy-000 \(negatives\)"):
        resume(Path("runs/itm"))


def answers() -> Path:
    path = Path("answers.txt")
    path.write_text("bottom\nleft\nright\ntop\n")
    return path


def test_shards_without_a_manifest_are_trained_on_and_scored(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit.main(["--run", "runs/known", *SHORT])
    shutil.copy("data/tokenizer.json", "words.json")
    Path("data/tokenizer.json").unlink()
    for folder in ("data", "features/vit", "features/esam"):
        Path(folder, "manifest.json").unlink()
    capsys.readouterr()
    words = ["--tokenizer", "words.json", "--answers", str(answers())]
    fit.main(["--shards", TRAIN, *words, "--run", "runs/bare", *SHORT])
    assert "no manifest.json: nothing says" in capsys.readouterr().err
    first, second = (checkpoint.find(Path("runs", name), "last") for name in ("known", "bare"))
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    for name in ("known", "bare"):
        evaluate.main(["--run", f"runs/{name}", "--shards", VAL, "--out", f"{name}.json"])
    known, bare = (json.loads(Path(f"{name}.json").read_text())["vqa"] for name in ("known", "bare"))
    assert known["accuracy"] == bare["accuracy"]


def test_an_export_is_trained_on_resumed_and_scored(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export.run(argparse.Namespace(out=Path("out"), shards=["data"], columns=None, workers=1))
    fit.main(["--run", "runs/known", *SHORT])
    fit.main(["--shards", "out", "--run", "runs/export", *SHORT])
    resume(Path("runs/export"), "threads=1")
    first, second = (checkpoint.find(Path("runs", name), "last") for name in ("known", "export"))
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    evaluate.main(["--run", "runs/export", "--out", "export.json"])
    assert json.loads(Path("export.json").read_text())["vqa"]["majority"] is not None


def test_words_for_shards_that_have_a_manifest_are_refused(world: Path) -> None:
    with pytest.raises(ParamsError, match="--answers: is for shards without a manifest"):
        fit.main(["--answers", str(answers()), *SHORT])
    with pytest.raises(FuselineError, match="cannot be read"):
        fit.main(["--answers", "nowhere.txt", *SHORT])


def test_every_free_setting_is_one() -> None:
    assert set(guards.FREE) <= set(Train.__struct_fields__)
