"""Things found by their names: captions written by hand, the vocabulary's own laws, links to regions."""

import json
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.tables import Entity
from data_pipeline.texts.matching import matched, mentions
from data_pipeline.texts.object_names import FILE, ObjectNames, form, load
from data_pipeline.texts.plurals import plurals

NAMES = load()
COCO = """person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant,
stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe,
backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball
bat, baseball glove, skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork, knife,
spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair,
couch, potted plant, bed, dining table, toilet, tv, laptop, mouse, remote, keyboard, cell phone,
microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear, hair drier,
toothbrush"""

CAPTIONS = [  # caption, the phrases that name a thing
    ("Two men and a woman ride horses past parked cars.", "men, woman, horses, cars"),
    ("A hot dog and a dog next to some hot dogs", "hot dog, dog, hot dogs"),
    ("A teddy bear sits on a polar bear; a bear watches.", "teddy bear, polar bear, bear"),
    ("Cartoons, a cart, scarred carrots", "cart, carrots"),
    ("a car-free street with a man-made, dog-shaped balloon", "street, balloon"),
    ("Bikini-clad woman, with shadow behind her", "woman"),
    ("a T-shirt and a t shirt", "T-shirt, t shirt"),
    ("An orange cat peels an orange on a blanket.", "cat, orange, blanket"),
    ("Oranges and an orange in a bowl of orange", "Oranges, orange, bowl"),
    ("the bowl with the orange paste", "bowl"),
    ("A man skis down a hill on his skis.", "man, skis"),
    ("A child's skis; she boats past boats", "child, skis, boats"),
    ("playing baseball with a baseball bat and a baseball", "baseball bat, baseball"),
    ("A remote village. A remote on the couch.", "remote, couch"),
    ("hot, dog", "dog"),
    ("the dog's tail and the dogs' bowls", "dog, dogs, bowls"),
    ("Knives, shelves, geese, mice, sheep and people", "Knives, shelves, geese, mice, sheep, people"),
    ("children brush their teeth with toothbrushes", "children, toothbrushes"),
    ("glasses, wine glasses and a glass of wine", "glasses, wine glasses, glass"),
    ("a train station and a train at the bus stop", "train station, train, bus stop"),
    ("Two  puppies on\nstop  signs", "puppies, stop  signs"),
    ("façade 😀 dog日本", ""),
    ("make it darker and zoom in", ""),
    ("", ""),
]


@pytest.mark.parametrize(("caption", "phrases"), CAPTIONS)
def test_captions_by_hand(caption: str, phrases: str) -> None:
    found = mentions(caption, NAMES)
    assert [caption[start:end] for start, end, _ in found] == (phrases.split(", ") if phrases else [])


WORDS = st.sampled_from(
    [*list(NAMES.forms)[::40], "orange", "skis", "a", "red", ",", "-", "'s", "\n", "é", "hot", "dog"]
)


@given(st.lists(WORDS, max_size=12).map(" ".join) | st.text(max_size=30))
def test_mentions_are_whole_names_in_order(text: str) -> None:
    found = mentions(text, NAMES)
    ends = [0, *(end for _, end, _ in found)]
    for (start, end, name), before in zip(found, ends, strict=False):
        assert before <= start < end
        assert NAMES.forms[form(text[start:end])] == name
        assert not text[start - 1 : start].isalnum() or start == 0
        assert not text[end : end + 1].isalnum()


def test_the_vocabulary_knows_coco_by_its_own_names() -> None:
    names = " ".join(COCO.split()).split(", ")
    assert len(names) == 80
    assert [NAMES.forms[name] for name in names] == names


def test_a_word_is_said_once() -> None:
    """Two entries for one word would hide each other; and nothing is wider than itself."""
    objects = yaml.safe_load(FILE.read_text())["objects"]
    same = Counter(form(word) for thing in objects.values() for word in thing.get("same", []))
    kinds = Counter(form(word) for thing in objects.values() for word in thing.get("kinds", []))
    assert max(same.values()) == max(kinds.values()) == 1
    assert not set(same) & (set(kinds) | {form(name) for name in objects})
    for name in NAMES.forms.values():
        assert len(list(NAMES.line(name))) < 6


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("dog", ["dogs"]),
        ("bus", ["buses"]),
        ("couch", ["couches"]),
        ("baby", ["babies"]),
        ("monkey", ["monkeys"]),
        ("fire truck", ["fire trucks"]),
        ("policeman", ["policemen"]),
        ("human", ["humans"]),
        ("person", ["people", "persons"]),
        ("wine glass", ["wine glasses"]),
        ("photo", ["photos", "photoes"]),
        ("sheep", []),
    ],
)
def test_plurals(one: str, many: list[str]) -> None:
    assert plurals(one) == many


@pytest.mark.parametrize(
    ("word", "other", "may"),
    [
        ("men", "person", True),
        ("person", "boy", True),
        ("sofa", "couch", True),
        ("puppies", "dog", True),
        ("table", "dining table", True),
        ("soccer ball", "sports ball", True),
        ("man", "woman", False),
        ("teddy bear", "bear", False),
        ("hot dog", "dog", False),
        ("cat", "dog", False),
    ],
)
def test_what_may_go_by_which_name(word: str, other: str, may: bool) -> None:
    """Either way round: as a word in a text and as the name of a region."""
    for said, label in ((word, other), (other, word)):
        found = matched(texts(said), ENTITIES, regions(("p0", "r", label, False)), NAMES)
        assert found["regions"].to_list() == [["r"] if may else []]


def test_a_datasets_own_names_are_known_too() -> None:
    known = NAMES.extended(["Widget", "left widget", "", "a name of five whole words", "men"])
    text = "three widgets, a left widget and men"
    assert [name for _, _, name in mentions(text, known)] == ["widget", "left widget", "man"]
    assert known.wider == NAMES.wider and not mentions("five whole words", known)


ENTITIES = pl.DataFrame(
    schema={
        **dict.fromkeys(Entity._fields, pl.String),
        "start": pl.Int32,
        "end": pl.Int32,
        "drop": pl.Int32,
        "regions": pl.List(pl.String),
    }
)


def texts(*contents: str) -> pl.DataFrame:
    rows = [(f"t{n}", f"p{n}", content, 0, "f.json", f"/{n}") for n, content in enumerate(contents)]
    return pl.DataFrame(rows, ["text", "picture", "content", "drop", "source_file", "position"], orient="row")


def regions(*rows: tuple[str, str, str, bool]) -> pl.DataFrame:
    columns = {"picture": pl.String, "region": pl.String, "name": pl.String, "crowd": pl.Boolean}
    return pl.DataFrame(list(rows), columns, orient="row")


def test_mentions_are_linked_to_the_regions_of_their_picture() -> None:
    boxes = regions(
        ("p0", "r10", "person", False),
        ("p0", "r9", "person", True),
        ("p0", "r8", "person", False),
        ("p0", "r7", "dog", False),
        ("p1", "r1", "dog", False),
    )
    found = matched(texts("Men with a kite", "The puppy"), ENTITIES, boxes, NAMES)
    assert found.schema == ENTITIES.schema
    rows = found.select("text", "start", "end", "span", "regions", "source", "position").rows()
    assert rows == [
        ("t0", 0, 3, "0:3", ["r10", "r8"], "matched", "/0"),
        ("t0", 11, 15, "11:15", [], "matched", "/0"),
        ("t1", 4, 9, "4:9", ["r1"], "matched", "/1"),
    ]


def test_only_texts_without_entities_are_searched() -> None:
    own = pl.DataFrame([("t0", 0, 1, "0", None, [], "annotated", 0, "f", "/")], ENTITIES.schema, orient="row")
    found = matched(texts("a dog", "a cat"), own, regions(), NAMES)
    assert found["text"].to_list() == ["t1"]
    assert matched(texts("nothing to see"), ENTITIES, regions(), NAMES).schema == ENTITIES.schema


def test_real_captions(real_data: Path) -> None:
    """Nearly every COCO caption names a thing, and most of them one that has a box."""
    folder = real_data / "coco/annotations"
    captions = json.loads((folder / "captions_train2017.json").read_text())["annotations"]
    instances = json.loads((folder / "instances_train2017.json").read_text())
    names = {category["id"]: category["name"] for category in instances["categories"]}
    boxes = [
        (str(box["image_id"]), str(box["id"]), names[box["category_id"]], bool(box["iscrowd"]))
        for box in instances["annotations"]
    ]
    rows = [(str(row["id"]), str(row["image_id"]), row["caption"], 0, "f", "/") for row in captions]
    frame = pl.DataFrame(rows, texts("").schema, orient="row")
    found = matched(frame, ENTITIES, regions(*boxes), NAMES)
    linked = found.filter(pl.col("regions").list.len() > 0)
    assert found["text"].n_unique() > 0.95 * len(frame)
    assert linked["text"].n_unique() > 0.8 * len(frame)
    edits = json.loads((real_data / "cirr/captions/cap.rc2.val.json").read_text())
    assert sum(bool(mentions(pair["caption"], NAMES)) for pair in edits) > 0.85 * len(edits)


def test_the_empty_vocabulary_finds_nothing() -> None:
    assert not mentions("a dog", ObjectNames({}, {}, frozenset(), frozenset()))
