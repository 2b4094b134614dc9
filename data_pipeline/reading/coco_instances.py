"""COCO's instances file: {images, annotations, categories} → pictures and regions.

RefCOCO and others that build on COCO read their boxes here too.
"""

from collections.abc import Container, Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from contract.errors import RawDataError
from data_pipeline.reading.coco_masks import MaskError, Size, mask_box
from data_pipeline.reading.json_stream import (
    DECODE_ERRORS,
    Int32,
    decode_each,
    id_of,
    object_of_arrays,
    problem,
)
from data_pipeline.reading.sources import At, flag, reject
from data_pipeline.tables import Finding, PassedOver, Region

Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]  # crowds have ids of twelve digits


class File(Struct):
    """An annotation file, its members still undecoded."""

    images: list[Raw]
    annotations: list[Raw]
    categories: list[Raw] = []


class Picture(Struct):
    id: Id
    file_name: str
    width: Int32
    height: Int32

    @property
    def size(self) -> Size:
        return self.width, self.height


class Category(Struct):
    id: Id
    name: str


class Instance(Struct):
    id: Id
    image_id: Id
    category_id: Id
    bbox: tuple[float, float, float, float]  # x, y, w, h in pixels, 0-based
    iscrowd: int = 0
    segmentation: Raw = Raw(b"null")


_file = msgspec.json.Decoder(File)
_picture = msgspec.json.Decoder(Picture)
_category = msgspec.json.Decoder(Category)
_instance = msgspec.json.Decoder(Instance)


def open_file(path: Path) -> File:
    """RawDataError names the file and the byte."""
    return object_of_arrays(path, _file)


def pictures(file: At, content: File) -> Iterator[tuple[At, Picture | Finding]]:
    """Every listed picture, or the finding that says why not."""
    for number, found, wrong in decode_each(content.images, _picture):
        at, raw = file.inside("images", str(number)), content.images[number]
        if found is None:
            yield at, reject("images", id_of(raw, "id") or at.name, "malformed", at, raw, wrong)
        elif PurePosixPath(found.file_name).name != found.file_name:
            wrong = f"file_name '{found.file_name}' is a path"
            yield at, reject("images", str(found.id), "malformed", at, raw, wrong)
        else:
            yield at, found


def category_names(path: Path, content: File) -> dict[int, str]:
    """Category id → name. A list that cannot be read would leave every box without its name."""
    try:
        kinds = [_category.decode(raw) for raw in content.categories]
    except DECODE_ERRORS as error:
        raise RawDataError(path, "has malformed categories", found=problem(error)) from None
    return {kind.id: kind.name for kind in kinds}


def regions(
    file: At, content: File, names: dict[int, str], sizes: dict[int, Size], others: Container[int] = ()
) -> Iterator[Region | Finding | PassedOver]:
    """A region per annotation of the pictures in `sizes`; those of pictures in `others` are passed over.

    names: of the categories.
    """
    passed_over = 0
    for number, found, wrong in decode_each(content.annotations, _instance):
        at, raw = file.inside("annotations", str(number)), content.annotations[number]
        if found is None:
            name = f"{id_of(raw, 'image_id')}/{id_of(raw, 'id') or number}"
            yield reject("regions", name, "malformed", at, raw, wrong)
        elif found.image_id in sizes:
            yield from _region(found, names, sizes[found.image_id], at, raw)
        elif found.image_id in others:
            passed_over += 1
        else:
            yield reject("regions", f"{found.image_id}/{found.id}", "unknown_picture", at, raw)
    if passed_over:
        yield PassedOver("regions", passed_over, "of a picture that is not read")


def _region(
    found: Instance, names: dict[int, str], size: Size, at: At, raw: Raw
) -> Iterator[Region | Finding]:
    picture, region = str(found.image_id), str(found.id)
    if found.category_id not in names:
        detail = f"category {found.category_id}"
        yield flag("regions", f"{picture}/{region}", "unknown_category", at, raw, detail)
    mask: list[float] = []
    try:
        mask = mask_box(found.segmentation, size)
    except (*DECODE_ERRORS, MaskError) as error:
        yield flag("regions", f"{picture}/{region}", "mask_unusable", at, raw, problem(error))
    name, crowd = names.get(found.category_id, ""), bool(found.iscrowd)
    yield Region(picture, region, *found.bbox, name, [], crowd, mask, *at)
