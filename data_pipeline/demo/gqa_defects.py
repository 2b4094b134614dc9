"""Defects planted into a sound GQA. Every victim is another picture."""

from collections.abc import Iterator

from contract.seeds import rng
from data_pipeline.demo.defects import Ledger, Spoiled, Victims
from data_pipeline.demo.gqa import FIRST_OBJECT, Gqa, Json, image_file, question_id

NO_OBJECT = FIRST_OBJECT * 9  # no scene graph has ids from here on


def plant(
    world: Gqa,
    alone: dict[str, list[str]],
    copies: dict[str, str],
    seed: int,
    ledger: Ledger,
    spoiled: Spoiled,
) -> None:
    """Spoil a known number of records and files.

    alone: per split (train, val) the pictures that no other dataset shows.
    copies: train picture → path of the evaluation picture of another dataset that it shows, encoded again.
    """
    spoiled.encoded |= {image_file(picture): source for picture, source in copies.items()}
    ledger.add("gqa", "images", copies, "in_evaluation_split", "reject")
    train = Victims(alone["train"], rng(seed, "gqa-defects", "train"))
    val = Victims(alone["val"], rng(seed, "gqa-defects", "val"))
    _plant_overhang(world, train, ledger)
    _plant_pictures(world, train, ledger, spoiled)
    _plant_boxes(world, train, ledger)
    _plant_texts(world, train, ledger)
    _plant_spans(world, "train", train, ledger)
    _plant_spans(world, "val", val, ledger)
    _plant_repeats(world, train, val, ledger)


def _plant_pictures(world: Gqa, victims: Victims[str], ledger: Ledger, spoiled: Spoiled) -> None:
    missing = victims.take(ledger.count(6))
    spoiled.missing |= {image_file(picture) for picture in missing}
    ledger.add("gqa", "images", missing, "picture_missing", "reject")
    truncated = victims.take(ledger.count(5))
    spoiled.truncated |= {image_file(picture) for picture in truncated}
    ledger.add("gqa", "images", truncated, "picture_damaged", "reject")
    for picture in victims.take(ledger.count(4)):
        graph = world.graphs["train"][picture]
        graph["width"], graph["height"] = graph["width"] + 64, graph["height"] + 32
        ledger.add("gqa", "images", [picture], "size_differs", "flag")
        ledger.add(
            "gqa", "regions", [f"{picture}/{number}" for number in graph["objects"]], "size_differs", "reject"
        )


def _plant_overhang(world: Gqa, victims: Victims[str], ledger: Ledger) -> None:
    """Stretch the boxes that stand nearest to the right edge, so that they end one pixel outside."""
    graphs = {picture: world.graphs["train"][picture] for picture in victims.peek()}
    room = {
        (picture, number): graph["width"] - box["x"] - box["w"]
        for picture, graph in graphs.items()
        for number, box in graph["objects"].items()
    }
    nearest: dict[str, str] = {}
    for picture, number in sorted(room, key=lambda key: (room[key], key)):
        nearest.setdefault(picture, number)
    for picture in list(nearest)[: ledger.count(6)]:
        box = graphs[picture]["objects"][nearest[picture]]
        box["w"] = graphs[picture]["width"] + 1 - box["x"]
        victims.remove(picture)
        ledger.add("gqa", "regions", [f"{picture}/{nearest[picture]}"], "box_overhang", "repair")


def _plant_boxes(world: Gqa, victims: Victims[str], ledger: Ledger) -> None:
    """A second, empty annotation of a thing: no question and no relation names it."""
    for index, picture in enumerate(victims.take(ledger.count(6))):
        objects = world.graphs["train"][picture]["objects"]
        number = str(NO_OBJECT + index)
        objects[number] = next(iter(objects.values())) | {"w": 0, "relations": []}
        ledger.add("gqa", "regions", [f"{picture}/{number}"], "box_zero_area", "reject")


def _plant_texts(world: Gqa, victims: Victims[str], ledger: Ledger) -> None:
    for index, picture in enumerate(victims.take(ledger.count(8))):
        qid, record = _first_question(world, "train", picture)
        del record["imageId" if index % 2 else "question"]
        ledger.add("gqa", "texts", [qid], "malformed", "reject")
    for picture in victims.take(ledger.count(5)):
        qid, record = _first_question(world, "train", picture)
        record["question"], record["annotations"]["question"] = "  ", {}
        ledger.add("gqa", "texts", [qid], "blank_text", "reject")


def _plant_spans(world: Gqa, split: str, victims: Victims[str], ledger: Ledger) -> None:
    """Spans past the end of a question or statement, and spans of objects that the scene graph lacks."""
    full = 6 if split == "train" else 2
    for index, picture in enumerate(victims.take(ledger.count(full))):
        qid, record = _first_question(world, split, picture)
        field, text = ("question", qid) if index % 2 else ("fullAnswer", f"{qid}.full")
        tokens = len(record[field].split())
        key = f"{tokens}:{tokens + 2}" if index % 3 else str(tokens + 5)
        some_object = next(iter(world.graphs[split][picture]["objects"]))
        record["annotations"][field][key] = some_object
        ledger.add("gqa", "entities", [f"{text}/{key}"], "span_out_of_range", "reject")
    for index, picture in enumerate(victims.take(ledger.count(full))):
        qid, record = _first_question(world, split, picture, spans=True)
        key = next(iter(record["annotations"]["question"]))
        record["annotations"]["question"][key] = str(NO_OBJECT + 1000 + index)
        ledger.add("gqa", "entities", [f"{qid}/{key}"], "span_region_missing", "flag")


def _plant_repeats(world: Gqa, train: Victims[str], val: Victims[str], ledger: Ledger) -> None:
    """Questions asked again under another id, with the same answer or another one."""
    again = _fresh_ids(world)
    for picture in train.take(ledger.count(8)):
        _, record = _first_question(world, "train", picture)
        qid = next(again["train"])
        world.questions["train"][qid] = record | {"equivalent": [qid]}
        ledger.add("gqa", "texts", [qid], "duplicate_text", "flag")
    for split, victims, full, outcome in (("train", train, 5, "reject"), ("val", val, 2, "flag")):
        for picture in victims.take(ledger.count(full)):
            first, record = _first_question(world, split, picture)
            qid = next(again[split])
            world.questions[split][qid] = record | {"equivalent": [qid], "answer": _another(record["answer"])}
            ledger.add("gqa", "texts", [first, qid], "conflicting_answers", outcome)


def _another(answer: str) -> str:
    """A different answer, whatever it is."""
    swap = {"yes": "no", "no": "yes", "left": "right", "right": "left", "above": "below", "below": "above"}
    return swap.get(answer, "red" if answer != "red" else "blue")


def _first_question(world: Gqa, split: str, picture: str, spans: bool = False) -> tuple[str, Json]:
    """A picture's first question; with `spans`: its first that mentions a thing."""
    for qid, record in world.questions[split].items():
        if record.get("imageId") == picture and (record["annotations"]["question"] or not spans):
            return qid, record
    raise AssertionError(f"picture {picture} has no such question")


def _fresh_ids(world: Gqa) -> dict[str, Iterator[str]]:
    """Question ids that no record bears."""
    return {split: _ids_from(split, len(records)) for split, records in world.questions.items()}


def _ids_from(split: str, number: int) -> Iterator[str]:
    while True:
        yield question_id(split, number)
        number += 1
