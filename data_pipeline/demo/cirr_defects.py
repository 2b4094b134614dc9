"""Defects planted into a sound CIRR. Spoiled rows name healthy pictures only, and no two share one."""

from contract.seeds import rng
from data_pipeline.demo.cirr import Cirr, Json
from data_pipeline.demo.defects import Ledger, Spoiled, Victims

JPEG_INSIDE = 1 / 12  # share of the .png files that are JPEG, as all of those seen in the real set are


def plant(
    world: Cirr, copies: dict[str, str], lent: set[str], seed: int, ledger: Ledger, spoiled: Spoiled
) -> set[str]:
    """Spoil a known number of rows and files; returns the pictures that are JPEG inside their .png.

    copies: train picture → path of another dataset's evaluation picture (a JPEG) that it becomes a copy of.
    lent: pictures that another dataset copies; their files stay as they are.
    """
    damaged = Victims(world.scenes["test1"], rng(seed, "cirr-damaged")).take(1)
    spoiled.truncated |= {world.image_file("test1", picture) for picture in damaged}
    ledger.add("cirr", "images", damaged, "picture_damaged", "reject")
    spoiled.copied |= {world.image_file("train", picture): source for picture, source in copies.items()}
    ledger.add("cirr", "images", copies, "in_evaluation_split", "reject")
    ledger.add("cirr", "images", copies, "picture_extension", "flag")
    _plant_rows(world, {*copies, *damaged}, seed, ledger)
    return _jpeg_inside(world, {*copies, *damaged, *lent}, seed, ledger)


def _jpeg_inside(world: Cirr, without: set[str], seed: int, ledger: Ledger) -> set[str]:
    ids = [picture for scenes in world.scenes.values() for picture in scenes if picture not in without]
    chosen = Victims(ids, rng(seed, "cirr-jpeg")).take(max(1, round(len(ids) * JPEG_INSIDE)))
    ledger.add("cirr", "images", chosen, "picture_extension", "flag")
    return set(chosen)


def _plant_rows(world: Cirr, unwell: set[str], seed: int, ledger: Ledger) -> None:
    for split in ("train", "val"):
        healthy = [row for row in world.captions[split] if not unwell & set(row["img_set"]["members"])]
        victims = Victims(healthy, rng(seed, "cirr-rows", split))
        _plant_texts(world, split, victims, ledger)
        _plant_sets(split, victims, ledger)
        _plant_targets(victims, ledger)


def _plant_texts(world: Cirr, split: str, victims: Victims[Json], ledger: Ledger) -> None:
    for row in victims.take(ledger.count(2)):
        row["caption"] = " "
        ledger.add("cirr", "texts", [_id(row)], "blank_text", "reject")
    for row in victims.take(ledger.count(3)):
        again = row | {"pairid": max(one["pairid"] for one in world.captions[split]) + 1}
        world.captions[split].append(again)
        ledger.add("cirr", "texts", [_id(again)], "duplicate_text", "flag")


def _plant_sets(split: str, victims: Victims[Json], ledger: Ledger) -> None:
    for index, row in enumerate(victims.take(ledger.count(2))):
        stranger = f"{split}-99999-{index}-img0"
        row["img_set"]["members"] = [
            _unless(one, row["target_hard"], stranger) for one in row["img_set"]["members"]
        ]
        row["target_hard"], row["target_soft"] = stranger, {stranger: 1.0}
        ledger.add("cirr", "texts", [_id(row)], "unknown_picture", "reject")
    for index, row in enumerate(victims.take(ledger.count(3))):
        members = row["img_set"]["members"]
        others = [one for one in members if one not in (row["reference"], row["target_hard"])]
        if index % 2:  # five only
            row["img_set"]["members"] = [one for one in members if one != others[0]]
        else:  # six, two of them the same
            row["img_set"]["members"] = [_unless(one, others[0], others[1]) for one in members]
        ledger.add("cirr", "texts", [_id(row)], "wrong_members", "reject")


def _plant_targets(victims: Victims[Json], ledger: Ledger) -> None:
    for row in victims.take(ledger.count(4)):
        row["target_soft"] = {row["reference"]: 1.0}
        ledger.add("cirr", "texts", [_id(row)], "target_not_in_soft", "flag")
    for index, row in enumerate(victims.take(ledger.count(3))):
        row["target_soft"] = {row["target_hard"]: (-1.0, 0.5)[index % 2]}
        ledger.add("cirr", "texts", [_id(row)], "target_soft_score", "flag")


def _unless(value: str, unwanted: str, instead: str) -> str:
    return instead if value == unwanted else value


def _id(row: Json) -> str:
    return str(row["pairid"])
