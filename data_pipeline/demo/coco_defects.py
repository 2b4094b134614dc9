"""Defects planted into a sound COCO. Every victim is another row, of a picture that is there."""

from collections.abc import Callable

from contract.seeds import rng
from data_pipeline.demo.coco import CATEGORIES, Coco, Json, image_file
from data_pipeline.demo.defects import Ledger, Spoiled, Victims

NO_PICTURE = 900_001  # no file lists it
NO_CATEGORY = max(CATEGORIES.values()) + 1
NEW_ID = 50_000_000  # no annotation has ids from here on
SHIFT = 6  # pixels; a sound box and its mask differ by at most 2


def plant(world: Coco, alone: list[int], seed: int, ledger: Ledger, spoiled: Spoiled) -> None:
    """Spoil a known number of training rows and files. alone: train pictures that no other dataset shows."""
    missing = Victims(alone, rng(seed, "coco-defects", "pictures")).take(ledger.count(3))
    spoiled.missing |= {image_file("train", image) for image in missing}
    ledger.add("coco", "images", map(str, missing), "picture_missing", "reject")
    _plant_instances(world.instances["train"], missing, seed, ledger)
    _plant_captions(world.captions["train"], missing, seed, ledger)


def _plant_instances(rows: list[Json], missing: list[int], seed: int, ledger: Ledger) -> None:
    things = [row for row in rows if not row["iscrowd"] and row["image_id"] not in missing]
    victims = Victims(things, rng(seed, "coco-defects", "instances"))
    for reason, outcome, full, change in CHANGES:
        for row in victims.take(ledger.count(full)):
            change(row)
            ledger.add("coco", "regions", [_region(row)], reason, outcome)
            if reason == "unknown_category":  # without a name it is nothing
                ledger.add("coco", "regions", [_region(row)], "region_without_entity", "flag")
    for reason, outcome, full, differs in COPIES:
        for row in victims.take(ledger.count(full)):
            rows.append(row | {"id": NEW_ID + len(rows)} | differs(row))
            ledger.add("coco", "regions", [_region(rows[-1])], reason, outcome)


def _without_height(row: Json) -> None:
    row["bbox"][3] = 0.0


def _narrow(row: Json) -> None:
    row["bbox"][2] -= SHIFT


def _two_points(row: Json) -> None:
    """Four numbers, which pycocotools takes for a box."""
    row["segmentation"] = [row["segmentation"][0][:4]]


def _strange_category(row: Json) -> None:
    row["category_id"] = NO_CATEGORY


def _without_box(row: Json) -> None:
    del row["bbox"]


CHANGES: tuple[tuple[str, str, int, Callable[[Json], None]], ...] = (
    ("box_zero_area", "reject", 4, _without_height),
    ("malformed", "reject", 2, _without_box),
    ("mask_differs", "flag", 6, _narrow),
    ("mask_unusable", "flag", 3, _two_points),
    ("unknown_category", "flag", 2, _strange_category),
)
# Rows that stand in the file once more, and what is different then.
COPIES: tuple[tuple[str, str, int, Callable[[Json], Json]], ...] = (
    ("duplicate_box", "flag", 4, lambda row: {}),
    ("duplicate_region", "reject", 3, lambda row: {"id": row["id"]}),
    ("unknown_picture", "reject", 2, lambda row: {"image_id": NO_PICTURE}),
)


def _plant_captions(rows: list[Json], missing: list[int], seed: int, ledger: Ledger) -> None:
    told = [row for row in rows if row["image_id"] not in missing]
    victims = Victims(told, rng(seed, "coco-defects", "captions"))
    for row in victims.take(ledger.count(3)):
        row["caption"] = " \n"
        ledger.add("coco", "texts", [str(row["id"])], "blank_text", "reject")
    for row in victims.take(ledger.count(2)):
        del row["caption"]
        ledger.add("coco", "texts", [str(row["id"])], "malformed", "reject")
    for row in victims.take(ledger.count(2)):
        rows.append(dict(row))
        ledger.add("coco", "texts", [str(row["id"])], "duplicate_id", "reject")
    for row in victims.take(ledger.count(2)):
        rows.append(row | {"id": NEW_ID + len(rows), "image_id": NO_PICTURE})
        ledger.add("coco", "texts", [str(rows[-1]["id"])], "unknown_picture", "reject")


def _region(row: Json) -> str:
    return f"{row['image_id']}/{row['id']}"
