"""Chosen pictures and texts → the index tensors of a batch (features are read elsewhere)."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Protocol

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray
from torch import Tensor

from contract.column import Transform
from contract.geometry import affine
from contract.manifest import FeatureManifest
from contract.record import NegText, Record, Text
from training.batch import EDIT_NAMES, KINDS, key_ids
from training.batching import wording
from training.batching.needs import Need
from training.shards import Place

MEMBERS = 5  # of a CIRR image set without its reference


class Chosen(Struct):
    """A text of a batch. picture: into the plan's anchors. target, members: pictures that an edit names.
    swapped: changes that make it false; near: texts of other pictures, mined for it; kind: what is false in
    it, "" in a text of a record. turn: how often the text was shown before. plain: the text with one
    word for each thing that has several, where it is shown with another.
    """

    text: Text
    picture: int
    target: Place | None = None
    members: list[Place] = []
    swapped: list[NegText] = []
    near: list[Text] = []
    kind: str = ""
    turn: int = 0
    plain: Text | None = None

    @property
    def said(self) -> Text:
        """By whose tokens the text is known to say the same as others; its spans are those of `text`."""
        if self.plain is None or len(self.plain.span_tokens) != len(self.text.span_tokens):
            return self.text  # of a span the tokenizer may have left nothing
        return self.plain


FALSE: dict[str, Callable[[Chosen], Sequence[NegText | Text]]] = {  # field of the batch → what is false
    "neg_text": lambda entry: entry.text.negatives,
    "swapped": lambda entry: entry.swapped,
    "near_text": lambda entry: entry.near,
}


def with_negatives(
    chosen: Sequence[Chosen], most: Mapping[str, int]
) -> tuple[list[Chosen], dict[str, Tensor]]:
    """The texts with false ones of each appended, and their rows [T, most] by field of FALSE.

    An appended text is of its original's picture, and no task takes it by itself.
    """
    everything = list(chosen)
    rows = {
        name: _append(everything, [of(entry)[: most[name]] for entry in chosen if name in most])
        for name, of in FALSE.items()
    }
    return everything, {
        name: torch.from_numpy(_table(of_texts, most.get(name, 0), rows=len(everything)))
        for name, of_texts in rows.items()
    }


def _append(everything: list[Chosen], false: Sequence[Sequence[NegText | Text]]) -> list[range]:
    """Append what is false instead of each of the first texts, and tell the rows of each."""
    rows = []
    for number, texts in enumerate(false):
        rows.append(range(len(everything), len(everything) + len(texts)))
        everything += [_instead(everything[number], text) for text in texts]
    return rows


def _instead(entry: Chosen, false: NegText | Text) -> Chosen:
    alone = Text(id=entry.text.id, role="phrase", text=false.text, tokens=false.tokens)
    return Chosen(alone, entry.picture, kind=false.kind if isinstance(false, NegText) else "")


def texts(chosen: Sequence[Chosen], answers: dict[str, int], max_tokens: int) -> dict[str, Any]:
    """Tokens, their mask, and what is known of each text."""
    kept = [entry.text.tokens[:max_tokens] for entry in chosen]
    longest = max((len(tokens) for tokens in kept), default=0) or 1
    lengths = np.array([len(ids) for ids in kept], np.int64)
    known = [answers.get(entry.text.answer or "", -1) for entry in chosen]
    return {
        "tokens": torch.from_numpy(_table(kept, longest, 0)),
        "token_mask": torch.from_numpy(np.arange(longest) < lengths[:, None]),
        "words": wording.ids([entry.said.tokens[:max_tokens] for entry in chosen]),
        "text_picture": _ints([entry.picture for entry in chosen]),
        "text_id": [entry.text.id for entry in chosen],
        "text_type": [entry.text.type for entry in chosen],
        "answer": _ints(known),
        "kind": _ints([KINDS.index(entry.kind) if entry.kind else -1 for entry in chosen]),
    }


def rows(chosen: Sequence[Chosen], needs: Mapping[str, Need]) -> dict[str, Tensor]:
    """Task → which of the texts it can use."""
    return {
        task: _ints([row for row, entry in enumerate(chosen) if need.usable(entry.text)])
        for task, need in needs.items()
    }


class Sized(Protocol):
    """What has the size of a picture, in pixels."""

    width: int
    height: int


def places(pictures: Sequence[Sized], columns: Mapping[str, FeatureManifest]) -> dict[str, Tensor]:
    """Per column [P, 4]: scale and shift, x before y, of each picture's way into the encoder's input."""
    return {
        name: torch.from_numpy(
            np.array(
                [_place(known.transform, picture.width, picture.height) for picture in pictures], np.float32
            )
        )
        for name, known in columns.items()
    }


@lru_cache(maxsize=4096)  # pictures have few sizes
def _place(transform: Transform, width: int, height: int) -> tuple[float, ...]:
    into = affine(transform, width, height)
    return (*into.scale, *into.shift)


def regions(
    chosen: Sequence[Chosen], records: Sequence[Record], wanted: bool, max_tokens: int
) -> dict[str, Any]:
    """Boxes of the anchors, entity spans of the texts, and the links between them."""
    boxes: list[tuple[float, ...]] = []
    box_picture: list[int] = []
    crowd: list[bool] = []
    first: list[int] = []
    for number, record in enumerate(records if wanted else ()):
        first.append(len(boxes))
        boxes += record.regions.box
        box_picture += [number] * len(record.regions.box)
        crowd += [row in record.regions.crowd for row in range(len(record.regions.box))]
    spans: list[tuple[int, int]] = []
    span_text: list[int] = []
    span_said: list[list[int]] = []
    links: list[tuple[int, int]] = []
    about: list[tuple[int, int]] = []
    for number, entry in enumerate(chosen if wanted else ()):
        base = first[entry.picture]
        about += [(number, base + row) for row in entry.text.about]
        said = entry.said
        found = zip(entry.text.span_tokens, entry.text.span_regions, said.span_tokens, strict=True)
        for span, rows, (start, end) in found:
            if span[1] <= max_tokens:
                links += [(len(spans), base + row) for row in rows]
                spans.append(span)
                span_text.append(number)
                span_said.append(said.tokens[start:end])
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "box_picture": _ints(box_picture),
        "crowd": torch.tensor(crowd, dtype=torch.bool),
        "spans": _ints(spans).reshape(-1, 2),
        "span_text": _ints(span_text),
        "span_words": wording.ids(span_said),
        "span_box": _ints(links).reshape(-1, 2),
        "about": _ints(about).reshape(-1, 2),
    }


def named(chosen: Sequence[Chosen], records: Sequence[Record], wanted: bool) -> dict[str, Tensor]:
    """Texts with the boxes of what they name, and of all else in the picture that goes by the same name.

    That is what must be hidden if nothing is to be left that the text is true of.
    """
    first = np.cumsum([0, *(len(record.regions.id) for record in records)])
    found = [
        (number, int(first[entry.picture]) + row)
        for number, entry in enumerate(chosen if wanted else ())
        for row in called_alike(_linked(entry.text), records[entry.picture].regions.name)
    ]
    return {"named": _ints(found).reshape(-1, 2)}


def _linked(text: Text) -> set[int]:
    """Rows of the regions that a text is linked to."""
    return {*text.about, *(row for rows in text.span_regions for row in rows)}


def called_alike(rows: Collection[int], names: Sequence[str]) -> list[int]:
    """Rows of a picture's regions: these, and all others that go by a name of theirs."""
    called = {names[row] for row in rows} - {""}
    return [row for row, name in enumerate(names) if row in rows or name in called]


def targets(
    chosen: Sequence[Chosen], rows: Mapping[Place, int], keys: Sequence[str], dataset: str
) -> dict[str, Any]:
    """Targets and image sets as rows of the batch's pictures, which have these keys in their dataset, and by
    their own keys.
    """
    members = [[rows[place] for place in entry.members[:MEMBERS] if place in rows] for entry in chosen]
    hard = [rows.get(entry.target, -1) if entry.target else -1 for entry in chosen]
    soft = [
        (text, row)
        for text, entry in enumerate(chosen)
        for row, key in enumerate(keys if entry.target else ())
        if key in entry.text.target[1:]
    ]
    named = [
        (text, key, EDIT_NAMES.index(what))
        for text, entry in enumerate(chosen)
        for key, what in (_edit_names(entry.text) if entry.target else ())
    ]
    text, key, what = zip(*named, strict=True) if named else ((), (), ())
    return {
        "target": _ints(hard),
        "members": torch.from_numpy(_table(members, MEMBERS)),
        "soft": _ints(soft).reshape(-1, 2),
        "edit_key": torch.stack([_ints(text), key_ids(key, dataset), _ints(what)], 1),
    }


def _edit_names(edit: Text) -> Iterator[tuple[str, str]]:
    """The keys that an edit names, and as what."""
    for number, key in enumerate(edit.target):
        yield key, "soft" if number else "target"
    for key in edit.members:
        yield key, "member"


def negatives(
    chosen: Sequence[Chosen], near: Sequence[Sequence[Place]], rows: Mapping[Place, int], count: int
) -> dict[str, Any]:
    """Negative pictures [T, K] from each anchor's resolved neighbours."""
    found = [[rows[place] for place in of_anchor[:count]] for of_anchor in near]
    return {"neg_picture": torch.from_numpy(_table([found[entry.picture] for entry in chosen], count))}


def _table(
    lists: Sequence[Sequence[int]], width: int, fill: int = -1, rows: int | None = None
) -> NDArray[np.int64]:
    """Lists of at most `width` numbers as the first rows of one array, filled up. rows: of it, if more."""
    table = np.full((len(lists) if rows is None else rows, width), fill, np.int64)
    lengths = np.zeros(len(table), np.int64)
    lengths[: len(lists)] = np.fromiter(map(len, lists), np.int64, len(lists))
    table[np.arange(width) < lengths[:, None]] = np.fromiter(chain.from_iterable(lists), np.int64)
    return table


def _ints(values: Sequence[Any]) -> Tensor:
    return torch.from_numpy(np.array(values, np.int64))
