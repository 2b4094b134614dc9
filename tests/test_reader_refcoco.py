"""RefCOCO from small pickles of the official form; a pickle is data from strangers and nothing in it runs."""

import json
import pickle
from contextlib import chdir
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pictures
from test_real_files import rejects, rows

from contract.errors import ParamsError, RawDataError
from contract.seeds import rng
from data_pipeline.__main__ import main
from data_pipeline.reading import plain_pickle
from data_pipeline.tables import Entity, Finding, Image, Region, Text

EVERY = {"train": 1, "val": 1, "test": 1}


def sentence(number: int, sent: str = "the red dog", **fields: object) -> dict[str, object]:
    return {"sent_id": number, "sent": sent, "raw": sent.upper(), "tokens": sent.split(), **fields}


def ref(number: int, picture: int = 9, **fields: object) -> dict[str, object]:
    named = {"image_id": picture, "ann_id": 10 * picture, "category_id": 18, "split": "train"}
    file = {"file_name": f"COCO_train2014_{picture:012d}_{number}.jpg", "sent_ids": [number]}
    return {"ref_id": number, **named, **file, "sentences": [sentence(number)], **fields}


def refcoco(
    folder: Path, refs: object, pictures: tuple[int, ...] = (9,), protocol: int = 2, **fields: object
) -> Path:
    images = [
        {"id": one, "file_name": f"COCO_train2014_{one:012d}.jpg", "width": 40, "height": 30}
        for one in pictures
    ]
    boxes = [
        {"id": 10 * one + n, "image_id": one, "category_id": 18, "bbox": [4, 5, 10 + n, 20], "iscrowd": 0}
        for one in pictures
        for n in (0, 1)
    ]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 18, "name": "dog"}], **fields}
    folder.mkdir(exist_ok=True)
    (folder / "instances.json").write_text(json.dumps(content))
    (folder / "refs(umd).p").write_bytes(pickle.dumps(refs, protocol))
    return folder


def read(folder: Path, shards: dict[str, int] | None = None) -> dict[type, list]:
    return rows("refcoco", folder, shards or EVERY, split_by="umd")


# ---- the pickle ----------------------------------------------------------------------------------------

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
)


@given(PLAIN, st.sampled_from([0, 1, 2, 4]))
def test_plain_data_comes_back(tmp_path_factory: pytest.TempPathFactory, data: object, protocol: int) -> None:
    path = tmp_path_factory.getbasetemp() / "data.p"
    path.write_bytes(pickle.dumps(data, protocol))
    assert plain_pickle.load(path) == data


def test_texts_of_python_2(tmp_path: Path) -> None:
    written = b"(lp0\n(dp1\nS'sent'\np2\nS'caf\\xe9'\np3\nsS'raw'\np4\nVcaf\\u00e9\np5\nsa."
    (tmp_path / "refs.p").write_bytes(written)
    assert plain_pickle.load(tmp_path / "refs.p") == [{"sent": "café", "raw": "café"}]
    (tmp_path / "refs.p").write_bytes(b"]q\x00U\x04caf\xe9q\x01a.")
    assert plain_pickle.load(tmp_path / "refs.p") == ["café"]


class Evil:
    """Unpickled by other means, it leaves a file behind."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_pickle_that_runs_something_runs_nothing(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "ran"
    evil = pickle.dumps([ref(1), Evil(marker)], protocol)
    (refcoco(tmp_path, []) / "refs(umd).p").write_bytes(evil)
    with pytest.raises(RawDataError, match=r"refs\(umd\).p: is no plain data") as error:
        read(tmp_path)
    assert "the class" in str(error.value) and not marker.exists()
    pickle.loads(evil)
    assert marker.exists(), "the pickle is harmless: it tests nothing"


SHELL = b"(S'exit 1'\n"
REFUSED = {
    "a global": (b"cos\nsystem\n" + SHELL + b"tR.", "the class os.system"),
    "a global by the stack": (b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93.", "the class os.system"),
    "an instance": (SHELL + b"ios\nsystem\n.", "the class os.system"),
    "a call": (b"]]R.", "the opcode REDUCE"),
    "a state": (b"]}b.", "the opcode BUILD"),
    "an object": (b"(]o.", "the opcode OBJ"),
    "no opcode": (b"\xff.", "the byte 255"),
    "a persistent id": (b"Pname\n.", "the opcode PERSID"),
    "an extension": (b"\x82\x01.", "the opcode EXT1"),
    "a set": (pickle.dumps({1}, 4), "the opcode EMPTY_SET"),
    "bytes": (pickle.dumps(b"x", 4), "the opcode SHORT_BINBYTES"),
}


@pytest.mark.parametrize(("content", "found"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_plain_data_is_named(tmp_path: Path, content: bytes, found: str) -> None:
    (tmp_path / "x.p").write_bytes(content)
    with pytest.raises(RawDataError, match="is no plain data") as error:
        plain_pickle.load(tmp_path / "x.p")
    assert found in str(error.value)


DAMAGED = {
    "empty": b"",
    "a text": b"hello",
    "cut off": pickle.dumps([ref(1)], 2)[:-20],
    "nothing on the stack": b".",
    "a text of gigabytes": b"X\xff\xff\xff\x7fabc.",
    "a key that cannot be one": b"}]Ns.",
    "a number of too many digits": b"I" + b"9" * 5000 + b"\n.",
    "no such memo": b"h\x07.",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_pickle_is_an_error_of_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.p").write_bytes(content)
    with pytest.raises(RawDataError, match="x.p: is damaged, or is no pickle"):
        plain_pickle.load(tmp_path / "x.p")


def test_a_memo_costs_what_is_in_it(tmp_path: Path) -> None:
    """The unpickler in C would allocate all places up to the last, 16 GiB of them."""
    (tmp_path / "x.p").write_bytes(b"]r\xff\xff\xff\x7f.")
    assert plain_pickle.load(tmp_path / "x.p") == []


def test_a_pickle_has_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_pickle, "MAX_BYTES", 10)
    with pytest.raises(RawDataError, match="is too large for a pickle"):
        read(refcoco(tmp_path, [ref(1)]))


# ---- the reader ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_an_expression_is_joined_to_its_box(tmp_path: Path, protocol: int) -> None:
    said = [sentence(5, " the red dog"), sentence(6, "dog")]
    found = read(refcoco(tmp_path, [ref(1, sentences=said)], protocol=protocol))
    (picture,) = found[Image]
    assert picture.file == "images/mscoco/images/train2014/COCO_train2014_000000000009.jpg"
    assert (picture.picture, picture.split, picture.source_ids) == ("9", "train", ["coco:9"])
    assert [(box.region, box.name) for box in found[Region]] == [("90", "dog"), ("91", "dog")]
    assert [(text.text, text.role, text.content, text.about) for text in found[Text]] == [
        ("5", "phrase", " the red dog", ["90"]),
        ("6", "phrase", "dog", ["90"]),
    ]
    assert [(span.text, span.start, span.end, span.regions, span.source) for span in found[Entity]] == [
        ("5", 1, 12, ["90"], "annotated"),
        ("6", 0, 3, ["90"], "annotated"),
    ]
    assert found[Text][1].position == "/0/sentences/1" and not found[Finding]


def test_only_named_splits_are_read_and_the_others_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refs = [ref(1, 9), ref(2, 10, split="testA")]
    found = read(refcoco(tmp_path, refs, pictures=(9, 10, 11)), {"train": 1})
    assert [picture.picture for picture in found[Image]] == ["9"] and len(found[Region]) == 2
    assert [text.text for text in found[Text]] == ["1"] and not found[Finding]
    said = capsys.readouterr().err
    assert "names it: testA\n" in said and "1 pictures of instances.json have no expression" in said


def test_expressions_that_cannot_be_used(tmp_path: Path) -> None:
    endless: list[object] = []
    endless.append(endless)
    refs = [
        ref(1),
        ref(2, ann_id=77),
        ref(3, ann_id=100),  # of picture 10
        ref(1, sentences=[sentence(4)]),
        ref(5, image_id="9"),
        ref(6, sentences=[sentence(6), {"sent_id": 7}, endless, sentence(-1), sentence(9, "\ud800")]),
        endless,
        ref(8, sentences=[sentence(8)] * 1001),
        ref(10**30),
    ]
    found = read(refcoco(tmp_path, refs, pictures=(9, 10)))
    assert [text.text for text in found[Text]] == ["1", "6"]
    assert rejects(found) == {"malformed": 8, "duplicate_id": 1, "unknown_region": 2}
    unknown = [finding for finding in found[Finding] if finding.reason == "unknown_region"]
    assert [(finding.id, finding.detail) for finding in unknown] == [
        ("2", "annotation 77 of picture 9"),
        ("3", "annotation 100 of picture 9"),
    ]
    assert all(len(finding.record) < 2000 and json.loads(finding.record) for finding in found[Finding])


def test_a_box_that_the_reader_refused_is_not_unknown(tmp_path: Path) -> None:
    boxes = [{"id": 90, "image_id": 9, "category_id": 18, "bbox": "wide"}]
    found = read(refcoco(tmp_path, [ref(1)], annotations=boxes))
    assert rejects(found) == {"malformed": 1} and [text.about for text in found[Text]] == [["90"]]


def test_annotations_of_pictures_that_nobody_lists(tmp_path: Path) -> None:
    boxes = [{"id": 1, "image_id": 77, "category_id": 18, "bbox": [1, 1, 2, 2]}]
    found = read(refcoco(tmp_path, [ref(1)], annotations=boxes))
    assert rejects(found) == {"unknown_picture": 1, "unknown_region": 1}


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(RawDataError, match=r"refs\(google\).p") as error:
        rows("refcoco", refcoco(tmp_path, []), EVERY, split_by="google")
    assert "there: refs(umd).p" in str(error.value)
    with pytest.raises(ParamsError, match="split_by"):
        rows("refcoco", tmp_path, EVERY)
    with pytest.raises(RawDataError, match="has another form"):
        read(refcoco(tmp_path, {"refs": []}))
    (refcoco(tmp_path, []) / "instances.json").unlink()
    with pytest.raises(RawDataError, match=r"holds no instances.json"):
        read(tmp_path)


# ---- splits that share a picture -----------------------------------------------------------------------


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Picture 9 has expressions of train and val, picture 10 of train only; read to validate has run."""
    refs = [ref(1, 9), ref(2, 9, ann_id=91, split="val"), ref(3, 10)]
    folder = refcoco(tmp_path / "raw", refs, pictures=(9, 10))
    place = folder / "images/mscoco/images/train2014"
    place.mkdir(parents=True)
    for number in (9, 10):
        noise = rng("refcoco", number).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Pictures.fromarray(noise).save(place / f"COCO_train2014_{number:012d}.jpg")
    drop = {"shards": {"train": 1, "val": 1}}
    dataset = {"format": "refcoco", "folder": "raw", "raw": [drop], "options": {"split_by": "umd"}}
    settings = {"workers": 1, "datasets": {"refcocog": dataset}, "tokenizer": {"name": "words.json"}}
    encoder = {"architecture": "vit", "model": "none", "weights": "random", "size": 8, "grid": 1}
    settings |= {"encoders": {"vit": encoder}, "negatives": {"encoder": "vit"}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings))
    with chdir(tmp_path):
        for stage in (["read", "refcocog"], ["scan", "refcocog"], ["images"], ["validate", "refcocog"]):
            main(stage)
    return tmp_path


def test_evaluation_wins_a_shared_picture(shared: Path) -> None:
    """The leak of the google split: its training expressions go, and say why."""
    catalogue = pl.read_parquet(shared / "images/catalogue.parquet")
    assert catalogue.select("picture", "split").sort("picture").rows() == [("10", "train"), ("9", "val")]
    texts = pl.read_parquet(shared / "validate/refcocog/texts.parquet")
    assert texts.select("text", "picture", "split").rows() == [("2", "9", "val"), ("3", "10", "train")]
    found = pl.concat(
        pl.read_parquet(shared / place / "findings.parquet").select("table", "id", "reason")
        for place in ("images", "validate/refcocog")
    )
    assert sorted(found.rows()) == [
        ("entities", "1/whole", "text_rejected"),
        ("images", "9", "in_evaluation_split"),
        ("images", "9", "picture_rejected"),
        ("texts", "1", "split_differs"),
    ]


def test_a_shared_picture_has_each_box_once(shared: Path) -> None:
    regions = pl.read_parquet(shared / "validate/refcocog/regions.parquet")
    assert regions.select("picture", "region").rows() == [
        ("9", "90"),
        ("9", "91"),
        ("10", "100"),
        ("10", "101"),
    ]
