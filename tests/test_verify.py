"""verify: sound shards pass; each kind of damage is found, in the file that has it; none hides another."""

import argparse
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
import pytest
import synthetic

from contract import codec, index, manifest, tar
from contract.errors import ShardError, unreadable
from contract.files import sha256_file
from contract.index import index_path
from contract.manifest import DataManifest, FeatureManifest, NegativesManifest
from contract.record import Near, Negatives
from data_pipeline.shards import shard_reader
from data_pipeline.shards.shard_writer import Sample, write_shard
from data_pipeline.stages import export, verify

Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    synthetic.build(folder, train=12, val=4, shards=2)
    change_manifest(folder / "data", DataManifest, answers=["right", "top", "bottom", "left"])
    return folder


def change_manifest(folder: Path, kind: type, **fields: object) -> None:
    """Another word of the manifest, and nothing else."""
    manifest.save(folder, msgspec.structs.replace(manifest.load(folder, kind), **fields))


def change_facts(folder: str, kind: type, **fields: object) -> None:
    """Another word of the manifest about toy-000."""
    known = manifest.load(Path(folder), kind)
    facts = msgspec.structs.replace(known.shards["toy-000"], **fields)
    change_manifest(Path(folder), kind, shards=known.shards | {"toy-000": facts})


@pytest.fixture
def project(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(sound, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(
    capsys: pytest.CaptureFixture[str], deep: bool = False, workers: int = 1, data: str = "data"
) -> tuple[int, str]:
    status = verify.run(argparse.Namespace(data=Path(data), deep=deep, workers=workers))
    return status, capsys.readouterr().out


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("workers", [1, 2])
def test_sound_shards_pass(
    project: Path, capsys: pytest.CaptureFixture[str], deep: bool, workers: int
) -> None:
    status, said = run(capsys, deep, workers)
    assert (status, said.count("\n")) == (0, 1)
    assert said.startswith("data: 12 tars in 4 folders") and "sound" in said


def places(path: Path) -> tuple[index.Index, bytearray]:
    return index.load(path), bytearray(path.read_bytes())


def cut_at_a_sample(path: Path) -> None:
    known, content = places(path)
    path.write_bytes(content[: int(known.rows["offset"][1, 0])])


def cut_inside_a_payload(path: Path) -> None:
    known, content = places(path)
    path.write_bytes(content[: int(known.rows["offset"][1, 0]) + tar.BLOCK + 3])


def cut_behind_a_header(path: Path) -> None:
    known, content = places(path)
    path.write_bytes(content[: int(known.rows["offset"][1, 0]) + tar.BLOCK])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path, at: int) -> None:
    known, content = places(path)
    content[int(known.rows["offset"][1, 0]) + at] ^= 4
    path.write_bytes(content)


def bit_in_a_header(path: Path) -> None:
    flip(path, 5)


def bit_in_a_payload(path: Path) -> None:
    flip(path, tar.BLOCK + 20)


def zeros_over_headers(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[: 1 << 20] = bytes(min(1 << 20, len(content)))
    path.write_bytes(content)


def zeroed_block(path: Path) -> None:
    known, content = places(path)
    start = int(known.rows["offset"][1, 0]) + tar.BLOCK
    content[start : start + 64] = bytes(64)
    path.write_bytes(content)


def behind_the_end(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] = 1
    path.write_bytes(content)


def missing(path: Path) -> None:
    path.unlink()
    index_path(path).unlink()


def without_index(path: Path) -> None:
    index_path(path).unlink()


def another_index(path: Path) -> None:
    known = index.load(path)
    rows = known.rows.copy()
    rows["texts"][0] += 1
    index.Index(known.suffixes, rows, known.tar_bytes).save(index_path(path))


DAMAGES = [
    (cut_at_a_sample, "cut, or replaced"),
    (cut_inside_a_payload, "cut, or replaced"),
    (cut_behind_a_header, "cut, or replaced"),
    (empty, "cut, or replaced"),
    (bit_in_a_header, "damaged: p0003."),
    (bit_in_a_payload, "damaged: p0003."),
    (zeros_over_headers, "damaged: p0001."),
    (zeroed_block, "damaged: p0003."),
    (behind_the_end, "its sha256 differs"),
    (missing, "is missing"),
    (without_index, "is missing"),
    (another_index, "is not the index that the manifest names"),
]


@pytest.mark.parametrize("folder", ["data", "features/esam", "negatives"])
@pytest.mark.parametrize(("damage", "problem"), DAMAGES, ids=[damage.__name__ for damage, _ in DAMAGES])
def test_damage_is_found_and_named(
    project: Path, capsys: pytest.CaptureFixture[str], folder: str, damage: Damage, problem: str
) -> None:
    damage(Path(folder, "toy-001.tar"))
    status, said = run(capsys)
    named = [line for line in said.splitlines() if line.startswith(f"{folder}/toy-001.tar")]
    assert status == 1 and any(problem in line for line in named)
    assert f"dvc pull {folder}/toy-001.tar" in said
    assert "toy-000" not in said


def test_every_fault_is_told(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bit_in_a_payload(Path("data/toy-000.tar"))
    empty(Path("features/vit/toy-001.tar"))
    Path("negatives/manifest.json").write_text("{")
    status, said = run(capsys)
    assert status == 1
    for place in ("data/toy-000.tar", "features/vit/toy-001.tar", "negatives/manifest.json"):
        assert f"{place}: " in said


def test_an_extra_shard_is_none_of_the_folder(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy("data/toy-000.tar", "data/toy-009.tar")
    assert "data/toy-009.tar: is not in the manifest" in run(capsys)[1]


def test_swapped_shards_and_columns_are_found(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for end in (".tar", ".tar.idx"):
        Path(f"features/vit/toy-000{end}").rename("aside")
        Path(f"features/esam/toy-000{end}").rename(f"features/vit/toy-000{end}")
        Path("aside").rename(f"features/esam/toy-000{end}")
    said = run(capsys)[1]
    assert "features/vit/toy-000.tar: holds members .esam.npy; this column has .vit.npy" in said
    assert "features/esam/toy-000.tar: is not the file that the manifest names" in said


def rewrite(folder: str, shard: str, kind: type, samples: list[Sample], suffix: str) -> None:
    """Another tar whose manifest and index agree with it: only its contents can be wrong."""
    path = Path(folder, f"{shard}.tar")
    written = write_shard(path, [suffix], samples)
    known = manifest.load(Path(folder), kind)
    facts = msgspec.structs.replace(
        known.shards[shard], sha256=written.sha256, bytes=written.bytes, samples=written.samples
    )
    known.shards[shard] = msgspec.structs.replace(facts, index=sha256_file(index_path(path)), texts={})
    manifest.save(Path(folder), known)


def members(folder: str, shard: str, suffix: str) -> dict[str, bytes]:
    return {key: raw for key, raw, _ in shard_reader.members(Path(folder, f"{shard}.tar"), suffix)}


def test_columns_must_have_the_keys_of_the_records(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = members("negatives", "toy-000", "neg.json")
    kept = [Sample(key, [raw]) for key, raw in list(held.items())[1:]]
    rewrite("negatives", "toy-000", NegativesManifest, kept, "neg.json")
    said = run(capsys)[1]
    assert (
        "negatives/toy-000.tar: its keys are not those of data/toy-000.tar: 1 key not in both, such as p0000"
        in said
    )


RECORDS = [
    ({"tokens": [10**6]}, "holds a token that the tokenizer does not know"),
    ({"span_chars": [(5, 99)]}, "character span out of range"),
    ({"target": ["nobody"]}, "names nobody, which this dataset and split do not hold"),
    ({"answer": None}, "usable texts; the index says"),
]


@pytest.mark.parametrize(("change", "problem"), RECORDS)
def test_an_unsound_record_is_found_by_looking_deep(
    project: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object], problem: str
) -> None:
    held = {key: codec.decode_record(raw, key) for key, raw in members("data", "toy-000", "json").items()}
    counts = {key: index.count_texts(record) for key, record in held.items()}
    text = held["p0002"].texts[0]
    held["p0002"].texts[0] = msgspec.structs.replace(text, **change)
    samples = [Sample(key, [codec.encode(record)], counts[key]) for key, record in held.items()]
    rewrite("data", "toy-000", DataManifest, samples, "json")
    assert run(capsys)[0] == 0
    status, said = run(capsys, deep=True)
    assert status == 1 and "data/toy-000.tar: record p0002: " in said and problem in said


def test_texts_are_counted_against_the_manifest(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    totals = index.load(Path("data/toy-000.tar")).rows["texts"].sum(0).tolist()
    counted = dict(zip(index.COUNTED, totals, strict=True))
    change_facts("data", DataManifest, texts=counted)
    assert run(capsys)[0] == 0
    change_facts("data", DataManifest, texts=counted | {"vqa": counted["vqa"] + 1})
    status, said = run(capsys)
    assert status == 1 and "data/toy-000.tar: its index counts" in said


def test_without_an_index_only_that_is_said(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    without_index(Path("data/toy-000.tar"))
    said = run(capsys, deep=True)[1]
    assert "data/toy-000.tar.idx: is missing" in said and "1 fault in 1 place\n" in said


def test_a_tar_that_cannot_be_opened_is_said_once(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = tar.open_shard

    def closed(path: Path) -> BinaryIO:
        if path == Path("data/toy-000.tar"):
            raise unreadable(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
        return opened(path)

    monkeypatch.setattr(tar, "open_shard", closed)
    said = run(capsys)[1]
    assert said.count("data/toy-000.tar: ") == 1 and "Permission denied" in said
    assert "1 fault in 1 place\n" in said


def test_a_tar_in_another_order_is_said(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = list(members("negatives", "toy-000", "neg.json").items())
    body = b"".join(tar.extent(f"{key}.neg.json", raw) for key, raw in reversed(held))
    Path("negatives/toy-000.tar").write_bytes(body + tar.trailer(len(body)))
    without_index(Path("negatives/toy-000.tar"))
    for deep in (False, True):
        status, said = run(capsys, deep)
        assert (
            status == 1
            and "toy-000.tar: its keys are not those of data/toy-000.tar: in another order" in said
        )


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"split": "val"}, "6 pictures of toy val; data says 6 pictures of toy train"),
        ({"dataset": "gqa"}, "6 pictures of gqa train; data says 6 pictures of toy train"),
        ({"samples": 7}, "7 pictures of toy train; data says 6 pictures of toy train"),
    ],
)
def test_columns_must_say_of_a_shard_what_the_records_say(
    project: Path, capsys: pytest.CaptureFixture[str], fields: dict[str, object], problem: str
) -> None:
    change_facts("features/vit", FeatureManifest, **fields)
    status, said = run(capsys)
    assert status == 1 and f"features/vit/manifest.json: shard toy-000 is {problem}" in said


def test_negatives_of_other_weights_are_found(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_manifest(Path("negatives"), NegativesManifest, weights="0" * 64)
    status, said = run(capsys)
    assert status == 1 and "negatives/manifest.json: was mined with other weights" in said


@pytest.mark.parametrize(
    "answers", [["left", "bottom", "top", "right"], ["right", "top", "bottom"], ["right", "right"]]
)
def test_the_answers_are_counted_again(
    project: Path, capsys: pytest.CaptureFixture[str], answers: list[str]
) -> None:
    change_manifest(Path("data"), DataManifest, answers=answers)
    assert run(capsys)[0] == 0
    status, said = run(capsys, deep=True)
    assert status == 1 and "data/manifest.json: its answers are not those of the train shards" in said
    bit_in_a_payload(Path("data/toy-000.tar"))  # then they cannot be counted
    assert "its answers" not in run(capsys, deep=True)[1]


@pytest.mark.parametrize("deep", [False, True])
def test_without_records_the_columns_are_checked_alone(
    project: Path, capsys: pytest.CaptureFixture[str], deep: bool
) -> None:
    Path("data/manifest.json").unlink()
    said = run(capsys, deep)[1]
    assert "data/manifest.json: no such manifest" in said and "data: 9 tars in 3 folders" in said
    assert "1 fault in 1 place\n" in said
    bit_in_a_payload(Path("features/vit/toy-001.tar"))
    assert "features/vit/toy-001.tar: damaged: p0003.vit.npy" in run(capsys, deep)[1]


def test_a_shard_that_the_records_lack_is_checked_to_the_byte(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = manifest.load(Path("data"), DataManifest)
    del known.shards["toy-val-000"]
    manifest.save(Path("data"), known)
    missing(Path("data/toy-val-000.tar"))
    said = run(capsys, deep=True)[1]
    assert "negatives/toy-val-000.tar: is a shard that data lacks" in said and "3 faults" in said
    bit_in_a_payload(Path("negatives/toy-val-000.tar"))
    assert "negatives/toy-val-000.tar: damaged" in run(capsys, deep=True)[1]


def test_a_folder_without_any_manifest_is_not_said_to_be_checked(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("alone/data").mkdir(parents=True)
    status, said = run(capsys, data="alone/data")
    assert status == 1 and "alone/data: nothing checked: 1 fault in 1 place" in said


def test_only_what_was_read_is_counted(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing(Path("negatives/toy-001.tar"))
    assert "data: 11 tars in 4 folders" in run(capsys)[1]


@pytest.mark.parametrize("deep", [False, True])
def test_an_export_is_checked_like_what_it_is_made_of(
    project: Path, capsys: pytest.CaptureFixture[str], deep: bool
) -> None:
    held = members("features/vit", "toy-001", "vit.npy")
    held["p0003"] = codec.encode_array(np.zeros((0, 8), np.float16))
    samples = [Sample(key, [raw], absent=key == "p0003") for key, raw in held.items()]
    rewrite("features/vit", "toy-001", FeatureManifest, samples, "vit.npy")
    export.run(argparse.Namespace(out=Path("out"), shards=["data"], columns=None, workers=1))
    capsys.readouterr()
    status, said = run(capsys, deep, data="out")
    assert (status, said.count("\n")) == (0, 1) and "out: 3 tars in 1 folder," in said
    bit_in_a_payload(Path("out/toy-001.tar"))
    assert "out/toy-001.tar: damaged: p0003.json" in run(capsys, deep, data="out")[1]


def test_an_unsound_member_of_an_export_is_found(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = members("features/vit", "toy-000", "vit.npy")
    held["p0002"] = codec.encode_array(np.full((17, 8), np.nan, np.float16))
    samples = [Sample(key, [raw]) for key, raw in held.items()]
    rewrite("features/vit", "toy-000", FeatureManifest, samples, "vit.npy")
    export.run(argparse.Namespace(out=Path("out"), shards=["data"], columns=None, workers=1))
    said = run(capsys, deep=True, data="out")[1]
    assert "out/toy-000.tar: p0002.vit.npy holds values that are not finite" in said


@pytest.mark.parametrize("typed", ["data", "./data/", "{}/data", "data/../data"])
def test_files_are_named_like_the_folder_was_typed(
    project: Path, capsys: pytest.CaptureFixture[str], typed: str
) -> None:
    empty(Path("data/toy-000.tar"))
    empty(Path("negatives/toy-000.tar"))
    folder = Path(typed.format(project))
    said = run(capsys, data=str(folder))[1]
    assert f"{folder}/toy-000.tar: " in said and f"{folder.parent / 'negatives'}/toy-000.tar: " in said


def test_the_folder_may_be_the_one_we_are_in(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("data")
    assert ".: 12 tars in 4 folders" in run(capsys, data=".")[1]


def test_leakage_is_found(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = {key: codec.decode_record(raw, key) for key, raw in members("data", "toy-000", "json").items()}
    held["p0002"] = msgspec.structs.replace(held["p0002"], group="toy:13")
    held["p0004"] = msgspec.structs.replace(held["p0004"], sha256=f"{14:064x}")
    held["p0006"] = msgspec.structs.replace(held["p0006"], group="toy:15", sha256=f"{15:064x}")
    samples = [Sample(k, [codec.encode(record)], index.count_texts(record)) for k, record in held.items()]
    rewrite("data", "toy-000", DataManifest, samples, "json")
    said = run(capsys, deep=True)[1]
    assert "data/toy-000.tar/p0002: is in a train shard and, by group, in an evaluation split: " in said
    assert "data/toy-000.tar/p0004: is in a train shard and, by sha256, in an evaluation split: " in said
    twice = "data/toy-000.tar/p0006: is in a train shard and, by group and sha256, in an evaluation split: "
    assert f"{twice}data/toy-val-000.tar/p0015\n" in said and "3 faults" in said


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.full((17, 8), np.nan, np.float16), "not finite"),
        (np.zeros((3, 8), np.float16), "is float16 (3, 8)"),
        (np.zeros((17, 8), np.float32), "is float32 (17, 8)"),
    ],
)
def test_a_wrong_array_is_found(
    project: Path, capsys: pytest.CaptureFixture[str], array: np.ndarray, problem: str
) -> None:
    held = members("features/vit", "toy-000", "vit.npy") | {"p0002": codec.encode_array(array)}
    samples = [Sample(key, [raw]) for key, raw in held.items()]
    rewrite("features/vit", "toy-000", FeatureManifest, samples, "vit.npy")
    status, said = run(capsys, deep=True)
    assert status == 1 and "features/vit/toy-000.tar: p0002.vit.npy" in said and problem in said


@pytest.mark.parametrize(
    ("near", "problem"),
    [
        (Near(["p0012"], [""], [0.5]), "names p0012"),  # of another split
        (Near(["p0004"], [], [0.5]), "differ in length"),
        (Near(["p0004"], [""], [0.5], content=["a cube"]), "differ in length"),
        (Near(["p0004"], [""], [0.5], ["a cube"] * 2, [[1]] * 2), "differ in length"),
        (Near(["p0002"], [""], [0.5]), "its own neighbour"),
    ],
)
def test_wrong_negatives_are_found(
    project: Path, capsys: pytest.CaptureFixture[str], near: Near, problem: str
) -> None:
    held = members("negatives", "toy-000", "neg.json") | {"p0002": codec.encode(Negatives(near))}
    samples = [Sample(key, [raw]) for key, raw in held.items()]
    rewrite("negatives", "toy-000", NegativesManifest, samples, "neg.json")
    said = run(capsys, deep=True)[1]
    assert "negatives/toy-000.tar: negatives of p0002: " in said and problem in said


def test_without_a_folder_there_is_an_error(project: Path) -> None:
    with pytest.raises(ShardError, match="no such folder"):
        verify.run(argparse.Namespace(data=Path("nowhere"), deep=False, workers=1))
