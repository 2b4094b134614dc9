"""THE schema: one sample is one picture with its regions and texts. Codec, checks and fingerprint follow.

Characters are the truth of a span; token spans are derived from them with the manifest's tokenizer.
Every span is half-open. Every id is a string. Boxes follow `contract.boxes`.
"""

import hashlib
from itertools import chain
from typing import Any, Literal

import msgspec
from msgspec import Struct

Role = Literal["question", "statement", "caption", "phrase", "edit"]
Kind = Literal["given", "attribute", "relation", "object", "number", "side"]
FORMAT_VERSION: Literal[1] = 1


class Strict(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A part of the record in which an unknown field is an error and a default is not written.

    A record holds no cycles, so the garbage collector need not look for one in each of millions.
    """


class Regions(Strict):
    """Parallel lists, one entry per region of the picture."""

    id: list[str] = []
    box: list[tuple[float, float, float, float]] = []
    name: list[str] = []  # "" if none
    crowd: list[int] = []  # rows kept out of contrast


class NegText(Strict):
    """A text that is false of the picture, or of the regions that its original is about."""

    text: str
    tokens: list[int]
    kind: Kind


class Text(Strict):
    """A text that hangs on this picture. The four `span_*` lists are parallel."""

    id: str
    role: Role
    text: str
    tokens: list[int]  # specials excluded
    span_chars: list[tuple[int, int]] = []
    span_tokens: list[tuple[int, int]] = []
    span_regions: list[list[int]] = []  # rows of Regions; several for a chain, none if unlinked
    span_source: Literal["annotated", "matched"] = "annotated"
    about: list[int] = []  # rows of Regions that the WHOLE text describes
    answer: str | None = None
    type: str = ""  # "query/attr"
    target: list[str] = []  # edit: key of the hard target, then of soft ones
    members: list[str] = []  # edit: keys of the image set without the reference
    negatives: list[NegText] = []  # given by the dataset


class Record(Strict):
    """`<key>.json` of a record shard."""

    v: Literal[1]
    id: str  # the dataset's own
    width: int
    height: int
    sha256: str  # of the picture file
    group: str  # identity across datasets
    regions: Regions
    texts: list[Text]


class Near(Strict):
    """Neighbours, nearest first, as parallel lists; text id "" = the whole picture.

    content, tokens: what the texts say, specials excluded; none where pictures are meant.
    """

    key: list[str] = []
    text: list[str] = []
    score: list[float] = []
    content: list[str] = []
    tokens: list[list[int]] = []


class TextNegatives(Strict):
    """Negatives of one text. near: texts of other pictures; of an edit the other pictures of its set."""

    near: Near
    swapped: list[NegText] = []


class Negatives(Strict):
    """`<key>.neg.json` of a negatives shard."""

    pictures: Near
    texts: dict[str, TextNegatives] = {}


def fingerprint() -> str:
    """16 hex digits that change with any field of the schema, its type or its order, and with no wording."""
    schema = [_structure(msgspec.json.schema(kind)) for kind in (Record, Negatives)]
    return hashlib.sha256(msgspec.json.encode(schema)).hexdigest()[:16]


def _structure(schema: Any) -> Any:
    """A JSON schema without its docstrings and titles (a *field* of such a name is a dict, and stays)."""
    if isinstance(schema, list):
        return [_structure(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    wording = [name for name in ("title", "description") if isinstance(schema.get(name), str)]
    return {name: _structure(part) for name, part in schema.items() if name not in wording}


def problems(record: Record, vocabulary: int | None = None) -> list[str]:
    """What the types cannot say: parallel lists, ranges, boxes. Empty when the record is sound.

    vocabulary: size of the tokenizer's; every token must lie below it, if it is known.
    """
    if _is_sound(record, vocabulary):
        return []
    found = [] if record.width > 0 and record.height > 0 else ["width and height must be positive"]
    found += _region_problems(record.regions)
    for text in record.texts:
        wrong = _text_problems(text, len(record.regions.id), vocabulary)
        found += [f"text {text.id}: {what}" for what in wrong]
    ids = [text.id for text in record.texts]
    return found + (["text ids repeat"] if len(set(ids)) < len(ids) else [])


def _is_sound(record: Record, vocabulary: int | None) -> bool:
    """Whether there is nothing to say. Every reader asks this of every record, so it is written for speed."""
    regions, ids = record.regions, set()
    tokens: list[int] = []
    rows: list[int] = []
    for text in record.texts:
        spans = text.span_tokens
        if not len(text.span_chars) == len(spans) == len(text.span_regions):
            return False
        if spans and not (_inside(text.span_chars, len(text.text)) and _inside(spans, len(text.tokens))):
            return False
        ids.add(text.id)
        tokens += text.tokens
        rows += text.about
        for linked in text.span_regions:
            rows += linked
        for negative in text.negatives:
            tokens += negative.tokens
    return (
        record.width > 0
        and record.height > 0
        and len(ids) == len(record.texts)
        and not _outside(tokens, vocabulary)
        and not _outside(rows, len(regions.id))
        and not _region_problems(regions)
    )


def _region_problems(regions: Regions) -> list[str]:
    found = []
    if not len(regions.id) == len(regions.box) == len(regions.name):
        found.append("regions: id, box and name differ in length")
    for name, (x0, y0, x1, y1) in zip(regions.id, regions.box, strict=False):
        if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
            found.append(f"region {name}: box {(x0, y0, x1, y1)} is not a valid xyxy in [0, 1]")
    if any(not 0 <= row < len(regions.id) for row in regions.crowd):
        found.append("regions: crowd names a row that is not there")
    return found


def _text_problems(text: Text, regions: int, vocabulary: int | None) -> list[str]:
    found = []
    if _outside(text.tokens, vocabulary) or any(_outside(n.tokens, vocabulary) for n in text.negatives):
        found.append("holds a token that the tokenizer does not know")
    if not len(text.span_chars) == len(text.span_tokens) == len(text.span_regions):
        found.append("span lists differ in length")
    if not _inside(text.span_chars, len(text.text)):
        found.append("character span out of range")
    if not _inside(text.span_tokens, len(text.tokens)):
        found.append("token span out of range")
    if _outside(text.about, regions) or _outside(list(chain.from_iterable(text.span_regions)), regions):
        found.append("names a region that is not there")
    return found


def _outside(numbers: list[int], limit: int | None) -> bool:
    """Whether any is negative, or not below the limit if there is one."""
    return bool(numbers) and (min(numbers) < 0 or (limit is not None and max(numbers) >= limit))


def _inside(spans: list[tuple[int, int]], length: int) -> bool:
    """Whether each is a half-open span of at least one place below the length."""
    for start, end in spans:  # noqa: SIM110 (a third of the time of `all` with a generator)
        if not 0 <= start < end <= length:
            return False
    return True
