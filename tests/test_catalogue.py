"""Stage images on small tables: identity, splits, the catalogue."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import ParamsError
from contract.params import Dataset, Drop
from data_pipeline.pictures.identity import MAX_BITS
from data_pipeline.stages.images import NO_LINKS, build_catalogue, linked_pictures, units_of

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
    catalogue, findings, *_ = build_catalogue(table, OFFICIAL)
    assert splits(catalogue) == {("gqa", "1"): "train", ("cirr", "2"): "test1"}
    assert findings.select("dataset", "id", "reason").rows() == [("gqa", "0", "in_evaluation_split")]


def test_a_missing_file_still_names_its_picture() -> None:
    """The evaluation copy cannot be read; the training copy is a copy all the same."""
    gone = {"sha256": None, "phash": None, "thumb": None}
    table = declared({"source_ids": ["vg:7"]}, {"split": "val", "source_ids": ["vg:7"], **gone})
    catalogue, findings, *_ = build_catalogue(table, OFFICIAL)
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
        catalogue, findings, *_ = build_catalogue(
            table.cast({"thumb": pl.Binary, "phash": pl.UInt64}), OFFICIAL
        )
        assert catalogue.is_empty() and findings.is_empty()


def test_groups_are_named_by_the_first_and_repeats_rejected() -> None:
    table = declared({"picture": "a/b"}, {"picture": "a/b", "drop": 1}, {"source_ids": ["vg:0", "coco:2"]})
    catalogue, findings, account, _ = build_catalogue(table, OFFICIAL)
    assert catalogue["group"].to_list() == ["vg:0", "vg:0"]
    assert findings["reason"].to_list() == ["duplicate_picture"]
    assert set(catalogue["key"]) == {"2", "c14cddc033f64b9dea80ea675cf280a0"}
    assert "images 2 (-1)" in account.summary()


def links(*pairs: tuple[str, str, str]) -> pl.DataFrame:
    return pl.DataFrame(pairs, schema=NO_LINKS.schema, orient="row")


def test_pictures_that_texts_tie_together_share_their_own_split() -> None:
    rows = [{"dataset": "vg", "split": "", "source_ids": [f"vg:{number}"]} for number in range(40)]
    pairs = links(*(("vg", str(number), str(number + 4)) for number in range(36)))
    catalogue, *_ = build_catalogue(declared(*rows), OFFICIAL, pairs)
    found = splits(catalogue)
    units = [{found["vg", str(number)] for number in range(first, 40, 4)} for first in range(4)]
    assert all(len(unit) == 1 for unit in units)
    assert set.union(*units) == {"train", "val"}


def test_an_official_evaluation_split_draws_the_whole_unit_after_it() -> None:
    """What a text names lies in the text's split; the copy that GQA trains on leaves."""
    own = [{"dataset": "vg", "split": "", "source_ids": [f"vg:{number}"]} for number in (0, 1)]
    table = declared({"split": "val"}, {"split": "train"}, *own)
    catalogue, findings, *_ = build_catalogue(table, OFFICIAL, links(("vg", "2", "3")))
    assert splits(catalogue) == {("gqa", "0"): "val", ("vg", "2"): "val", ("vg", "3"): "val"}
    assert findings.select("dataset", "id", "reason").rows() == [("gqa", "1", "in_evaluation_split")]


def test_the_real_cirr_has_68_components(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the official split blanked: 2,297 pictures whose sets tie them into 68 units."""
    monkeypatch.chdir(tmp_path)
    names = json.loads((real_data / "cirr/image_splits/split.rc2.val.json").read_text())
    pairs = json.loads((real_data / "cirr/captions/cap.rc2.val.json").read_text())
    texts = [
        {"picture": pair["reference"], "target": [pair["target_hard"]], "members": pair["img_set"]["members"]}
        for pair in pairs
    ]
    Path("read/cirr").mkdir(parents=True)
    pl.DataFrame(texts).write_parquet("read/cirr/texts.parquet")
    rows = [{"dataset": "cirr", "picture": name, "split": "", "group": f"cirr:{name}"} for name in names]
    grouped = pl.DataFrame(rows).with_row_index("row")
    units = units_of(grouped, linked_pictures("cirr", grouped))
    assert (len(units), units.n_unique()) == (2297, 68)


ROW = st.fixed_dictionaries(
    {
        "dataset": st.sampled_from(["gqa", "cirr", "vg"]),
        "picture": st.sampled_from("abcdefgh"),
        "source_ids": st.lists(st.sampled_from(["vg:1", "vg:2", "coco:1", "coco:2", "cirr:1"]), max_size=2),
        "sha256": st.sampled_from([None, *"uvwxyz"]),
        "phash": st.sampled_from([0, 1, 7, 2**40, 2**40 + 3, 2**63]),
    }
)
SPLIT = {"gqa": ["train", "val"], "cirr": ["train", "test1"], "vg": [""]}


@given(st.lists(ROW, min_size=1, max_size=12), st.data())
def test_no_evidence_ties_a_training_picture_to_an_evaluation_picture(
    rows: list[dict[str, object]], data: st.DataObject
) -> None:
    """By id, file or look: of all pictures that any evaluation split declares, none is trained on."""
    whole = [{**row, "split": data.draw(st.sampled_from(SPLIT[str(row["dataset"])]))} for row in rows]
    table = declared(*({**row, "thumb": bytes(192)} for row in whole))
    unscanned = pl.when(pl.col("sha256").is_not_null())
    table = table.with_columns(unscanned.then("phash").alias("phash"), unscanned.then("thumb").alias("thumb"))
    table = table.cast({"sha256": pl.String, "source_ids": pl.List(pl.String)})
    catalogue, _, _, leakage = build_catalogue(table, OFFICIAL)
    trained = pl.col("path").is_in(catalogue.filter(split="train")["path"].implode())
    evaluated = pl.col("path").is_in(catalogue.filter(pl.col("split") != "train")["path"].implode())
    kept = table.filter(trained)
    evaluation = table.filter(evaluated | pl.col("split").is_in(["val", "test1"]))
    for ours in kept.iter_rows(named=True):
        for theirs in evaluation.iter_rows(named=True):
            assert not tied(ours, theirs)
    assert all(counts == {"pairs": 0, "pictures": 0} for counts in leakage["kept"].values())


def tied(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two declared pictures are the same photograph by any direct evidence."""
    ids = set(one["source_ids"]) & set(other["source_ids"])
    if one["sha256"] is None or other["sha256"] is None:
        return bool(ids)
    near = (one["phash"] ^ other["phash"]).bit_count() <= MAX_BITS
    return bool(ids) or one["sha256"] == other["sha256"] or near


def test_leakage_counts_pairs_and_training_pictures_by_evidence() -> None:
    table = declared(
        {"split": "val", "source_ids": ["vg:1", "coco:5"]},
        {"source_ids": ["vg:1"]},
        {"source_ids": ["coco:5"], "sha256": "sha1"},
        {"split": "test1", "dataset": "cirr", "source_ids": ["cirr:x"], "sha256": "sha1"},
        {},
    )
    *_, leakage = build_catalogue(table, OFFICIAL)
    assert leakage["declared"] == {
        "source_id": {"pairs": 1, "pictures": 1},
        "coco_id": {"pairs": 1, "pictures": 1},
        "sha256": {"pairs": 2, "pictures": 2},
        "perceptual_hash": {"pairs": 0, "pictures": 0},
    }


def test_nothing_of_an_evaluation_split_is_trained_on_in_the_demo_world(annotated: Path) -> None:
    catalogue = pl.read_parquet(annotated / "images/catalogue.parquet")
    train, evaluation = catalogue.filter(split="train"), catalogue.filter(pl.col("split") != "train")
    assert len(train) and len(evaluation)
    for evidence in ("group", "sha256"):
        assert not set(train[evidence]) & set(evaluation[evidence])
    leakage = json.loads((annotated / "images/leakage.json").read_text())
    assert sum(counts["pairs"] for counts in leakage["declared"].values()) > 0
    assert not any(counts["pairs"] for counts in leakage["kept"].values())
