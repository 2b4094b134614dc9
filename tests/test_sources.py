"""Whatever the shards came in, the same batches come out of them; what nobody vouches for is said."""

import argparse
import dataclasses
import shutil
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic
import torch
import webdataset

from contract import codec, index, manifest, tar
from contract.errors import FuselineError, MismatchError, ParamsError
from contract.manifest import ExportManifest
from data_pipeline.shards import shard_reader
from data_pipeline.shards.shard_writer import Sample, Written, write_shard
from data_pipeline.stages import export
from training.batch import Batch
from training.forecast import disk_bytes
from training.reading.unlisted import read_answers
from training.shards import ShardSet, open_shards
from training.stream import Stream

ANSWERS = ["bottom", "left", "right", "top"]
COLUMNS = ["vit", "esam"]
ABSENT = {"vit": 4, "esam": 8}  # the picture that an encoder could not take
TYPES = {"float16": ["float16"], "int8": ["int8", "float32"]}


def with_an_absent_picture(path: Path, suffixes: list[str], samples: list[Sample]) -> Written:
    """Each encoder could not take one. An esam array is so small that its header is most of it."""
    name = suffixes[0].removesuffix(".npy")
    for sample in samples:
        if name in ABSENT and sample.key == synthetic.key(ABSENT[name]):
            kinds = TYPES["int8" if len(suffixes) > 1 else "float16"]
            shapes = [(0, synthetic.WIDTHS[name]), (0,)]
            empty = zip(shapes, kinds, strict=False)
            sample.members = [codec.encode_array(np.zeros(shape, kind)) for shape, kind in empty]
            sample.absent = True
    return write_shard(path, suffixes, samples)


@pytest.fixture(scope="module", params=["float16", "int8"])
def family(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """data/, features/ and negatives/, and the export of them all in out/. Read only."""
    folder = tmp_path_factory.mktemp("family")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "write_shard", with_an_absent_picture)
        synthetic.build(folder, train=12, val=3, shards=3, dtype=request.param)
    with chdir(folder):
        export.run(argparse.Namespace(out=Path("out"), shards=["data"], columns=None, workers=1))
    return folder


def batches(shards: ShardSet) -> list[Batch]:
    """An epoch and a bit, with negatives."""
    return list(Stream(shards, ["vqa"], batch=5, seed=3, negatives=2, stop=14))


def same(first: object, second: object) -> bool:
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and torch.equal(first, second)
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same(first[name], second[name]) for name in first)
    if isinstance(first, Batch) and isinstance(second, Batch):
        names = [field.name for field in dataclasses.fields(Batch)]
        return all(same(getattr(first, name), getattr(second, name)) for name in names)
    return first == second


def all_same(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(map(same, first, second))


def without(folder: Path, pattern: str) -> None:
    for path in folder.rglob(pattern):
        path.unlink()


def exported(project: Path) -> Path:
    return project / "out"


def exported_without_index(project: Path) -> Path:
    without(project / "out", "*.idx")
    return project / "out"


def exported_without_manifest(project: Path) -> Path:
    without(project / "out", "manifest.json")
    return project / "out"


def family_without_a_manifest_of_records(project: Path) -> Path:
    without(project / "data", "manifest.json")
    return project / "data"


def family_without_any_manifest(project: Path) -> Path:
    without(project, "manifest.json")
    return project / "data"


def family_of_bare_tars(project: Path) -> Path:
    without(project / "data", "*.idx")
    without(project / "features", "*.idx")
    return family_without_any_manifest(project)


def by_stock_webdataset(project: Path) -> Path:
    """The members of every column, as webdataset writes them: by suffix, with an owner and the time."""
    for path in sorted((project / "out").glob("toy-0*.tar")):
        names = index.load(path).suffixes
        samples = zip(*(shard_reader.members(path, name) for name in names), strict=True)
        with webdataset.TarWriter(str(project / path.name), encoder=False) as writer:
            for members in samples:
                contents = {name: raw for name, (_, raw, _) in zip(names, members, strict=True)}
                writer.write({"__key__": members[0][0], **contents})
    return project


KINDS: list[Callable[[Path], Path]] = [
    exported,
    exported_without_index,
    exported_without_manifest,
    family_without_a_manifest_of_records,
    family_without_any_manifest,
    family_of_bare_tars,
    by_stock_webdataset,
]
TOLD = [kind for kind in KINDS if kind not in (exported, exported_without_index)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_batches_come_out_of_every_kind_of_shards(
    family: Path, tmp_path: Path, kind: Callable[[Path], Path]
) -> None:
    project = Path(shutil.copytree(family, tmp_path / "project"))
    pattern = str(kind(project) / "toy-0*.tar")
    words: dict[str, Any] = {"tokenizer": family / "data/tokenizer.json", "answers": ANSWERS}
    opened = open_shards([pattern], COLUMNS, **(words if kind in TOLD else {}))
    known = open_shards([str(family / "data")], COLUMNS)
    assert opened.left_out == 0 and len(opened.shards) == 3
    named = {batch.dataset for batch in batches(opened)}
    assert named == ({opened.folder.name} if kind in TOLD else {"toy"})
    assert all_same(batches(opened), [dataclasses.replace(b, dataset=min(named)) for b in batches(known)])
    said = [note for note in opened.notes if "no manifest.json" in note]
    assert len(said) == (kind in TOLD)


@pytest.mark.parametrize(
    ("negatives", "folders"), [(0, ["data", "features"]), (1, ["data", "features", "negatives"])]
)
def test_the_forecast_counts_every_tar_that_is_read_once(
    family: Path, negatives: int, folders: list[str]
) -> None:
    known, own = (open_shards([str(family / name)], COLUMNS) for name in ("data", "out"))
    for shards, places in ((known, folders), (own, ["out"])):
        read = [path for place in places for path in (family / place).rglob("toy-0*.tar")]
        stream = Stream(shards, ["vqa"], batch=5, negatives=negatives)
        assert disk_bytes(shards, stream) == sum(path.stat().st_size for path in read)


@pytest.fixture
def bare(family: Path, tmp_path: Path) -> Path:
    project = Path(shutil.copytree(family, tmp_path / "bare"))
    return family_without_any_manifest(project)


def test_without_a_manifest_both_words_are_asked_for(bare: Path, family: Path) -> None:
    for words in ({}, {"tokenizer": family / "data/tokenizer.json"}, {"answers": ANSWERS}):
        with pytest.raises(
            FuselineError, match="no such manifest[\\s\\S]*--tokenizer FILE and --answers FILE"
        ):
            open_shards([str(bare)], COLUMNS, **words)


def test_what_was_assumed_of_a_column_is_said(bare: Path, family: Path) -> None:
    opened = open_shards([str(bare)], COLUMNS, tokenizer=family / "data/tokenizer.json", answers=ANSWERS)
    (vit,) = [note for note in opened.notes if note.startswith("column vit")]
    assert "8 wide and 4 × 4 behind a CLS; taken for the whole picture, squashed" in vit
    (esam,) = [note for note in opened.notes if note.startswith("column esam")]
    assert "6 wide and 4 × 4;" in esam


@pytest.mark.parametrize("name", ["nowhere.json", "."])
def test_a_tokenizer_that_cannot_be_read_is_an_error(bare: Path, name: str) -> None:
    with pytest.raises(ParamsError, match=rf"^{name}: cannot be read: [\s\S]*by --tokenizer"):
        open_shards([str(bare)], COLUMNS, tokenizer=Path(name), answers=ANSWERS)


def alone(folder: Path, array: np.ndarray) -> Path:
    """A self-contained tar of one picture."""
    record = codec.encode(synthetic.picture(0))
    body = tar.extent("p0000.json", record) + tar.extent("p0000.vit.npy", codec.encode_array(array))
    path = folder / "alone.tar"
    path.write_bytes(body + tar.trailer(len(body)))
    return path


@pytest.mark.parametrize(
    ("shape", "dtype", "problem"),
    [
        ((7, 8), "float16", "is no square grid of tokens[\\s\\S]*n² or n² \\+ 1"),
        ((20, 8), "float16", "is no square grid[\\s\\S]*leave out registers"),
        ((17,), "float16", "is no square grid"),
        ((17, 8), "float32", "of a type that no column has"),
        ((0, 8), "float16", "no shard holds an array vit.npy with tokens"),
        ((17, 8), "int8", "has no member .vit.scale.npy"),
    ],
)
def test_a_column_that_cannot_be_guessed_is_refused(
    family: Path, tmp_path: Path, shape: tuple[int, ...], dtype: str, problem: str
) -> None:
    path = alone(tmp_path, np.ones(shape, dtype))
    with pytest.raises(FuselineError, match=problem):
        open_shards([str(path)], ["vit"], tokenizer=family / "data/tokenizer.json", answers=ANSWERS)


def test_an_export_without_the_column_lists_what_it_has(family: Path) -> None:
    with pytest.raises(FuselineError, match="unknown feature column 'vitt'[\\s\\S]*did you mean 'vit'"):
        open_shards([str(family / "out")], ["vitt"])


def test_an_export_takes_no_columns_from_elsewhere(family: Path) -> None:
    with pytest.raises(FuselineError, match="--features: .*/out holds its own columns"):
        open_shards([str(family / "out")], COLUMNS, features=family / "features")


def test_other_columns_can_be_named_for_bare_tars(family: Path, tmp_path: Path) -> None:
    project = Path(shutil.copytree(family, tmp_path / "project"))
    folder = by_stock_webdataset(project)
    words: dict[str, Any] = {"tokenizer": family / "data/tokenizer.json", "answers": ANSWERS}
    opened = open_shards([str(folder / "toy-0*.tar")], COLUMNS, features=family / "features", **words)
    assert opened.shards[0].columns["vit"].path == family / "features/vit/toy-000.tar"
    assert not any(note.startswith("column") for note in opened.notes)  # they have their manifests


def test_a_column_on_another_disk_is_read_by_its_name_here(family: Path, tmp_path: Path) -> None:
    project = Path(shutil.copytree(family, tmp_path / "project"))
    (project / "features/vit").rename(tmp_path / "vit_v2")
    (project / "features/vit").symlink_to(tmp_path / "vit_v2")
    assert len(open_shards([str(project / "data")], COLUMNS).shards) == 3


@pytest.mark.parametrize("link", [False, True])
def test_a_column_in_the_folder_of_another_is_refused(family: Path, tmp_path: Path, link: bool) -> None:
    project = Path(shutil.copytree(family, tmp_path / "project"))
    shutil.rmtree(project / "features/vit")
    if link:
        (project / "features/vit").symlink_to("esam")
    else:
        shutil.copytree(project / "features/esam", project / "features/vit")
    with pytest.raises(MismatchError, match=r"(?s)vit/manifest\.json: encoder: .*: +esam.*: +vit"):
        open_shards([str(project / "data")], COLUMNS)


def test_an_export_that_is_not_its_manifests_is_refused(family: Path, tmp_path: Path) -> None:
    project = Path(shutil.copytree(family, tmp_path / "changed"))
    known = manifest.load(project / "out", ExportManifest)
    known.shards["toy-000"].index = "0" * 64
    manifest.save(project / "out", known)
    with pytest.raises(FuselineError, match="toy-000.tar: is not the shard that its manifest describes"):
        open_shards([str(project / "out")], COLUMNS)


@pytest.mark.parametrize("suffix", ["json", "vit.npy", "neg.json"])
def test_a_flipped_bit_of_any_column_of_an_export_is_noticed(
    family: Path, tmp_path: Path, suffix: str
) -> None:
    path = Path(shutil.copytree(family / "out", tmp_path / "out")) / "toy-001.tar"
    known, content = index.load(path), bytearray(path.read_bytes())
    content[int(known.rows["offset"][2, known.member(suffix, path)]) + tar.BLOCK + 20] ^= 1
    path.write_bytes(content)
    with pytest.raises(FuselineError, match=rf"toy-001.tar: member p0007.{suffix} is damaged"):
        batches(open_shards([str(tmp_path / "out")], ["esam", "vit"]))


def test_what_a_stock_tar_cannot_vouch_for_is_said(family: Path, tmp_path: Path) -> None:
    project = by_stock_webdataset(Path(shutil.copytree(family, tmp_path / "stock")))
    words = {"tokenizer": family / "data/tokenizer.json", "answers": ANSWERS}
    opened = open_shards([str(project / "toy-000.tar")], ["esam"], **words)
    assert f"1 shard of {project}/ without an index: payload bits are not checked" in opened.notes


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.txt", b"red\nyes\n"), ("a.txt", b"\xef\xbb\xbfred\r\nyes"), ("a.json", b'["red", "yes"]')],
)
def test_answers_are_lines_or_a_list(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert read_answers(tmp_path / name) == ["red", "yes"]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.txt", b"red\nred\n", "an answer twice"),
        ("a.txt", b"red\n\nyes\n", "or an empty one"),
        ("a.txt", b"\xff", "holds no answers"),
        ("a.json", b'{"red": 1}', "holds no answers"),
        ("a.json", b"[1]", "holds no answers"),
        ("b.txt", None, "cannot be read"),
    ],
)
def test_what_is_no_list_of_answers_is_refused(
    tmp_path: Path, name: str, content: bytes | None, problem: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(FuselineError, match=problem):
        read_answers(tmp_path / name)
