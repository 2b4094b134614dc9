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
from training.batching.lattice import touching
from training.modules.pooling import masked_mean
from training.modules.regions import into_input
from training.trunk.picture import Column
from training.trunk.trunk import Shared

Hidden = dict[str, Tensor]  # column → [V,N] bool: what a view hides, whether or not a mask hides it already


def look(shared: Shared, batch: Batch, text_V: Tensor, other_V: Tensor) -> Shared:
    """The pictures and, behind them, two views of the picture of each of these texts: what it names hidden,
    then the cells that another text hides in its own picture.
    """
    assert shared.look is not None
    columns, picture = shared.look.columns, batch.text_picture[text_V]
    hidden, elsewhere = (of_named(batch, columns, text) for text in (text_V, other_V))
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


def _links(batch: Batch, text_V: Tensor) -> Tensor:
    """[E,2] (place among these texts, box) of what each names."""
    place = text_V.new_full((len(batch.tokens),), -1)
    place[text_V] = torch.arange(len(text_V), device=text_V.device)
    text, box = batch.named.unbind(1)
    return torch.stack([place[text], box], dim=1)[place[text] >= 0]


def covering(
    batch: Batch, columns: Sequence[Column], picture_V: Tensor, boxes_R4: Tensor, links_E2: Tensor
) -> Hidden:
    """The tokens of pictures that boxes touch. boxes: of the batch's R; links: (into V, into R).

    What a mask hides of them is among them: else the gaps in a hole would tell whose mask lies over it.
    """
    found = {}
    for column in columns:
        place = batch.place[column.name][batch.box_picture]
        touched = F.pad(touching(into_input(boxes_R4, place), column.grid).int(), (int(column.cls), 0))
        tokens = touched.new_zeros(len(picture_V), touched.shape[1])
        tokens.index_add_(0, links_E2[:, 0], touched[links_E2[:, 1]])
        found[column.name] = (tokens > 0) & _on_picture(batch, column, picture_V)
    return found


def _on_picture(batch: Batch, column: Column, picture_V: Tensor) -> Tensor:
    """[V,N] the tokens that are of a picture, seen or not, and not of the padding beside it."""
    return (batch.visible[column.name] | batch.hidden[column.name])[picture_V]


def tells(batch: Batch, columns: Sequence[Column], picture_V: Tensor, hidden: Hidden) -> Tensor:
    """[V] whether a view hides anything that is seen without it, and leaves a cell in every column."""
    seen = [(hidden[column.name] & batch.visible[column.name][picture_V]).any(1) for column in columns]
    rest = [left(batch, column, picture_V, hidden[column.name]).any(1) for column in columns]
    return torch.stack(seen).any(0) & torch.stack(rest).all(0)


def exchangeable(batch: Batch, columns: Sequence[Column], picture_V: Tensor, hidden: Hidden) -> Tensor:
    """[V,V] whether two views could have each other's holes: in every column these would be on the picture,
    beside its own, and leave a cell; in one of them they would hide one.
    """
    fits = torch.ones(len(picture_V), len(picture_V), dtype=torch.bool, device=picture_V.device)
    hides = ~fits
    for column in columns:
        holes, cells = hidden[column.name], left(batch, column, picture_V, hidden[column.name])
        free = _on_picture(batch, column, picture_V) & ~holes
        gone = cells.float() @ holes.float().T
        fits &= ((~free).float() @ holes.float().T == 0) & (gone < cells.sum(1, keepdim=True))
        hides |= gone > 0
    return fits & fits.T & hides & hides.T


def left(batch: Batch, column: Column, picture_V: Tensor, hidden_VN: Tensor) -> Tensor:
    """[V,N] the visible cells of pictures that a view does not hide; CLS is none."""
    cells = batch.visible[column.name][picture_V] & ~hidden_VN
    cells[:, : int(column.cls)] = False
    return cells


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
