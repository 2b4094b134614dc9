"""What a reader passes on accounts for the records of its files: rows + rejects + passed over, none twice."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_reader_coco import annotation, caption, coco
from test_reader_fgclip import boxed, expression, fgovd, finehard, picture
from test_reader_flickr30k import annotation as boxes_file
from test_reader_flickr30k import flickr, thing
from test_reader_gqa import gqa, question
from test_reader_refcoco import ref, refcoco
from test_readers import cirr, pair
from test_real_files import rows

from data_pipeline.tables import ROWS, Finding, PassedOver

Records = dict[str, int]  # table → records of it in the files
Kinds = list[str]
SOUND, BROKEN, STRANGE = "sound", "broken", "strange"  # strange: for another split, picture or purpose


def write_gqa(folder: Path, kinds: Kinds) -> Records:
    box = {"x": 1, "y": 2, "w": 3, "h": 4}
    things = {SOUND: box, BROKEN: {"x": 1}, STRANGE: box | {"name": "cat"}}
    graph = {"width": 9, "height": 9, "objects": {str(n): things[kind] for n, kind in enumerate(kinds)}}
    asked = {SOUND: question(), BROKEN: {"imageId": "7"}, STRANGE: question(imageId="8")}
    gqa(folder, {str(n): asked[kind] for n, kind in enumerate(kinds)}, {"7": graph, "9": {"objects": {}}})
    return {"texts": len(kinds), "regions": len(kinds) + 1}


def write_cirr(folder: Path, kinds: Kinds) -> Records:
    changes = {SOUND: {}, BROKEN: {"caption": None}, STRANGE: {"reference": "train-1"}}
    cirr(folder, *(pair(n, **changes[kind]) for n, kind in enumerate(kinds)))
    return {"texts": len(kinds)}


def write_coco(folder: Path, kinds: Kinds) -> Records:
    changes = {SOUND: {}, BROKEN: {"image_id": None}, STRANGE: {"image_id": 77}}
    told = [caption(n, **changes[kind]) for n, kind in enumerate(kinds)]
    coco(folder, [annotation(n, **changes[kind]) for n, kind in enumerate(kinds)], told)
    return {"images": 1, "texts": len(kinds), "regions": len(kinds)}


def write_refcoco(folder: Path, kinds: Kinds) -> Records:
    """Two boxes a picture; a picture none of whose expressions is read is passed over with them."""
    changes = {SOUND: {}, BROKEN: {"split": None}, STRANGE: {"split": "val"}}
    refs = [ref(n, picture=n, **changes[kind]) for n, kind in enumerate(kinds)]
    refcoco(folder, refs, tuple(range(len(kinds))))
    return {"images": len(kinds), "texts": len(kinds), "regions": 2 * len(kinds)}


def write_flickr(folder: Path, kinds: Kinds) -> Records:
    things = {SOUND: thing(1, box=(1, 1, 5, 5)), BROKEN: thing(1), STRANGE: thing(1, nobndbox=1)}
    lines = {SOUND: "[/EN#1/people a man]", BROKEN: "[/EN#1/people a man", STRANGE: "nobody"}
    flickr(folder, *(lines[kind] for kind in kinds), xml=boxes_file(*(things[kind] for kind in kinds)))
    return {"images": 1, "texts": len(kinds), "regions": len(kinds)}


def write_finehard(folder: Path, kinds: Kinds) -> Records:
    boxes = {SOUND: boxed(0, 0, 1, 1), BROKEN: boxed(0), STRANGE: boxed(0, 0, 1, 1, short_expr=None)}
    pictures = {
        SOUND: picture(*(boxes[kind] for kind in kinds)),
        BROKEN: {"caption": "no path"},
        STRANGE: picture(f_path="x.jpg"),
    }
    finehard(folder, *(pictures[kind] for kind in (SOUND, *kinds)))
    return {"images": len(kinds) + 1, "regions": len(kinds) * (1 + kinds.count(SOUND))}


def write_fgovd(folder: Path, kinds: Kinds) -> Records:
    made = {SOUND: expression(7), BROKEN: expression(7, 1), STRANGE: expression(8, neg_expression=[])}
    fgovd(folder, expression(7), *(made[kind] for kind in kinds))
    return {"texts": len(kinds) + 1}


def write_visual_genome(folder: Path, kinds: Kinds) -> Records:
    told = {"x": 1, "y": 2, "width": 3, "height": 4, "phrase": "a cat"}
    phrases = {SOUND: told, BROKEN: {}, STRANGE: told | {"phrase": ""}}
    box = {"x": 1, "y": 2, "w": 3, "h": 4}
    things = {SOUND: box, BROKEN: {}, STRANGE: box | {"names": []}}
    regions = [phrases[kind] | {"region_id": n} for n, kind in enumerate(kinds)]
    objects = [things[kind] | {"object_id": n} for n, kind in enumerate(kinds)]
    files = {
        "image_data": [{"image_id": 1, "width": 9, "height": 9}],
        "region_descriptions": [{"id": 1, "regions": regions}],
        "objects": [{"image_id": 1, "objects": objects}, {"objects": []}],
    }
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    phrased = len(kinds) - kinds.count(BROKEN)  # each has a box of its own
    return {"images": 1, "texts": len(kinds), "regions": phrased + len(kinds) + 1}


FORMATS: dict[str, tuple[Callable[[Path, Kinds], Records], str, dict[str, object]]] = {
    "gqa": (write_gqa, "train", {}),
    "cirr": (write_cirr, "val", {}),
    "coco": (write_coco, "train", {}),
    "refcoco": (write_refcoco, "train", {"split_by": "umd"}),
    "flickr30k": (write_flickr, "train", {}),
    "finehard": (write_finehard, "train", {}),
    "fgovd": (write_fgovd, "test", {}),
    "visual_genome": (write_visual_genome, "train", {}),
}


@pytest.mark.parametrize("form", FORMATS)
@given(kinds=st.lists(st.sampled_from([SOUND, BROKEN, STRANGE]), min_size=1, max_size=6))
def test_every_record_is_a_row_a_reject_or_passed_over(
    tmp_path_factory: pytest.TempPathFactory, form: str, kinds: Kinds
) -> None:
    write, split, options = FORMATS[form]
    folder = tmp_path_factory.mktemp(form)
    records = write(folder, kinds)
    found = rows(form, folder, {split: 1}, **options)
    counted = Counter({table: len(found[kind]) for table, kind in ROWS.items()})
    counted.update(finding.table for finding in found[Finding] if finding.outcome == "reject")
    for passed in found[PassedOver]:
        counted[passed.table] += passed.number
    assert {table: counted[table] for table in records} == records
