"""Stage images on small tables: identity, splits, the catalogue."""

import polars as pl
import pytest

from contract.errors import ParamsError
from contract.params import Dataset, Drop
from data_pipeline.stages.images import build_catalogue

SHARDS = {"train": 2, "val": 1, "test1": 1}


def declared(*rows: dict[str, object]) -> pl.DataFrame:
    """Declared pictures; phash and thumb differ unless given."""
    whole = []
    for number, row in enumerate(rows):
        defaults = {
            "dataset": "gqa",
            "picture": str(number),
            "drop": 0,
            "split": "train",
            "source_ids": [f"vg:{number}"],
            "sha256": f"sha{number}",
            "phash": (number * 0x9E3779B97F4A7C15) % 2**64,
            "path": f"{number}.jpg",
        }
        sizes = {"width": None, "height": None, "file_width": 9, "file_height": 9}
        fixed = {"format": "JPEG", "mode": "RGB", "generated": True, "source_file": "f", "position": "/"}
        whole.append({**defaults, **sizes, **fixed, "thumb": bytes([number * 6] * 192), **row})
    return pl.DataFrame(whole, schema_overrides={"phash": pl.UInt64}, infer_schema_length=None)


def dataset(**splits: float) -> Dataset:
    return Dataset(format="gqa", folder=".", raw=[Drop(shards=SHARDS), Drop(shards=SHARDS)], splits=splits)


OFFICIAL = {"gqa": dataset(), "cirr": dataset(), "vg": dataset(train=0.5, val=0.5)}


def splits(catalogue: pl.DataFrame) -> dict[tuple[str, str], str]:
    return {(row["dataset"], row["picture"]): row["split"] for row in catalogue.iter_rows(named=True)}


@pytest.mark.parametrize(
    "evidence", [{"source_ids": ["x:1"]}, {"sha256": "same"}, {"phash": 3, "thumb": bytes(192)}]
)
def test_evaluation_wins_across_datasets(evidence: dict[str, object]) -> None:
    table = declared({**evidence}, {}, {"dataset": "cirr", "split": "test1", **evidence})
    catalogue, findings, _ = build_catalogue(table, OFFICIAL)
    assert splits(catalogue) == {("gqa", "1"): "train", ("cirr", "2"): "test1"}
    assert findings.select("dataset", "id", "reason").rows() == [("gqa", "0", "in_evaluation_split")]


def test_a_missing_file_still_names_its_picture() -> None:
    """The evaluation copy cannot be read; the training copy is a copy all the same."""
    gone = {"sha256": None, "phash": None, "thumb": None}
    table = declared({"source_ids": ["vg:7"]}, {"split": "val", "source_ids": ["vg:7"], **gone})
    catalogue, findings, _ = build_catalogue(table, OFFICIAL)
    assert catalogue.is_empty() and findings["reason"].to_list() == ["in_evaluation_split"]


def test_own_split_follows_the_group() -> None:
    own = [{"dataset": "vg", "split": "", "source_ids": [f"vg:{n}"]} for n in range(40)]
    table = declared({"split": "val"}, {"split": "train"}, *own)
    found = splits(build_catalogue(table, OFFICIAL)[0])
    assert found["vg", "2"] == "val" and found["vg", "3"] == "train"
    assert {found["vg", str(n)] for n in range(4, 42)} == {"train", "val"}


def test_without_shares_there_is_no_split() -> None:
    with pytest.raises(ParamsError, match="datasets.gqa"):
        build_catalogue(declared({"split": ""}), OFFICIAL)


def test_without_pictures_there_is_an_empty_catalogue() -> None:
    nothing = declared({}).clear()
    gone = declared({"sha256": None, "phash": None, "thumb": None})
    for table in (nothing, gone):
        catalogue, findings, _ = build_catalogue(
            table.cast({"thumb": pl.Binary, "phash": pl.UInt64}), OFFICIAL
        )
        assert catalogue.is_empty() and findings.is_empty()


def test_groups_are_named_by_the_first_and_repeats_rejected() -> None:
    table = declared({"picture": "a/b"}, {"picture": "a/b", "drop": 1}, {"source_ids": ["vg:0", "coco:2"]})
    catalogue, findings, account = build_catalogue(table, OFFICIAL)
    assert catalogue["group"].to_list() == ["vg:0", "vg:0"]
    assert findings["reason"].to_list() == ["duplicate_picture"]
    assert set(catalogue["key"]) == {"2", "c14cddc033f64b9dea80ea675cf280a0"}
    assert "images 2 (-1)" in account.summary()
