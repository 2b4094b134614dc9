"""Chosen pictures and texts → the index tensors of a batch (features are read elsewhere)."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from msgspec import Struct
from torch import Tensor

from contract.geometry import affine
from contract.manifest import FeatureManifest
from contract.record import NegText, Record, Text
from training.batching.needs import Need
from training.shards import Place

MEMBERS = 5  # of a CIRR image set without its reference


class Chosen(Struct):
    """A text of a batch. picture: into the plan's anchors. target, members: pictures that an edit names."""

    text: Text
    picture: int
    target: Place | None = None
    members: list[Place] = []


def with_negatives(chosen: Sequence[Chosen], count: int) -> tuple[list[Chosen], Tensor]:
    """The texts with up to `count` that their dataset gives as false appended, and these' rows [T, count].

    An appended text is of its original's picture, and no task takes it by itself.
    """
    everything = list(chosen)
    table = np.full((len(chosen), count), -1, np.int64)
    for row, entry in zip(table, chosen, strict=True):
        given = entry.text.negatives[:count]
        row[: len(given)] = np.arange(len(everything), len(everything) + len(given))
        everything += [Chosen(_alone(entry.text.id, negative), entry.picture) for negative in given]
    none = np.full((len(everything) - len(chosen), count), -1, np.int64)
    return everything, torch.from_numpy(np.concatenate([table, none]))


def _alone(of: str, negative: NegText) -> Text:
    return Text(id=of, role="phrase", text=negative.text, tokens=negative.tokens)


def texts(chosen: Sequence[Chosen], answers: dict[str, int], max_tokens: int) -> dict[str, Any]:
    """Tokens, their mask, and what is known of each text."""
    kept = [entry.text.tokens[:max_tokens] for entry in chosen]
    longest = max((len(tokens) for tokens in kept), default=0) or 1
    tokens = np.zeros((len(kept), longest), np.int64)
    for row, ids in zip(tokens, kept, strict=True):
        row[: len(ids)] = ids
    lengths = np.array([len(ids) for ids in kept], np.int64)
    known = [answers.get(entry.text.answer or "", -1) for entry in chosen]
    return {
        "tokens": torch.from_numpy(tokens),
        "token_mask": torch.from_numpy(np.arange(longest) < lengths[:, None]),
        "text_picture": _ints([entry.picture for entry in chosen]),
        "text_id": [entry.text.id for entry in chosen],
        "text_type": [entry.text.type for entry in chosen],
        "answer": _ints(known),
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
        name: torch.tensor([_place(known, picture.width, picture.height) for picture in pictures])
        for name, known in columns.items()
    }


def _place(column: FeatureManifest, width: int, height: int) -> tuple[float, ...]:
    into = affine(column.transform, width, height)
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
    links: list[tuple[int, int]] = []
    about: list[tuple[int, int]] = []
    for number, entry in enumerate(chosen if wanted else ()):
        base = first[entry.picture]
        about += [(number, base + row) for row in entry.text.about]
        for span, rows in zip(entry.text.span_tokens, entry.text.span_regions, strict=True):
            if span[1] <= max_tokens:
                links += [(len(spans), base + row) for row in rows]
                spans.append(span)
                span_text.append(number)
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "box_picture": _ints(box_picture),
        "crowd": torch.tensor(crowd, dtype=torch.bool),
        "spans": _ints(spans).reshape(-1, 2),
        "span_text": _ints(span_text),
        "span_box": _ints(links).reshape(-1, 2),
        "about": _ints(about).reshape(-1, 2),
    }


def targets(chosen: Sequence[Chosen], rows: Mapping[Place, int], keys: Sequence[str]) -> dict[str, Any]:
    """Targets and image sets as rows of the batch's pictures, which have these keys."""
    members = np.full((len(chosen), MEMBERS), -1, np.int64)
    for row, entry in zip(members, chosen, strict=True):
        found = [rows[place] for place in entry.members[:MEMBERS]]
        row[: len(found)] = found
    hard = [rows[entry.target] if entry.target else -1 for entry in chosen]
    soft = [
        (text, row)
        for text, entry in enumerate(chosen)
        for row, key in enumerate(keys if entry.target else ())
        if key in entry.text.target[1:]
    ]
    return {
        "target": _ints(hard),
        "members": torch.from_numpy(members),
        "soft": _ints(soft).reshape(-1, 2),
    }


def negatives(
    chosen: Sequence[Chosen], near: Sequence[Sequence[Place]], rows: Mapping[Place, int], count: int
) -> dict[str, Any]:
    """Negative pictures [T, K] from each anchor's resolved neighbours."""
    table = np.full((len(chosen), count), -1, np.int64)
    for row, entry in zip(table, chosen, strict=True):
        found = [rows[place] for place in near[entry.picture]][:count]
        row[: len(found)] = found
    return {"neg_picture": torch.from_numpy(table)}


def _ints(values: Sequence[Any]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)
