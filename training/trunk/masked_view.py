"""A picture in which what a text names is hidden on every column: false of it, and else the same picture.

The frozen encoders have mixed the hidden cells into CLS, so the mean of the cells that are left stands in its
place. What they mixed into the neighbouring cells stays: `python -m training.probe --masked` measures it.

Legend: P pictures, V views, R boxes, E links, N tokens of a column.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from msgspec import structs
from torch import Tensor

from training.batch import Batch
from training.modules.pooling import masked_mean
from training.modules.regions import into_input
from training.trunk.picture import Column
from training.trunk.trunk import Shared

Hidden = dict[str, Tensor]  # column → [V,N] bool: the tokens that a view hides
EDGE = 1e-6  # of a cell: rounding of a box that ends on its edge does not touch the next


def look(shared: Shared, batch: Batch, text_V: Tensor) -> Shared:
    """The pictures and, behind them, two views of the picture of each of these texts: what it names hidden,
    then as much hidden elsewhere.
    """
    assert shared.look is not None
    columns, picture = shared.look.columns, batch.text_picture[text_V]
    hidden, elsewhere = of_named(batch, columns, text_V), beside_named(batch, columns, text_V)
    both = {name: torch.cat([tokens, elsewhere[name]]) for name, tokens in hidden.items()}
    return _with(shared, *shared.look(masked(batch, columns, picture.repeat(2), both)))


def _with(shared: Shared, tokens_VNH: Tensor, visible_VN: Tensor) -> Shared:
    """More pictures behind the others, padded to the longest."""
    most = max(shared.picture.shape[1], tokens_VNH.shape[1])
    pictures = [F.pad(part, (0, 0, 0, most - part.shape[1])) for part in (shared.picture, tokens_VNH)]
    masks = [F.pad(part, (0, most - part.shape[1])) for part in (shared.visible, visible_VN)]
    return structs.replace(shared, picture=torch.cat(pictures), visible=torch.cat(masks))


def of_named(batch: Batch, columns: Sequence[Column], text_V: Tensor) -> Hidden:
    """What the things cover that texts name."""
    return covering(batch, columns, batch.text_picture[text_V], batch.boxes, _links(batch, text_V))


def beside_named(batch: Batch, columns: Sequence[Column], text_V: Tensor) -> Hidden:
    """What the same boxes cover once the picture is turned by half a circle, and no thing that is named."""
    boxes, named = 1 - batch.boxes[:, [2, 3, 0, 1]], of_named(batch, columns, text_V)
    found = covering(batch, columns, batch.text_picture[text_V], boxes, _links(batch, text_V))
    return {name: tokens & ~named[name] for name, tokens in found.items()}


def _links(batch: Batch, text_V: Tensor) -> Tensor:
    """[E,2] (place among these texts, box) of what each names."""
    place = text_V.new_full((len(batch.tokens),), -1)
    place[text_V] = torch.arange(len(text_V), device=text_V.device)
    text, box = batch.named.unbind(1)
    return torch.stack([place[text], box], dim=1)[place[text] >= 0]


def covering(
    batch: Batch, columns: Sequence[Column], picture_V: Tensor, boxes_R4: Tensor, links_E2: Tensor
) -> Hidden:
    """The visible tokens of pictures that boxes touch. boxes: of the batch's R; links: (into V, into R)."""
    found = {}
    for column in columns:
        place = batch.place[column.name][batch.box_picture]
        touched = touching(into_input(boxes_R4, place), column).int()
        tokens = touched.new_zeros(len(picture_V), touched.shape[1])
        tokens.index_add_(0, links_E2[:, 0], touched[links_E2[:, 1]])
        found[column.name] = (tokens > 0) & batch.visible[column.name][picture_V]
    return found


def touching(boxes_R4: Tensor, column: Column) -> Tensor:
    """[R,N] whether a box, in [0, 1] of the encoder's input, lies on any part of a token's cell."""
    edges = torch.arange(column.grid + 1, device=boxes_R4.device) / column.grid
    low, high = boxes_R4[:, :2, None], boxes_R4[:, 2:, None]
    across, down = ((low < edges[1:] - EDGE) & (high > edges[:-1] + EDGE)).unbind(1)
    cells = (down[:, :, None] & across[:, None, :]).flatten(1)
    return torch.cat([cells.new_zeros(len(cells), int(column.cls)), cells], dim=1)


def tells(batch: Batch, columns: Sequence[Column], picture_V: Tensor, hidden: Hidden) -> Tensor:
    """[V] whether a view hides anything, and leaves a cell in every column."""
    some = torch.stack([tokens.any(1) for tokens in hidden.values()]).any(0)
    left = [
        (batch.visible[column.name][picture_V] & ~hidden[column.name])[:, int(column.cls) :].any(1)
        for column in columns
    ]
    return some & torch.stack(left).all(0)


def masked(batch: Batch, columns: Sequence[Column], picture_V: Tensor, hidden: Hidden) -> Batch:
    """The pictures of the views, as a batch without texts that a picture encoder reads."""
    rows = picture_V.tolist()
    visible = {name: batch.visible[name][picture_V] & ~tokens for name, tokens in hidden.items()}
    return replace(
        batch,
        keys=[batch.keys[row] for row in rows],
        groups=[batch.groups[row] for row in rows],
        features={
            column.name: _new_cls(
                batch.tokens_of(column.name)[picture_V].float(), visible[column.name], column
            )
            for column in columns
        },
        scales={},
        visible=visible,
        hidden={name: batch.hidden[name][picture_V] | tokens for name, tokens in hidden.items()},
        place={name: place[picture_V] for name, place in batch.place.items()},
    )


def _new_cls(tokens: Tensor, visible: Tensor, column: Column) -> Tensor:
    """CLS, if there is one, as the mean of the visible cells."""
    if not column.cls:
        return tokens
    mean = masked_mean(tokens[:, 1:], visible[:, 1:])
    return torch.cat([mean[:, None], tokens[:, 1:]], dim=1)
