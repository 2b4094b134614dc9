"""The law of the annotation half: what the stages find is what was planted, no more and no less."""

import json
import shutil
from collections import Counter
from pathlib import Path

import polars as pl
from chain import DATASETS, run_chain

from contract.files import sha256_file
from data_pipeline.tables import CASCADES, TABLES

Found = Counter[tuple[str, str, str, str, str]]


def findings(project: Path, dataset: str) -> pl.DataFrame:
    columns = ["table", "id", "reason", "outcome"]
    own = [
        pl.read_parquet(project / stage / dataset / "findings.parquet")
        for stage in ("read", "scan", "validate", "spans")
    ]
    shared = pl.read_parquet(project / "images/findings.parquet").filter(dataset=dataset)
    return pl.concat([table.select(columns) for table in (*own, shared)])


def test_found_equals_planted(annotated: Path) -> None:
    planted = json.loads((annotated / "raw/demo/defects.json").read_text())["defects"]
    names = ("dataset", "table", "id", "reason", "outcome")
    expected: Found = Counter(
        tuple(defect[name] for name in names) for defect in planted if defect["dataset"] in DATASETS
    )
    found: Found = Counter()
    for dataset in DATASETS:
        own = findings(annotated, dataset).filter(~pl.col("reason").is_in(CASCADES))
        found.update((dataset, *row) for row in own.iter_rows())
    assert found - expected == Counter(), "found and not planted"
    assert expected - found == Counter(), "planted and not found"
    assert len({reason for _, _, _, reason, _ in expected}) > 20


def test_every_row_is_kept_or_rejected(annotated: Path) -> None:
    for dataset in DATASETS:
        for stage, tables in (("validate", TABLES), ("spans", ("texts", "entities"))):
            counts = json.loads((annotated / stage / dataset / "counts.json").read_text())
            for table in tables:
                rows = (
                    pl.scan_parquet(annotated / stage / dataset / f"{table}.parquet")
                    .select(pl.len())
                    .collect()
                    .item()
                )
                assert counts[table]["kept"] == rows
                assert counts[table]["read"] == rows + counts[table]["rejected"]


def test_kept_rows_hang_together(annotated: Path) -> None:
    for dataset in DATASETS:
        images, texts, regions = (
            pl.read_parquet(annotated / "validate" / dataset / f"{table}.parquet") for table in TABLES[:3]
        )
        entities = pl.read_parquet(annotated / "spans" / dataset / "entities.parquet")
        catalogue = pl.read_parquet(annotated / "images/catalogue.parquet").filter(dataset=dataset)
        assert set(images["picture"]) == set(catalogue["picture"])
        assert set(texts["picture"]) | set(regions["picture"]) <= set(images["picture"])
        assert set(texts["target"].explode().drop_nulls()) <= set(images["picture"])
        assert set(texts["members"].explode().drop_nulls()) <= set(images["picture"])
        assert set(entities["text"]) <= set(texts["text"])
        placed = (
            entities.join(texts.select("text", "picture"), on="text").explode("regions").drop_nulls("regions")
        )
        linked = placed.join(
            regions, left_on=["picture", "regions"], right_on=["picture", "region"], how="anti"
        )
        assert linked.is_empty()


def test_same_input_same_bytes(annotated: Path, tmp_path: Path) -> None:
    shutil.copytree(annotated / "raw", tmp_path / "raw")
    settings = (annotated / "params.yaml").read_text().replace("workers: 1", "workers: 2")
    (tmp_path / "params.yaml").write_text(settings)
    run_chain(tmp_path)
    for stage in ("read", "scan", "images", "validate", "spans"):
        for path in sorted((annotated / stage).rglob("*")):
            if path.is_file():
                assert sha256_file(path) == sha256_file(tmp_path / path.relative_to(annotated)), path


def test_evaluation_wins(annotated: Path) -> None:
    """No picture group lies in train and in an evaluation split, in any datasets."""
    catalogue = pl.read_parquet(annotated / "images/catalogue.parquet")
    kinds = catalogue.group_by("group").agg((pl.col("split") == "train").n_unique())
    assert (kinds["split"] == 1).all()
    assert catalogue.select("dataset", "key").is_duplicated().sum() == 0
    assert catalogue.equals(catalogue.sort("dataset", "split", "shard", "key"))


def test_spans_decode_to_their_phrase(annotated: Path) -> None:
    from data_pipeline.texts.tokenizer_file import load

    tokenizer = load("data_pipeline/demo/tokenizer.json")
    for dataset in ("gqa", "visual_genome"):
        texts = pl.read_parquet(annotated / "spans" / dataset / "texts.parquet")
        entities = pl.read_parquet(annotated / "spans" / dataset / "entities.parquet")
        rows = entities.join(texts.select("text", "content", "tokens"), on="text").iter_rows(named=True)
        for row in rows:
            phrase = row["content"][row["start"] : row["end"]]
            tokens = row["tokens"][row["token_start"] : row["token_end"]]
            assert "".join(tokenizer.decode(tokens).split()) == "".join(phrase.lower().split())
        assert tokenizer.token_to_id("[UNK]") not in set(texts["tokens"].explode())
