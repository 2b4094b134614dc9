"""The probe: boxes become the mean of what they cover, and heads find what is there and nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest
import synthetic
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from contract import manifest
from contract.errors import ParamsError, ShardError
from contract.manifest import FeatureManifest
from contract.quantise import dequantise, quantise
from contract.record import Regions
from training import probe
from training.batching.lattice import touching
from training.probing import leaks
from training.probing.box_vectors import covered, grid_of
from training.probing.probe_heads import Example, Linear, score
from training.shards import open_shards

sides = st.integers(1, 9)


@st.composite
def boxes(draw):
    (x0, x1), (y0, y1) = (
        sorted(draw(st.lists(st.integers(0, 1000), min_size=2, max_size=2, unique=True))) for _ in "xy"
    )
    return np.array([[x0, y0, x1, y1]]) / 1000


def mean_of(box, cells_GG):
    across, down = covered(box, len(cells_GG))
    return float(down[0] @ cells_GG @ across[0])


@given(boxes(), sides)
def test_the_shares_of_a_box_add_up_to_one(box, grid):
    assert all(np.allclose(shares.sum(-1), 1) for shares in covered(box, grid))


@given(boxes(), sides)
def test_a_box_on_a_ramp_reads_what_its_cells_hold_on_average(box, grid):
    """Against a thousand fine columns, each cell edge may fall inside one."""
    ramp = np.tile(np.arange(grid, dtype=float), (grid, 1))
    fine = (np.arange(1000) + 0.5) / 1000
    under = fine[(fine > box[0, 0]) & (fine < box[0, 2])]
    assert mean_of(box, ramp) == pytest.approx(np.floor(under * grid).mean(), abs=grid / len(under))


@given(sides)
def test_the_whole_picture_is_the_mean_and_one_cell_is_that_cell(grid):
    cells = np.random.default_rng(grid).normal(size=(grid, grid))
    assert mean_of(np.array([[0.0, 0, 1, 1]]), cells) == pytest.approx(cells.mean())
    assert mean_of(np.array([[0, 0, 1 / grid, 1 / grid]]), cells) == pytest.approx(cells[0, 0])


def test_pooled_cells_are_exact_means(tmp_path):
    synthetic.build(tmp_path, train=4, val=4, shards=1)
    column = manifest.load(tmp_path / "features/vit", FeatureManifest)
    tokens = np.arange(17 * 8, dtype=np.float32).reshape(17, 8)
    cells = tokens[1:].reshape(4, 4, 8)
    assert np.array_equal(grid_of(tokens, column), cells)
    assert np.array_equal(grid_of(tokens, column, 2)[0, 1], cells[:2, 2:].mean((0, 1)))


def test_every_variant_of_a_box_is_what_its_name_says(tmp_path):
    """Each box is one bright cell: of the stored tokens, of rounded ones, of blocks of two by two."""
    synthetic.build(tmp_path, train=6, val=4, shards=1)
    found = probe.examples(open_shards([str(tmp_path / "data")], ["vit"]), "vit", 6, 0)
    variants = zip(*(found["region", name] for name in ("stored", "int8", "pooled")), strict=True)
    for number, (stored, int8, pooled) in enumerate(variants):
        tokens = synthetic.features(number, "vit").astype(np.float16).astype(np.float32)
        cells, rounded = (part[1:].reshape(4, 4, -1) for part in (tokens, dequantise(*quantise(tokens))))
        row, column = divmod(synthetic.cell(number), 4)
        block = cells.reshape(2, 2, 2, 2, -1).mean((1, 3))[row // 2, column // 2]
        expected = (cells[row, column], rounded[row, column], block)
        for example, vector in zip((stored, int8, pooled), expected, strict=True):
            np.testing.assert_allclose(example.vector, vector, rtol=1e-5, atol=1e-6)
            assert (example.label, example.question) == ("cell", [])
        assert not np.allclose(expected[0], expected[1], rtol=1e-5)
    assert number == 5


def named(number, record):
    """A world of two names."""
    regions = structs.replace(record.regions, name=[("ball", "box")[number % 2]])
    return structs.replace(record, regions=regions)


def test_names_and_questions_have_a_row_for_every_variant(tmp_path, monkeypatch):
    synthetic.build(tmp_path, change=named)
    monkeypatch.chdir(tmp_path)
    probe.main(["--columns", "vit"])
    rows = json.loads(Path("reports/probe.json").read_text())
    places = [(task, variant) for task in probe.TASKS for variant in probe.VARIANTS]
    assert [(row["task"], row["variant"]) for row in rows] == places
    assert [row["examples"] for row in rows] == [12] * 3 + [24] * 3  # a name and two questions a picture
    stored = {row["task"]: row["accuracy"] for row in rows if row["variant"] == "stored"}
    assert all(row["lost"] == stored[row["task"]] - row["accuracy"] for row in rows)
    assert stored["vqa"] > 0


def test_data_without_a_val_split_has_an_empty_result_unless_a_split_is_named(tmp_path, monkeypatch, capsys):
    synthetic.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    for folder in ("data", "features/vit", "features/esam"):
        path = Path(folder, manifest.NAME)
        path.write_text(path.read_text().replace('"split": "val"', '"split": "testdev"'))
    probe.main([])
    assert json.loads(Path("reports/probe.json").read_text()) == []
    assert "no shard of split 'val'" in capsys.readouterr().err
    probe.main(["--split", "testdev", "--columns", "vit"])
    assert json.loads(Path("reports/probe.json").read_text())
    with pytest.raises(ShardError, match="names no shard of split 'val'"):
        probe.main(["--split", "val"])


def test_heads_are_not_scored_on_what_they_were_taught(tmp_path, monkeypatch):
    synthetic.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParamsError, match="--split: the heads are trained on it"):
        probe.main(["--split", "train"])
    assert not Path("reports").exists()
    with pytest.raises(ShardError, match="give a folder or a glob"):
        probe.main(["--shards", "data/toy-val-000.tar"])


def drawn(count: int, seed: int, telling: bool) -> list[Example]:
    """Boxes whose first two channels say the label, or nothing does; the question says which is meant."""
    generator, found = np.random.default_rng(seed), []
    for _ in range(count):
        bits = generator.integers(0, 2, 2)
        vector = generator.normal(0, 0.2, 8).astype(np.float32)
        vector[:2] += bits * telling
        asked = int(generator.integers(0, 2))
        found.append(Example(vector, [3 + asked], ("no", "yes")[bits[asked]]))
    return found


def test_heads_learn_what_the_box_and_the_question_tell():
    assert score(drawn(600, 0, True), drawn(200, 1, True), 0) > 0.9


def test_heads_find_nothing_where_there_is_nothing():
    assert score(drawn(600, 0, False), drawn(200, 1, False), 0) < 0.65


def test_a_label_that_training_never_saw_counts_as_wrong():
    asked = [example._replace(label="maybe") for example in drawn(50, 1, True)]
    assert score(drawn(600, 0, True), asked, 0) == 0


def test_one_class_is_nothing_to_learn():
    alike = [example._replace(label="yes") for example in drawn(50, 0, True)]
    assert score(alike, alike, 0) is None


@pytest.mark.parametrize(("dtype", "variants"), [("float16", 3), ("int8", 2)])
def test_every_column_is_probed_in_every_way_that_differs(tmp_path, monkeypatch, dtype, variants):
    synthetic.build(tmp_path, dtype=dtype)
    monkeypatch.chdir(tmp_path)
    for out in ("first.json", "second.json"):
        probe.main(["--out", out])
    rows = json.loads((tmp_path / "first.json").read_text())
    assert [row["column"] for row in rows] == ["esam"] * variants + ["vit"] * variants
    assert {row["task"] for row in rows} == {"vqa"}  # every box has the same name: nothing to tell apart
    assert all(row["lost"] == 0 for row in rows if row["variant"] == "stored")
    assert (tmp_path / "first.json").read_bytes() == (tmp_path / "second.json").read_bytes()


def test_what_is_left_is_the_rest_and_what_lies_beside_the_hole():
    cells = np.arange(16 * 2, dtype=np.float32).reshape(4, 4, 2)
    hidden = np.zeros((4, 4), bool)
    hidden[0, 0] = True
    rest, beside = np.split(leaks.left(cells, hidden), 2)
    np.testing.assert_allclose(rest, cells[~hidden].mean(0))
    np.testing.assert_allclose(beside, (cells[0, 1] + cells[1, 0] + cells[1, 1]) / 3)


@given(boxes(), sides)
def test_the_cells_that_a_box_touches_hold_all_of_it(box, grid):
    across, down = covered(box, grid)
    found = touching(torch.from_numpy(box), grid).numpy().reshape(1, grid, grid)
    assert np.array_equal(found, (down[:, :, None] > 0) & (across[:, None, :] > 0))


def test_a_box_that_ends_on_a_cells_edge_but_for_rounding_hides_the_same(tmp_path):
    def rounded(number, record):
        record = named(number, record)
        box = tuple(np.clip(np.array(record.regions.box[0]) + [-1e-9, -1e-9, 1e-9, 1e-9], 0, 1).tolist())
        return structs.replace(record, regions=structs.replace(record.regions, box=[box]))

    found = []
    for name, change in (("exact", named), ("rounded", rounded)):
        (tmp_path / name).mkdir()
        synthetic.build(tmp_path / name, train=6, val=4, shards=1, change=change)
        shards = open_shards([str(tmp_path / name / "data")], ["vit"])
        found.append(probe.examples(shards, "vit", 6, 0, masked=True)["hidden", "left"])
    for one, other in zip(*found, strict=True):
        assert np.array_equal(one.vector, other.vector)


def two_names(number, record):
    """The bright cell by its half of the picture, a wall over all of it, and a thing of no name."""
    half = ("left", "right")[synthetic.cell(number) % 4 // 2]
    box = record.regions.box[0]
    regions = Regions(id=["a", "b", "c"], box=[box, (0.0, 0, 1, 1), box], name=[half, "wall", ""])
    return structs.replace(record, regions=regions)


@pytest.mark.parametrize("leaking", [False, True])
def test_what_a_neighbour_has_seen_of_a_hidden_object_is_told(tmp_path, monkeypatch, leaking):
    """No encoder was at work on these shards: what others see of the bright cell is drawn here."""
    features = synthetic.features

    def mixed(number, name):
        tokens = features(number, name)
        tokens[synthetic.CLS[name] :, -1] += 3 * leaking * (synthetic.cell(number) % 4 // 2)
        return tokens

    monkeypatch.setattr(synthetic, "features", mixed)
    synthetic.build(tmp_path, train=100, val=60, shards=1, change=two_names)
    taught, asked = (
        probe.examples(open_shards([str(tmp_path / "data")], ["vit"], split=split), "vit", 99, 0, masked=True)
        for split in ("train", "val")
    )
    assert len(asked["hidden", "left"]) == 60  # of the wall nothing would be left, and one has no name
    for variant, told in (("left", leaking), ("cls", False)):
        found = score(taught["hidden", variant], asked["hidden", variant], 0, Linear)
        assert found > 0.9 if told else found < 0.7


def test_above_twice_chance_is_a_warning():
    row = probe.Row("", "vit", "hidden", "left", 0.41, 0.0, 0.2, 0.0, 9)
    assert leaks.warnings([row]) == [
        "warning: vit: what is left of a picture tells the name of what is hidden in 41% of cases, "
        "above twice chance (20%)"
    ]
    quiet = [structs.replace(row, accuracy=0.39), structs.replace(row, task="region")]
    assert not leaks.warnings([*quiet, structs.replace(row, variant="cls")])
