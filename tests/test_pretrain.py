"""Stage pretrain: what cells are asked, which pictures are seen, and that the weights repeat."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from column_project import TINY
from hypothesis import given
from hypothesis import strategies as st

from contract import params
from contract.files import sha256_file
from contract.params import Encoder, Pretrain
from data_pipeline.__main__ import main
from data_pipeline.features import encode
from data_pipeline.pretraining import cell_examples, fitting
from data_pipeline.pretraining.cell_examples import CLASSES, KINDS, UNKNOWN, Examples
from data_pipeline.pretraining.fitting import Task, pretrain

GRID = 4
ESAM = Encoder("esam", "efficient_sam_vitt", "weights/demo/esam.safetensors", 64, 4, options=TINY)


def one_region(
    box: tuple[float, ...], labels: tuple[int, ...] = (3, 1, 2, 0)
) -> tuple[np.ndarray, np.ndarray]:
    return np.array([[box]], np.float64), np.array([[labels]])


def test_a_cell_is_asked_for_the_region_that_covers_it_most() -> None:
    boxes = np.array([[[0, 0, 0.25, 0.25], [0.2, 0, 0.5, 0.25], [0.75, 0.75, 0.8, 0.8]]])
    labels = np.array([[[0, 1, 1, 0], [5, -1, 2, 1], [2, 2, 2, 1]]])
    cells = cell_examples.cell_labels(boxes, labels, GRID)[0]
    assert cells[0].tolist() == [1, 1, 1, 0]  # names count from 1
    assert cells[1].tolist() == [6, UNKNOWN, 2, 1]  # a grey picture tells no colour
    assert cells[15].tolist() == [UNKNOWN] * 4  # touched, but not enough
    assert cells[10].tolist() == [0, UNKNOWN, UNKNOWN, UNKNOWN]


@given(x=st.floats(0, 0.7), y=st.floats(0, 0.7), side=st.floats(0.05, 0.3))
def test_shares_of_cells_add_up_to_the_area_of_the_box(x: float, y: float, side: float) -> None:
    boxes, _ = one_region((x, y, x + side, y + side))
    assert cell_examples.coverage(boxes, GRID).sum() == pytest.approx(side**2 * GRID**2)


def test_a_cells_box_is_told_from_its_centre() -> None:
    boxes, _ = one_region((0.25, 0.5, 0.5, 0.75))
    assert cell_examples.cell_boxes(boxes, GRID)[0, 9].tolist() == [-0.5, -0.5, 0.5, 0.5]


def test_pairs_are_those_of_the_regions() -> None:
    _, labels = one_region((0, 0, 1, 1))
    assert np.flatnonzero(cell_examples.pairs_present(labels)[0]).tolist() == [3 * CLASSES[1] + 1]


@given(step=st.integers(0, 40), count=st.integers(1, 30), batch=st.integers(1, 12))
def test_batches_run_through_every_picture_in_turn(step: int, count: int, batch: int) -> None:
    steps = -(-2 * count // batch)
    rows = np.concatenate([fitting.batch_rows(count, batch, one, 5) for one in range(steps)])
    assert sorted(rows[:count]) == sorted(rows[count : 2 * count]) == list(range(count))


@given(step=st.integers(0, 30))
def test_boxes_follow_the_view_of_their_picture(step: int) -> None:
    inputs = np.zeros((1, 64, 64, 3), np.uint8)
    inputs[0, 24:40, 16:32] = 255
    boxes, labels = one_region((16 / 64, 24 / 64, 32 / 64, 40 / 64))
    seen = fitting.draw(Examples(inputs, boxes, labels), 3, step, 1)
    for picture, box in zip(seen.inputs, seen.boxes[:, 0], strict=True):
        rows, columns, _ = np.nonzero(picture)
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(box * 64, found)


def test_only_sound_training_pictures_are_seen(world: Path) -> None:
    raw = world / "raw/demo"
    graphs = json.loads((raw / "gqa/train_sceneGraphs.json").read_text())
    defects = [
        row for row in json.loads((raw / "defects.json").read_text())["defects"] if row["dataset"] == "gqa"
    ]
    rejected = {row["id"] for row in defects if row["table"] == "images" and row["outcome"] == "reject"}
    seen = list(cell_examples.shown(raw, "train"))
    assert {picture.path.stem for picture in seen} == graphs.keys() - rejected
    assert rejected & graphs.keys()
    words = [kind[label] for kind, label in zip(KINDS, seen[0].labels[0], strict=True) if label != UNKNOWN]
    things = [
        [thing["name"], *thing["attributes"]] for thing in graphs[seen[0].path.stem]["objects"].values()
    ]
    assert sorted(words) in [sorted(thing) for thing in things]


def test_the_loss_falls_and_the_weights_repeat(world: Path) -> None:
    def run(steps: int) -> fitting.Pretrained:
        plan = Pretrain(encoders=["esam"], steps=steps, batch=8, learning_rate=3e-3)
        return pretrain(Task("esam", ESAM, plan, 0, str(world / "raw/demo")))

    first, again, longer = run(3), run(3), run(60)
    assert all(np.array_equal(value, again.weights[name]) for name, value in first.weights.items())
    assert longer.loss < first.loss


def test_the_stage_says_what_its_weights_are(
    world: Path, small_params: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small_params | {"pretrain": {"demo": {"encoders": ["esam"], "steps": 2, "batch": 4}}}
    settings["encoders"] = small_params["encoders"] | {"esam": params_entry()}  # type: ignore[operator]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings))
    shutil.copytree(world / "raw", tmp_path / "raw")
    monkeypatch.chdir(tmp_path)
    main(["pretrain", "demo"])
    facts = json.loads(Path("weights/demo/esam.json").read_text())
    assert facts["demo"] and facts["steps"] == 2
    assert facts["sha256"] == sha256_file(Path("weights/demo/esam.safetensors"))
    assert encode.load(params.load().encoders["esam"]).weights.demo


def params_entry() -> dict[str, object]:
    entry = {"architecture": "esam", "model": "efficient_sam_vitt", "size": 32, "grid": 2, "options": TINY}
    return entry | {"weights": "weights/demo/esam.safetensors"}
