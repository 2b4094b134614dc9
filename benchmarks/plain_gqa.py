"""GQA's two files → rows, the plain way: `json.load` and a loop. What `benchmarks.reading` compares with.

    python -m benchmarks.plain_gqa FOLDER

Prints the seconds that load and loop took, and a digest of the rows.
"""

import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.rows_digest import EVERY, digest

QUESTIONS, GRAPHS = "train_balanced_questions.json", "train_sceneGraphs.json"
Rows = defaultdict[str, list[tuple[Any, ...]]]


def main(folder: Path) -> None:
    start = time.perf_counter()
    rows: Rows = defaultdict(list)
    read_graphs(folder / GRAPHS, rows)
    read_questions(folder / QUESTIONS, rows)
    seconds = time.perf_counter() - start
    digests = {table: digest(len(found), found[::EVERY]) for table, found in rows.items()}
    print(json.dumps({"seconds": seconds, "rows": digests}))


def read_graphs(path: Path, rows: Rows) -> None:
    """Into images and regions."""
    with path.open() as file:
        graphs = json.load(file)
    for picture, graph in graphs.items():
        image, at = f"images/{picture}.jpg", f"/{picture}"
        size = graph["width"], graph["height"]
        rows["images"].append((picture, image, "train", *size, [f"vg:{picture}"], 0, path.name, at))
        for name, thing in graph["objects"].items():
            box = float(thing["x"]), float(thing["y"]), float(thing["w"]), float(thing["h"])
            about, place = (thing["name"], thing["attributes"], False), f"{at}/objects/{name}"
            rows["regions"].append((picture, name, *box, *about, [], 0, path.name, place, False))


def read_questions(path: Path, rows: Rows) -> None:
    """Into texts and entities: the question and its full answer, with their spans."""
    with path.open() as file:
        questions = json.load(file)
    for name, found in questions.items():
        types, spans = found["types"], found["annotations"]
        kind, end = f"{types['structural']}/{types['semantic']}", ("train", 0, path.name, f"/{name}")
        asked, answer, said = found["question"], found["answer"], found["fullAnswer"]
        picture, full = found["imageId"], f"{name}.full"
        rows["texts"].append((name, picture, "question", asked, answer, kind, [], [], [], [], *end))
        rows["texts"].append((full, picture, "statement", said, None, kind, [], [], [], [], *end))
        add_spans(rows, name, asked, spans["question"], *end[1:])
        add_spans(rows, full, said, spans["fullAnswer"], *end[1:])


def add_spans(rows: Rows, text: str, content: str, spans: dict[str, str], *at: int | str) -> None:
    tokens = content.split()
    for key, region in spans.items():
        a, _, b = key.partition(":")
        first, last = int(a), int(b or int(a) + 1)
        start = len(" ".join(tokens[:first])) + (first > 0)
        end = start + len(" ".join(tokens[first:last]).rstrip("?,."))
        rows["entities"].append((text, start, end, key, None, [region], "annotated", *at))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
