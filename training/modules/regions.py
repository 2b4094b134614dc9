"""Boxes on the token grid: a vector each, by RoIAlign (Mask R-CNN; in the form of FG-CLIP).

torchvision is imported where it is used: it takes several seconds, and most runs look at no box.

Legend: P pictures, N tokens, G cells a side, H hidden, R boxes.
"""

import torch
from torch import Tensor

SAME = 0.5  # intersection over union from which two boxes show the same thing


def box_vectors(
    tokens_PNH: Tensor, boxes_R4: Tensor, box_picture_R: Tensor, place_P4: Tensor, grid: int, cls: bool
) -> tuple[Tensor, Tensor]:
    """Mean [R,H] of what each box covers, in float32, and whether the encoder sees the box [R].

    boxes: in [0, 1] of the original picture; place: of `Batch.place`. What is not seen is the zero vector,
    which must not be normalised. A box of the whole input gives the mean of the map, one of a cell that cell.
    """
    from torchvision.ops import roi_align

    inside, seen = to_input(boxes_R4, place_P4[box_picture_R])
    inside = torch.where(seen[:, None], inside, 0)
    cells = tokens_PNH[:, cls:].float().mT.unflatten(2, (grid, grid))
    rois = torch.cat([box_picture_R[:, None].float(), inside.float() * grid], dim=1)
    pooled = roi_align(cells, rois, output_size=1, spatial_scale=1.0, sampling_ratio=-1, aligned=True)
    return pooled.flatten(1) * seen[:, None], seen


def to_input(boxes_R4: Tensor, place_R4: Tensor) -> tuple[Tensor, Tensor]:
    """`contract.geometry.to_input` of boxes that each have a place of their own."""
    moved = into_input(boxes_R4, place_R4)
    clipped = moved.clamp(0, 1)
    left = _area(clipped)
    return clipped, (left > 0) & (2 * left >= _area(moved))


def into_input(boxes_R4: Tensor, place_R4: Tensor) -> Tensor:
    """Where boxes lie in the encoder's input, also beyond its edges."""
    return boxes_R4 * place_R4[:, :2].repeat(1, 2) + place_R4[:, 2:].repeat(1, 2)


def same_thing(boxes_R4: Tensor, box_picture_R: Tensor) -> Tensor:
    """[R,R] whether two boxes of one picture are so alike that a phrase cannot tell them apart."""
    from torchvision.ops import box_iou

    return (box_iou(boxes_R4, boxes_R4) >= SAME) & (box_picture_R[:, None] == box_picture_R)


def _area(boxes_R4: Tensor) -> Tensor:
    width, height = (boxes_R4[:, 2:] - boxes_R4[:, :2]).clamp(min=0).unbind(1)
    return width * height
