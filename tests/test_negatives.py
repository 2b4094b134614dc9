"""Stage negatives: a column of neighbours and swaps beside the records, of the same dataset and split."""

import argparse
from pathlib import Path
from typing import get_args

import by_hand
import msgspec
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from contract import codec, index, manifest
from contract.column import Dtype
from contract.errors import MismatchError, ParamsError
from contract.manifest import FeatureManifest, NegativesManifest
from contract.record import Near, Negatives, NegText
from data_pipeline.negatives.picture_column import pooled
from data_pipeline.negatives.statistics import Statistics, Texts
from data_pipeline.shards import shard_reader
from data_pipeline.stages import negatives
from data_pipeline.texts import tokenizer_file

ARGS = argparse.Namespace(params=Path("params.yaml"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    by_hand.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


STATEMENTS = [
    by_hand.text("1.full", "1", "statement", "The cube is red."),
    by_hand.text("2.full", "10", "statement", "The cube is blue."),
    by_hand.text("3.full", "10", "statement", "A cube, I think, or not."),
    by_hand.text("4.full", "2", "statement", "The ball is small."),
]
BOX = (0.1, 0.1, 0.4, 0.4)


@pytest.fixture
def annotated_texts(project: Path) -> Path:
    """The same pictures with statements, attributes, a tokenizer and an image set of three."""
    by_hand.table(project / "spans/gqa/texts.parquet", STATEMENTS, by_hand.TEXT)
    by_hand.table(project / "spans/gqa/entities.parquet", [], by_hand.ENTITY)
    regions = [
        by_hand.region("1", "9", "cube", BOX) | {"attributes": ["Red", "metal"]},
        by_hand.region("10", "4", "cube", BOX) | {"attributes": ["blue"]},
    ]
    by_hand.table(project / "validate/gqa/regions.parquet", regions, by_hand.REGION)
    members = [by_hand.ODD, "a-img0"]
    edits = [by_hand.text("5", "a-img0", "edit", "make it blue", target=["a-img0"], members=members)]
    by_hand.table(project / "spans/cirr/texts.parquet", edits, by_hand.TEXT)
    tokenizer = tokenizer_file.build([row["content"] for row in STATEMENTS], 200)
    (project / "spans/gqa/tokenizer.json").write_bytes(tokenizer_file.to_bytes(tokenizer))
    return project


def load(shard: str) -> dict[str, Negatives]:
    path = Path(f"negatives/{shard}.tar")
    return {key: codec.decode_negatives(raw, key) for key, raw, _ in shard_reader.members(path, "neg.json")}


def written() -> Statistics:
    return msgspec.json.decode(Path("negatives/statistics.json").read_bytes(), type=Statistics)


def test_neighbours_are_of_other_groups_nearest_first(project: Path) -> None:
    negatives.run(ARGS)
    near = {key: found.pictures for key, found in load("gqa-000").items()}
    assert near["1"].key == ["10"]  # "2" is the same photograph
    assert near["10"].key == ["1", "2"] and near["10"].text == ["", ""]
    assert near["10"].score == pytest.approx(np.cos([0.125, 0.375]), abs=1e-3)
    assert load("gqa-val-000")["3"].pictures.key == []  # alone in its split
    assert load("cirr-000")["a-img0"].pictures.key == [by_hand.ODD_KEY]


def test_the_column_has_the_keys_and_the_shards_of_the_features(project: Path) -> None:
    negatives.run(ARGS)
    features = manifest.load(Path("features/vit"), FeatureManifest)
    mined = manifest.load(Path("negatives"), NegativesManifest)
    assert list(mined.shards) == sorted(features.shards)
    assert (mined.encoder, mined.weights, mined.per_picture) == ("vit", features.weights.sha256, 2)
    for name in mined.shards:
        keys = [index.load(Path(folder, f"{name}.tar")).keys() for folder in ("features/vit", "negatives")]
        assert keys[0] == keys[1]


def test_an_absent_picture_has_no_neighbours_and_is_none(project: Path) -> None:
    tokens = {name: by_hand.vector(number) for number, (_, _, name, *_) in enumerate(by_hand.PLACES)}
    by_hand.features(project, tokens | {"10": np.zeros((0, 4), np.float16)})
    negatives.run(ARGS)
    near = {key: found.pictures for key, found in load("gqa-000").items()}
    assert near["10"].key == [] and near["1"].key == [] and near["2"].key == []


def test_an_int8_column_has_the_neighbours_of_its_tokens(project: Path) -> None:
    tokens = {name: by_hand.vector(number) for number, (_, _, name, *_) in enumerate(by_hand.PLACES)}
    for vectors in tokens.values():
        vectors[0] *= 20  # the mean token is lost to who forgets that each has its own scale
    halves, bytes_ = (pictures_by(project, tokens, dtype) for dtype in get_args(Dtype))
    assert halves != bytes_ and list(halves) == list(bytes_)
    for key, near in bytes_.items():
        assert near.key == halves[key].key
        assert near.score == pytest.approx(halves[key].score, abs=0.01)


def pictures_by(project: Path, tokens: dict[str, NDArray[np.float16]], dtype: Dtype) -> dict[str, Near]:
    """Neighbours of the pictures of a shard by a column without CLS."""
    by_hand.features(project, tokens, cls=False, dtype=dtype)
    negatives.run(ARGS)
    return {key: found.pictures for key, found in load("gqa-000").items()}


def test_features_of_other_pictures_are_refused(project: Path) -> None:
    path = Path("images/catalogue.parquet")
    pl.read_parquet(path).filter(picture="1").write_parquet(path)
    with pytest.raises(MismatchError, match="not of the pictures"):
        negatives.run(ARGS)
    assert not Path("negatives").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_two_runs_write_the_same_bytes(annotated_texts: Path, workers: int) -> None:
    negatives.run(ARGS)
    first = {path.name: path.read_bytes() for path in Path("negatives").iterdir()}
    settings = Path("params.yaml")
    settings.write_text(settings.read_text().replace("workers: 1", f"workers: {workers}"))
    negatives.run(ARGS)
    assert first == {path.name: path.read_bytes() for path in Path("negatives").iterdir()}


def test_without_cls_a_picture_is_its_mean_token() -> None:
    tokens = np.array([[1, 0], [0, 3]], np.float16)
    assert pooled(tokens, cls=True).tolist() == [1, 0]
    assert pooled(tokens, cls=False).tolist() == [0.5, 1.5]


def test_a_text_gets_what_is_said_of_others_and_swaps_that_are_false(annotated_texts: Path) -> None:
    negatives.run(ARGS)
    texts = {name: found for negative in load("gqa-000").values() for name, found in negative.texts.items()}
    assert set(texts["1.full"].near.text) == {"2.full", "3.full"}  # "2" is the same photograph as "1"
    assert texts["1.full"].near.key == ["10", "10"] and texts["1.full"].near.score[0] > 0.3
    (swap,) = texts["1.full"].swapped
    assert (swap.text, swap.kind) == ("The cube is blue.", "attribute")
    assert texts["2.full"].swapped[0].text == "The cube is red."
    assert texts["3.full"].swapped == [] and texts["4.full"].swapped == []  # a doubt; no ball is annotated


def test_what_is_near_comes_with_the_words_and_tokens_of_its_record(annotated_texts: Path) -> None:
    negatives.run(ARGS)
    said = {row["text"]: (row["content"], row["tokens"]) for row in STATEMENTS}
    near = [found.near for held in load("gqa-000").values() for found in held.texts.values()]
    assert sum(len(of.text) for of in near) == 8
    for of in near:
        assert list(zip(of.content, of.tokens, strict=True)) == [said[text] for text in of.text]


def test_the_tokens_of_a_swap_spell_its_text(annotated_texts: Path) -> None:
    negatives.run(ARGS)
    tokenizer = tokenizer_file.load("spans/gqa/tokenizer.json")
    swapped: list[NegText] = [
        swap
        for negative in load("gqa-000").values()
        for found in negative.texts.values()
        for swap in found.swapped
    ]
    assert swapped
    for swap in swapped:
        spelled = tokenizer.decode(swap.tokens)
        assert spelled.replace(" ", "") == swap.text.lower().replace(" ", "")


def test_a_text_is_near_to_texts_of_its_own_role_and_true_whatever_the_role(annotated_texts: Path) -> None:
    texts = [
        by_hand.text("a", "1", "caption", "A cube of metal."),
        by_hand.text("b", "1", "phrase", "cube of wood"),
        by_hand.text("c", "10", "caption", "A cube of wood."),  # true of "1": b says it
        by_hand.text("d", "10", "caption", "A cube of glass."),
        by_hand.text("e", "10", "phrase", "cube of metal"),  # true of "1": a says it
        by_hand.text("f", "10", "phrase", "cube of stone"),
    ]
    by_hand.table(annotated_texts / "spans/gqa/texts.parquet", texts, by_hand.TEXT)
    negatives.run(ARGS)
    near = {name: one.near.text for held in load("gqa-000").values() for name, one in held.texts.items()}
    assert near == {"a": ["d"], "b": ["f"]}  # of "10" all is true that is said of "1", by c and e
    searches = manifest.load(Path("negatives"), NegativesManifest).searches
    found = {name: one.vectors for name, one in searches.items() if name.startswith("gqa/train/texts")}
    assert found == {"gqa/train/texts/caption": 3, "gqa/train/texts/phrase": 3}


def test_an_edit_gets_the_members_of_its_set_but_the_target(annotated_texts: Path) -> None:
    negatives.run(ARGS)
    near = load("cirr-000")["a-img0"].texts["5"].near
    assert (near.key, near.text) == ([by_hand.ODD_KEY], [""])
    assert near.score == pytest.approx([np.cos(25 / 8 - 16 / 8)], abs=1e-3)


def test_a_soft_target_is_no_negative_of_its_edit(annotated_texts: Path) -> None:
    members = [by_hand.ODD, "a-img0"]
    targets = ["a-img0", by_hand.ODD]  # the hard one first
    edits = [by_hand.text("5", "a-img0", "edit", "make it blue", target=targets, members=members)]
    by_hand.table(annotated_texts / "spans/cirr/texts.parquet", edits, by_hand.TEXT)
    negatives.run(ARGS)
    assert "5" not in load("cirr-000")["a-img0"].texts


def test_what_the_annotations_verify_of_a_picture_is_no_negative_and_counts_as_a_true_draw(
    annotated_texts: Path,
) -> None:
    regions = [
        by_hand.region(name, "7", "cube", BOX) | {"attributes": ["red", "metal"]} for name in ("1", "10")
    ]
    by_hand.table(annotated_texts / "validate/gqa/regions.parquet", regions, by_hand.REGION)
    texts = [
        by_hand.text("1.full", "1", "statement", "The cube is red."),
        by_hand.text("2.full", "10", "statement", "The cube is made of metal."),
        by_hand.text("3.full", "10", "statement", "The cube is red and heavy."),  # nobody knows
    ]
    by_hand.table(annotated_texts / "spans/gqa/texts.parquet", texts, by_hand.TEXT)
    found = mined_texts()
    near = {name: one.near.text for held in load("gqa-000").values() for name, one in held.texts.items()}
    assert near["1.full"] == ["3.full"] and near.get("2.full", []) == [] == near.get("3.full", [])
    assert found.filters["true_of_picture"] == 3
    assert found.drawn_true >= 2


def test_a_phrase_of_a_box_at_the_same_place_with_the_same_name_is_no_negative(annotated_texts: Path) -> None:
    elsewhere = (0.6, 0.6, 0.9, 0.9)
    regions = [
        by_hand.region("1", "a", "cube", BOX),
        by_hand.region("10", "b", "cube", (0.1, 0.1, 0.4, 0.35)),
        by_hand.region("10", "c", "cube", elsewhere),
        by_hand.region("10", "d", "ball", BOX),
    ]
    by_hand.table(annotated_texts / "validate/gqa/regions.parquet", regions, by_hand.REGION)
    texts = [
        by_hand.text("a", "1", "phrase", "cube in the sun", about=["a"]),
        by_hand.text("b", "10", "phrase", "cube in the rain", about=["b"]),
        by_hand.text("c", "10", "phrase", "cube in the snow", about=["c"]),
        by_hand.text("d", "10", "phrase", "ball in the mud", about=["d"]),
    ]
    by_hand.table(annotated_texts / "spans/gqa/texts.parquet", texts, by_hand.TEXT)
    found = mined_texts()
    assert set(load("gqa-000")["1"].texts["a"].near.text) == {"c", "d"}
    assert found.filters["overlapping_box"] == 2  # "b" of "a", and "a" of "b"


def test_the_statistics_add_up(annotated_texts: Path) -> None:
    negatives.run(ARGS)
    parts = {(part.dataset, part.split): part for part in written().parts}
    assert sorted(parts) == [("cirr", "train"), ("gqa", "train"), ("gqa", "val")]
    texts, pictures = parts["gqa", "train"].texts, parts["gqa", "train"].pictures
    assert (texts.texts, texts.different, texts.given) == (4, 4, 0)
    assert sum(texts.mined) == texts.near == 8 and sum(texts.random) == texts.drawn == 4
    assert texts.drawn_true >= 1 and texts.filters["same_picture"] == 4  # one other of its group each
    assert texts.swaps["attribute"] == {"kept": 2} and texts.short == 4
    assert (pictures.pictures, pictures.absent, sum(pictures.mined)) == (3, 0, 4)
    assert parts["cirr", "train"].texts.members == 1
    shown = {(example.text, example.role) for example in written().examples if example.dataset == "gqa"}
    assert {name for name, role in shown if role == "statement"} <= {row["text"] for row in STATEMENTS}
    assert len(shown) >= 3


def test_where_boxes_show_everything_a_text_of_what_has_none_is_denied(annotated_texts: Path) -> None:
    texts = [*STATEMENTS, by_hand.text("5.full", "2", "statement", "There is a cube.")]
    by_hand.table(annotated_texts / "spans/gqa/texts.parquet", texts, by_hand.TEXT)
    for stage in ("read", "validate"):
        by_hand.table(annotated_texts / stage / "gqa/findings.parquet", [], by_hand.FINDING)
    assert mined_texts().contradicted == 0
    settings = Path("params.yaml")
    settings.write_text(
        settings.read_text().replace("folder: raw/gqa", "folder: raw/gqa\n    exhaustive: true")
    )
    assert mined_texts().contradicted == 1


def mined_texts() -> Texts:
    """What a run says of the texts of GQA's train split."""
    negatives.run(ARGS)
    (texts,) = (part.texts for part in written().parts if (part.dataset, part.split) == ("gqa", "train"))
    return texts


def test_the_manifest_certifies_every_search(annotated_texts: Path) -> None:
    negatives.run(ARGS)
    searches = manifest.load(Path("negatives"), NegativesManifest).searches
    assert searches["gqa/train/pictures"].method == "exact" and searches["gqa/train/texts"].vectors == 4
    assert all(found.recall == 1 for found in searches.values())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("num_negatives: 2}", "num_negatives: 2, range_max: 1}", "range_max"),
        ("num_negatives: 2}}", "num_negatives: 2}, text: {dimensions: 100}}", "power of two"),
        ("num_negatives: 2}", "num_negatives: 2, absolute_margin: 0.1}", "absolute_margin"),
    ],
)
def test_options_that_cannot_work_are_refused(project: Path, old: str, new: str, message: str) -> None:
    settings = Path("params.yaml")
    settings.write_text(settings.read_text().replace(old, new))
    with pytest.raises(ParamsError, match=message):
        negatives.run(ARGS)
