"""Flickr30k Entities on generated files of the official form: markup, boxes, and every trap in them."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_real_files import rejects, rows

from contract.errors import ParamsError, RawDataError
from data_pipeline.readers.flickr30k import unmarked
from data_pipeline.tables import Entity, Finding, Image, Region, Text

LETTERS = "ab#'&,.é-"


def words(letters: str) -> st.SearchStrategy[str]:
    return st.lists(st.text(letters, min_size=1, max_size=5), min_size=1, max_size=4).map(" ".join)


TYPES = st.lists(st.sampled_from(["people", "bodyparts", "other"]), min_size=1, max_size=2).map("/".join)
PIECE = st.one_of(
    words(f"{LETTERS}[]"), st.tuples(words(f"{LETTERS}["), st.integers(0, 10**6).map(str), TYPES)
)


@given(st.lists(PIECE, max_size=6))
def test_a_marked_phrase_is_its_words(pieces: Sequence[str | tuple[str, str, str]]) -> None:
    """Markup goes, nothing else does; each span spells its phrase."""
    marked = " ".join(p if isinstance(p, str) else f"[/EN#{p[1]}/{p[2]} {p[0]}]" for p in pieces)
    content, phrases = unmarked(marked)
    assert content == " ".join(p if isinstance(p, str) else p[0] for p in pieces)
    expected = [piece for piece in pieces if not isinstance(piece, str)]
    assert [(content[p.start : p.end], p.chain, p.types) for p in phrases] == expected


@pytest.mark.parametrize(
    "line",
    [
        "[/EN#1/people a man",
        "[/EN#x/people a man] walks",
        "[/EN#1/people a [/EN#2/clothing red] man]",
        "[/EN#1 a man] walks",
    ],
)
def test_markup_of_another_form_is_no_caption(line: str) -> None:
    with pytest.raises(ValueError, match="markup"):
        unmarked(line)


def thing(*chains: int, box: tuple[object, ...] = (), **flagged: int) -> str:
    names = "".join(f"<name>{chain}</name>" for chain in chains)
    edges = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=False)
    corners = "".join(f"<{name}>{value}</{name}>" for name, value in edges)
    marks = "".join(f"<{name}>{value}</{name}>" for name, value in flagged.items())
    return f"<object>{names}{f'<bndbox>{corners}</bndbox>' if box else ''}{marks}</object>"


def annotation(*things: str, size: str = "<width>50</width><height>40</height>") -> str:
    return f"<annotation><size>{size}<depth>3</depth></size>{''.join(things)}</annotation>"


def flickr(folder: Path, *captions: str, xml: str | None = None, **lists: str) -> Path:
    """A drop with picture 7, of split train unless `lists` says otherwise."""
    for name in ("Sentences", "Annotations"):
        (folder / name).mkdir()
    (folder / "Sentences/7.txt").write_bytes("\n".join([*captions, ""]).encode())
    (folder / "Annotations/7.xml").write_text(annotation() if xml is None else xml)
    for split, listed in (lists or {"train": "7\n"}).items():
        (folder / f"{split}.txt").write_text(listed)
    (folder / "UNRELATED_CAPTIONS").write_text("# format: <imageID> <sentence number>\n9 5\n")
    return folder


def test_picture_boxes_and_captions(tmp_path: Path) -> None:
    first = "[/EN#5/people Two men] wave to [/EN#0/notvisual him] in [/EN#6/scene/other a yard] ."
    second = "[/EN#8/other # 8] lifts [/EN#5/people the man 's] [/EN#9/bodyparts/people hand]"
    boxes = [
        thing(5, box=(1, 1, 50, 40)),
        thing(5, 9, box=(11, 6, 20, 30)),
        thing(6, scene=1, nobndbox=0),
        thing(8, scene=0, nobndbox=1),
    ]
    found = rows("flickr30k", flickr(tmp_path, first, second, xml=annotation(*boxes)), {"train": 1})
    assert not found[Finding]
    (image,) = found[Image]
    assert image.picture == "7" and image.file == "flickr30k-images/7.jpg" and image.split == "train"
    assert (image.width, image.height) == (50, 40) and image.source_ids == ["flickr:7"]
    assert [(box.region, box.x, box.y, box.w, box.h, box.name) for box in found[Region]] == [
        ("0", 0, 0, 50, 40, "people"),  # corners 1 and 50 are both inside 50 pixels
        ("1", 10, 5, 10, 25, "people"),
    ]
    assert [(text.text, text.role, text.content) for text in found[Text]] == [
        ("7#0", "caption", "Two men wave to him in a yard ."),
        ("7#1", "caption", "# 8 lifts the man 's hand"),
    ]
    contents = {text.text: text.content for text in found[Text]}
    spans = found[Entity]
    assert [(contents[span.text][span.start : span.end], span.regions) for span in spans] == [
        ("Two men", ["0", "1"]),
        ("him", []),
        ("a yard", []),
        ("# 8", []),
        ("the man 's", ["0", "1"]),
        ("hand", ["1"]),
    ]
    assert spans[1].span == "16:/EN#0/notvisual" and spans[5].span.endswith(":/EN#9/bodyparts/people")
    assert len({(span.text, span.span) for span in spans}) == len(spans)


def test_a_box_is_named_by_what_most_phrases_call_it(tmp_path: Path) -> None:
    captions = ["[/EN#1/scene it] and [/EN#2/other a]", "[/EN#1/people he]", "[/EN#1/people/other him]"]
    xml = annotation(thing(1, box=(1, 1, 9, 9)), thing(2, box=(1, 1, 9, 9)), thing(3, box=(1, 1, 9, 9)))
    found = rows("flickr30k", flickr(tmp_path, *captions, xml=xml), {"train": 1})
    assert [box.name for box in found[Region]] == ["people", "", ""]


def test_a_bad_object_costs_that_object(tmp_path: Path) -> None:
    bad = [thing(1, box=(1, 2, 3)), thing(1, box=(1, 2, "x", 4)), thing(1), thing(1, scene=0, nobndbox=0)]
    xml = annotation(*bad, thing(1, box=(1, 1, 2, 2)))
    found = rows("flickr30k", flickr(tmp_path, "[/EN#1/people he]", xml=xml), {"train": 1})
    assert rejects(found) == {"malformed": 4}
    assert [box.region for box in found[Region]] == ["4"] and found[Entity][0].regions == ["4"]
    assert found[Finding][1].id == "7/1" and found[Finding][1].position == "/object/1"


def test_a_bad_caption_costs_that_caption(tmp_path: Path) -> None:
    found = rows("flickr30k", flickr(tmp_path, "[/EN#1/people he", "he", "", "she"), {"train": 1})
    assert [text.text for text in found[Text]] == ["7#1", "7#2", "7#3"]  # the blank one is for validate
    assert [(finding.id, finding.reason) for finding in found[Finding]] == [("7#0", "malformed")]


def test_captions_of_other_pictures_are_rejected(tmp_path: Path) -> None:
    """The official list counts captions from 1."""
    flickr(tmp_path, "[/EN#1/people he] sits", "she sits")
    (tmp_path / "UNRELATED_CAPTIONS").write_text("# format: <imageID> <sentence number>\n7 1\n")
    found = rows("flickr30k", tmp_path, {"train": 1})
    assert rejects(found) == {"unrelated_caption": 1} and found[Finding][0].id == "7#0"
    assert [text.text for text in found[Text]] == ["7#1"] and not found[Entity]


@pytest.mark.parametrize(
    "xml",
    [
        "<annotation><size>",
        "",
        '<!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>',
        '<!DOCTYPE a SYSTEM "file:///etc/hostname"><annotation/>',
        "<a>" * 1000 + "</a>" * 1000,
        "<annotation>" + " " * (1 << 20) + "</annotation>",
        '<?xml version="1.0" encoding="nonsense"?><annotation/>',
    ],
)
def test_xml_that_cannot_be_trusted_costs_the_boxes_of_its_picture(tmp_path: Path, xml: str) -> None:
    found = rows("flickr30k", flickr(tmp_path, "he sits", xml=xml), {"train": 1})
    (lost,) = found[Finding]
    assert (lost.table, lost.id, lost.outcome) == ("regions", "7", "reject") and not found[Region]
    assert lost.reason == "annotation_unusable" and lost.file == "Annotations/7.xml"
    assert [text.content for text in found[Text]] == ["he sits"] and found[Image][0].width is None


def test_a_missing_or_unreadable_file_costs_that_picture_only(tmp_path: Path) -> None:
    flickr(tmp_path, "he sits", train="7\n8\n9\n")
    (tmp_path / "Sentences/9.txt").write_bytes(b"caf\xe9\n")
    found = rows("flickr30k", tmp_path, {"train": 1})
    assert [image.picture for image in found[Image]] == ["7", "8", "9"]
    assert rejects(found) == {"annotation_unusable": 4} and len(found[Text]) == 1
    last = found[Finding][-1]
    assert (last.table, last.id, last.file) == ("texts", "9", "Sentences/9.txt") and "'utf-8'" in last.detail


def test_evaluation_lists_claim_their_pictures_first(tmp_path: Path) -> None:
    flickr(tmp_path, "he sits", train="7\n../7\n", test="7\n7")
    found = rows("flickr30k", tmp_path, {"train": 1, "test": 1})
    assert [(image.picture, image.split) for image in found[Image]] == [("7", "test")]
    assert [text.split for text in found[Text]] == ["test"]
    assert rejects(found) == {"duplicate_picture": 2, "malformed": 1}


def test_lists_and_folders_that_are_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flickr(tmp_path, "he sits", train="7", val="8")
    with pytest.raises(RawDataError, match="test.txt"):
        rows("flickr30k", tmp_path, {"test": 1})
    rows("flickr30k", tmp_path, {"train": 1})
    assert "names it: val" in capsys.readouterr().err
    (tmp_path / "UNRELATED_CAPTIONS").unlink()
    rows("flickr30k", tmp_path, {"train": 1})
    assert "no UNRELATED_CAPTIONS" in capsys.readouterr().err
    (tmp_path / "Sentences/7.txt").unlink()
    (tmp_path / "Sentences").rmdir()
    with pytest.raises(RawDataError, match=r"annotations\.zip"):
        rows("flickr30k", tmp_path, {"train": 1})
    with pytest.raises(ParamsError, match="shuffle"):
        rows("flickr30k", tmp_path, {"train": 1}, shuffle=True)
