"""Stage shards: records are what the tables say, in one order, checked, and the same bytes each time."""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from contextlib import chdir
from pathlib import Path

import by_hand
import numpy as np
import polars as pl
import pytest
import yaml
from chain import run_chain
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from contract import codec, index, manifest
from contract.boxes import is_valid
from contract.errors import MismatchError, ShardError
from contract.files import sha256_file
from contract.manifest import DataManifest
from contract.record import Record
from data_pipeline.shards import records, shard_reader
from data_pipeline.stages import shards

ARGS = argparse.Namespace(params=Path("params.yaml"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    by_hand.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(shard: str) -> dict[str, Record]:
    path = Path(f"data/{shard}.tar")
    return {key: codec.decode_record(raw, key) for key, raw, _ in shard_reader.members(path, "json")}


def test_a_record_holds_what_the_tables_say(project: Path) -> None:
    shards.run(ARGS)
    record = load("gqa-000")["1"]
    assert (record.id, record.group, record.width, record.height) == (
        "1",
        "vg:1",
        by_hand.WIDTH,
        by_hand.HEIGHT,
    )
    assert record.regions.id == ["9", "10"]  # by number, not by letter
    assert [text.id for text in record.texts] == ["01", "02", "02.full"]  # questions, then statements, by id
    question, statement = record.texts[1:]
    assert (question.answer, question.type) == ("red", "query/attr")
    assert (question.span_chars, question.span_tokens, question.span_regions) == ([(14, 22)], [(3, 5)], [[0]])
    assert question.text[14:22] == "the cube"
    assert statement.span_regions == [[0, 1]] and statement.answer is None


def test_what_the_records_hold_is_counted(project: Path) -> None:
    shards.run(ARGS)
    counted = json.loads(Path("data/counts.json").read_text())
    known = manifest.load(Path("data"), DataManifest).shards
    for dataset, held in counted.items():
        names = [name for name, facts in known.items() if facts.dataset == dataset]
        found = [record for name in names for record in load(name).values()]
        assert held == {
            "images": len(found),
            "texts": sum(len(record.texts) for record in found),
            "regions": sum(len(record.regions.id) for record in found),
            "entities": sum(len(text.span_chars) for record in found for text in record.texts),
        }
    assert counted.keys() == {"gqa", "cirr"} and all(counted["gqa"].values())


def test_pictures_without_texts_stay_and_crowds_are_marked(project: Path) -> None:
    shards.run(ARGS)
    found = load("gqa-000")
    assert list(found) == ["1", "10", "2"]
    assert found["10"].texts == [] and found["2"].regions.crowd == [0]


def test_texts_name_pictures_by_key(project: Path) -> None:
    shards.run(ARGS)
    (edit,) = load("cirr-000")["a-img0"].texts
    assert edit.target == [by_hand.ODD_KEY] and edit.members == [by_hand.ODD_KEY]
    assert load("cirr-000")[by_hand.ODD_KEY].id == by_hand.ODD


def test_every_declared_shard_exists_even_without_pictures(project: Path) -> None:
    shards.run(ARGS)
    facts = manifest.load(Path("data"), DataManifest).shards
    assert list(facts) == ["cirr-000", "gqa-000", "gqa-001", "gqa-val-000"]
    assert facts["gqa-001"].samples == 0 and len(index.load(Path("data/gqa-001.tar"))) == 0
    assert (facts["gqa-val-000"].dataset, facts["gqa-val-000"].split) == ("gqa", "val")
    for name, shard in facts.items():
        assert shard.sha256 == sha256_file(Path(f"data/{name}.tar"))


def test_text_counts_in_index_and_manifest_agree(project: Path) -> None:
    shards.run(ARGS)
    rows = index.load(Path("data/gqa-000.tar")).rows
    assert rows["texts"].tolist() == [[2, 1, 2, 0], [0, 0, 0, 0], [1, 0, 0, 0]]
    counted = manifest.load(Path("data"), DataManifest).shards["gqa-000"].texts
    assert counted == dict(zip(index.COUNTED, rows["texts"].sum(0).tolist(), strict=True))


def test_the_vocabulary_is_from_train_splits_most_frequent_first(project: Path) -> None:
    shards.run(ARGS)
    assert manifest.load(Path("data"), DataManifest).answers == ["red", "yes"]


def test_the_manifest_names_the_tokenizer_beside_it(project: Path) -> None:
    shards.run(ARGS)
    facts = manifest.load(Path("data"), DataManifest)
    assert facts.tokenizer.sha256 == sha256_file(Path("data/tokenizer.json"))
    assert sorted(facts.params) == ["boxes", "datasets", "seed", "tokenizer"]


def test_the_tokenizer_is_the_one_that_made_the_tokens(project: Path) -> None:
    Path("spans/gqa/tokenizer.json").write_text('{"a": 1}')
    with pytest.raises(MismatchError, match="spans/cirr/tokenizer.json: is not spans/gqa/tokenizer.json"):
        shards.run(ARGS)
    Path("spans/cirr/tokenizer.json").write_text('{"a": 1}')
    shards.run(ARGS)
    assert Path("data/tokenizer.json").read_text() == '{"a": 1}'


@pytest.mark.parametrize("table", ["spans/gqa/texts", "validate/gqa/regions", "spans/gqa/entities"])
def test_no_row_gets_lost_on_the_way(project: Path, table: str) -> None:
    column = "text" if table.endswith("entities") else "picture"
    rows = pl.read_parquet(f"{table}.parquet")
    stray = rows[:1].with_columns(pl.lit("elsewhere").alias(column))
    pl.concat([rows, stray]).write_parquet(f"{table}.parquet")
    with pytest.raises(ShardError, match="1 rows have no place"):
        shards.run(ARGS)


def test_two_runs_write_the_same_bytes(project: Path) -> None:
    shards.run(ARGS)
    first = {path.name: path.read_bytes() for path in Path("data").iterdir()}
    for name in ("spans/gqa/texts", "validate/gqa/regions"):  # another order of rows is the same data
        path = Path(f"{name}.parquet")
        pl.read_parquet(path).reverse().write_parquet(path)
    shards.run(ARGS)
    assert first == {path.name: path.read_bytes() for path in Path("data").iterdir()}


def test_stock_tarfile_reads_a_thumbnail_of_the_asked_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    by_hand.build(tmp_path, thumbnails=24)
    monkeypatch.chdir(tmp_path)
    shards.run(ARGS)
    with tarfile.open("data/gqa-000.tar") as file:
        assert file.getnames()[:2] == ["1.json", "1.jpg"]
        member = file.extractfile("1.jpg")
        assert member is not None
        assert Image.open(io.BytesIO(member.read())).size == (24, 16)


def test_an_unsound_record_is_refused_with_its_picture(project: Path) -> None:
    path = Path("spans/gqa/entities.parquet")
    pl.read_parquet(path).with_columns(token_end=pl.lit(99, pl.Int32)).write_parquet(path)
    with pytest.raises(ShardError, match="picture 1: text 02: token span out of range"):
        shards.run(ARGS)
    assert not Path("data").exists()


def test_a_generated_world_arrives_whole(
    annotated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("params.yaml", "images", "read", "spans", "validate"):
        (tmp_path / name).symlink_to(annotated / name)
    monkeypatch.chdir(tmp_path)
    shards.run(ARGS)
    held = [record for path in sorted(Path("data").glob("*.tar")) for record in load(path.stem).values()]
    assert len(held) == len(pl.read_parquet("images/catalogue.parquet"))
    for table, count in (
        ("texts", sum(len(record.texts) for record in held)),
        ("entities", sum(len(text.span_chars) for record in held for text in record.texts)),
    ):
        assert count == sum(len(pl.read_parquet(path)) for path in Path("spans").glob(f"*/{table}.parquet"))
    regions = [pl.read_parquet(path) for path in Path("validate").glob("*/regions.parquet")]
    assert sum(len(record.regions.id) for record in held) == sum(map(len, regions))
    assert {text.role for record in held for text in record.texts} == {
        "question",
        "statement",
        "caption",
        "phrase",
        "edit",
    }


corners = st.floats(0, 1).map(lambda edge: round(edge, 9))
boxes = arrays.arrays(np.float64, (4,), elements=corners).map(
    lambda box: np.array([*np.sort(box[:2]), *np.sort(box[2:])])[[0, 2, 1, 3]]
)


@given(st.lists(boxes, min_size=1))
def test_rounding_keeps_boxes_valid_and_close(drawn: list[np.ndarray]) -> None:
    sound = np.array([box for box in drawn if is_valid(box)[0]]).reshape(-1, 4)
    rounded = records.rounded(sound)
    assert is_valid(rounded).all()
    assert np.abs(rounded - sound).max(initial=0) <= 1.5e-6
    assert (np.round(rounded, 6) == rounded).all()


def built(project: Path) -> dict[str, bytes]:
    """Run the stage in `project` → its files."""
    with chdir(project):
        shards.run(ARGS)
    return {path.name: path.read_bytes() for path in sorted((project / "data").iterdir())}


def inputs_of(annotated: Path, project: Path) -> Path:
    """A folder with the clean tables of the generated world."""
    project.mkdir()
    for name in ("images", "read", "spans", "validate"):
        (project / name).symlink_to(annotated / name)
    (project / "params.yaml").write_text((annotated / "params.yaml").read_text())
    return project


def with_workers(project: Path, workers: int) -> None:
    path = project / "params.yaml"
    settings = yaml.safe_load(path.read_text()) | {"workers": workers}
    path.write_text(yaml.safe_dump(settings, sort_keys=False))


def test_the_number_of_workers_changes_no_byte(annotated: Path, tmp_path: Path) -> None:
    one = built(inputs_of(annotated, tmp_path / "one"))
    two = inputs_of(annotated, tmp_path / "two")
    with_workers(two, 2)
    assert built(two) == one


DIES = """\
import os, argparse, pathlib
from data_pipeline.shards import shard_writer
from data_pipeline.stages import shards
whole = shards.write_shard
def dies(path, suffixes, samples):
    written = whole(path, suffixes, samples)
    if len(list(path.parent.glob("*.tar"))) > 5:
        os.kill(os.getpid(), 9)
    return written
shards.write_shard = dies
shards.run(argparse.Namespace(params=pathlib.Path("params.yaml")))
"""


def test_a_killed_run_leaves_no_data_and_the_next_the_same_bytes(annotated: Path, tmp_path: Path) -> None:
    expected = built(inputs_of(annotated, tmp_path / "whole"))
    killed = inputs_of(annotated, tmp_path / "killed")
    environment = os.environ | {"PYTHONPATH": str(Path(shards.__file__).parents[2])}
    process = subprocess.run([sys.executable, "-c", DIES], cwd=killed, env=environment, check=False)
    assert process.returncode == -9
    assert not (killed / "data").exists() and (killed / ".data.part").is_dir()
    assert built(killed) == expected
    assert not (killed / ".data.part").exists()


def test_the_order_of_files_on_disk_changes_no_byte(world: Path, annotated: Path, tmp_path: Path) -> None:
    """The same deliveries, their files created in the reverse order; read with two workers."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "params.yaml").write_text((world / "params.yaml").read_text())
    with_workers(other, 2)
    for path in sorted((world / "raw").rglob("*"), reverse=True):
        if path.is_file():
            target = other / path.relative_to(world)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    run_chain(other)
    assert built(other) == built(inputs_of(annotated, tmp_path / "same"))
