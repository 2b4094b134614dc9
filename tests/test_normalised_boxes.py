"""Boxes in shares of a picture whose size only the file tells: from the reader to the clean tables."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import simplejpeg
import yaml
from chain import run_chain

from contract.boxes import is_valid

SIZE = (80, 50)  # width, height
BOXES = {  # x0, y0, x1, y1 → the reason why the box goes, or what becomes of it
    "whole": ([0, 0, 1, 1, 0.9], None),
    "half": ([0.25, 0.5, 0.75, 1.0], None),
    "over": ([0.5, 0.5, 1.0125, 1.0], "box_overhang"),  # a pixel of 80
    "far": ([0.5, 0.5, 1.1, 1.0], "box_outside"),
    "flat": ([0.5, 0.5, 0.5, 1.0], "box_zero_area"),  # passes the official loader
    "inverted": ([0.6, 0.5, 0.5, 1.0], "box_inverted"),
    "pixels": ([10, 10, 60, 40], "box_outside"),
}


def jpeg(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (5, 8, 3), np.uint8)
    pixels = np.kron(noise, np.ones((SIZE[1] // 5, SIZE[0] // 8, 1), np.uint8))
    path.write_bytes(simplejpeg.encode_jpeg(pixels, colorspace="RGB"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, small_params: dict[str, object]) -> Path:
    """FineHARD with one picture there and one missing, read and validated."""
    folder = tmp_path_factory.mktemp("finehard")
    shards = [{"shards": {"train": 1}}]
    dataset = {"format": "finehard", "folder": "raw", "raw": shards, "splits": {"train": 1.0}}
    tokenizer = {"name": small_params["tokenizer"]["name"], "allow_demo": True}  # type: ignore[index]
    settings = {**small_params, "demo": {}, "pretrain": {}, "budgets": {}, "datasets": {"fine": dataset}}
    (folder / "params.yaml").write_text(yaml.safe_dump(settings | {"tokenizer": tokenizer}))
    jpeg(folder / "raw/coyo/1.jpg", 1)
    boxes = [{"bbox": box, "short_expr": f"a {name}"} for name, (box, _) in BOXES.items()]
    entries = [{"f_path": f"coyo/{n}.jpg", "caption": "A caption.", "bbox_info": boxes} for n in (1, 2)]
    (folder / "raw/jsonfiles").mkdir()
    (folder / "raw/jsonfiles/a.json").write_text(json.dumps(entries))
    run_chain(folder, ["fine"])
    return folder


def test_each_box_meets_the_rules_in_pixels(project: Path) -> None:
    findings = pl.read_parquet(project / "validate/fine/findings.parquet").filter(table="regions")
    here = findings.filter(pl.col("id").str.starts_with("coyo/1/"))
    expected = {f"coyo/1/{n}": reason for n, (_, reason) in enumerate(BOXES.values()) if reason}
    assert dict(here.select("id", "reason").rows()) == expected
    lost = findings.filter(pl.col("id").str.starts_with("coyo/2/"))
    assert set(lost["reason"]) == {"picture_rejected"} and len(lost) == len(BOXES)
    assert all("picture_missing" in detail for detail in lost["detail"])
    far = json.loads(here.filter(id="coyo/1/3")["record"][0])
    assert (far["x"], far["y"]) == (0.5, 0.5) and far["w"] == pytest.approx(0.6)  # as the source has it


def test_what_is_kept_is_in_shares_again(project: Path) -> None:
    kept = pl.read_parquet(project / "validate/fine/regions.parquet")
    edges = kept.select("x0", "y0", "x1", "y1").to_numpy()
    assert is_valid(edges).all()
    assert edges.tolist() == [[0, 0, 1, 1], [0.25, 0.5, 0.75, 1.0], [0.5, 0.5, 1.0, 1.0]]


def test_phrases_follow_their_boxes(project: Path) -> None:
    texts = pl.read_parquet(project / "spans/fine/texts.parquet").filter(role="phrase")
    assert texts["content"].to_list() == ["a whole", "a half", "a over"]
    counts = json.loads((project / "validate/fine/counts.json").read_text())
    assert all(row["read"] == row["kept"] + row["rejected"] for row in counts.values())
