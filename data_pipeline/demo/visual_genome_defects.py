"""Defects planted into a sound Visual Genome. Every victim is another picture."""

from collections.abc import Callable

from contract.seeds import rng
from data_pipeline.demo.defects import Ledger, Spoiled, Victims
from data_pipeline.demo.scene import Thing
from data_pipeline.demo.visual_genome import Json, VisualGenome, image_file, region_object

NO_OBJECT = 90_000_000  # objects.json has no ids from here on


def plant(world: VisualGenome, own: list[int], seed: int, ledger: Ledger, spoiled: Spoiled) -> None:
    """Spoil a known number of rows and files. own: image ids of pictures that no other dataset shows."""
    pictures = Victims(own, rng(seed, "visual-genome-defects", "pictures"))
    unwell = _plant_pictures(world, pictures, ledger, spoiled)
    healthy = [image for image in world.scenes if image not in unwell and world.graphs[image]]
    victims = Victims(healthy, rng(seed, "visual-genome-defects", "rows"))
    _plant_boxes(world, victims, ledger)
    _plant_texts(world, victims, ledger)
    _plant_objects(world, victims, ledger)
    _plant_spans(world, victims, ledger)


def _plant_pictures(world: VisualGenome, victims: Victims[int], ledger: Ledger, spoiled: Spoiled) -> set[int]:
    unlisted = victims.take(ledger.count(4))
    for image in unlisted:
        del world.metadata[image]
    ledger.add("visual_genome", "images", map(str, unlisted), "no_metadata", "flag")
    missing = victims.take(ledger.count(4))
    spoiled.missing |= {image_file(image) for image in missing}
    ledger.add("visual_genome", "images", map(str, missing), "picture_missing", "reject")
    return {*unlisted, *missing}


def _plant_boxes(world: VisualGenome, victims: Victims[int], ledger: Ledger) -> None:
    """A region with a bad box leaves region_graphs.json, so that nothing else is wrong with it."""
    for reason, outcome, full, change in BOXES:
        for image in victims.take(ledger.count(full)):
            row = _region_without_graph(world, image)
            row |= change(row, world.metadata[image])
            ledger.add("visual_genome", "regions", [f"{image}/r{row['region_id']}"], reason, outcome)


def _above(row: Json, image: Json) -> Json:
    return {"y": -904}


def _beyond(row: Json, image: Json) -> Json:
    return {"x": image["width"] + 7}


def _inverted(row: Json, image: Json) -> Json:
    return {"x": row["x"] + row["width"], "width": -row["width"]}


def _empty(row: Json, image: Json) -> Json:
    return {"height": 0}


def _overhanging(row: Json, image: Json) -> Json:
    return {"width": image["width"] + 2 - row["x"]}


BOXES: tuple[tuple[str, str, int, Callable[[Json, Json], Json]], ...] = (
    ("box_outside", "reject", 3, _above),
    ("box_outside", "reject", 3, _beyond),
    ("box_inverted", "reject", 4, _inverted),
    ("box_zero_area", "reject", 4, _empty),
    ("box_overhang", "repair", 6, _overhanging),
)


def _plant_texts(world: VisualGenome, victims: Victims[int], ledger: Ledger) -> None:
    for image in victims.take(ledger.count(4)):
        row = _region_without_graph(world, image)
        row["phrase"] = ""
        ledger.add("visual_genome", "texts", [str(row["region_id"])], "blank_text", "reject")
        region = f"{image}/r{row['region_id']}"
        ledger.add("visual_genome", "regions", [region], "region_without_entity", "flag")
    for image in victims.take(ledger.count(3)):
        row = _region_without_graph(world, image)
        del row["phrase"]
        ledger.add("visual_genome", "texts", [str(row["region_id"])], "malformed", "reject")


def _plant_objects(world: VisualGenome, victims: Victims[int], ledger: Ledger) -> None:
    """Objects of a region graph that objects.json does not have, and objects that stand elsewhere."""
    for index, image in enumerate(victims.take(ledger.count(5))):
        graph, number = world.graphs[image][0], NO_OBJECT + index
        place = {"x": graph["x"], "y": graph["y"], "w": graph["width"], "h": graph["height"]}
        graph["objects"].append({"name": "shadow", "object_id": number, "synsets": ["shadow.n.01"]} | place)
        ledger.add("visual_genome", "regions", [f"{image}/o{number}"], "object_unlisted", "flag")
    for _ in range(ledger.count(5)):
        image, graph, stranger = _graph_with_stranger(world, victims)
        graph["objects"].append(region_object(stranger, stranger.id))
        ledger.add("visual_genome", "regions", [f"{image}/o{stranger.id}"], "object_outside_region", "flag")


def _plant_spans(world: VisualGenome, victims: Victims[int], ledger: Ledger) -> None:
    """An inflected name, and a span past the end of its phrase."""
    for image in victims.take(ledger.count(5)):
        graph = world.graphs[image][0]
        span = graph["synsets"][0]
        span["entity_name"] += "s"
        ledger.add("visual_genome", "entities", [_span_id(graph, span)], "span_name_differs", "flag")
    for image in victims.take(ledger.count(4)):
        graph = world.graphs[image][0]
        end = len(graph["phrase"])
        graph["synsets"][0] |= {"entity_idx_start": end - 2, "entity_idx_end": end + 3}
        ledger.add(
            "visual_genome", "entities", [_span_id(graph, graph["synsets"][0])], "span_out_of_range", "reject"
        )


def _span_id(graph: Json, span: Json) -> str:
    return f"{graph['region_id']}/{span['entity_idx_start']}:{span['entity_idx_end']}"


def _region_without_graph(world: VisualGenome, image: int) -> Json:
    """The picture's rightmost region, taken out of its region graphs."""
    row = max(world.regions[image], key=lambda row: row["x"] + row["width"])
    world.graphs[image] = [graph for graph in world.graphs[image] if graph["region_id"] != row["region_id"]]
    return row


def _graph_with_stranger(world: VisualGenome, victims: Victims[int]) -> tuple[int, Json, Thing]:
    """A region graph of the next victim that has one, and a thing that does not touch its region."""
    while True:
        (image,) = victims.take(1)
        for graph in world.graphs[image]:
            for thing in world.scenes[image].things:
                if _beside(graph, thing):
                    return image, graph, thing


def _beside(graph: Json, thing: Thing) -> bool:
    x, y, width, height = (int(graph[side]) for side in ("x", "y", "width", "height"))
    across = thing.x > x + width or x > thing.x + thing.side
    return across or thing.y > y + height or y > thing.y + thing.side
