"""Encode one picture as the pictures of feature columns were encoded: OUT/<encoder>.npy, [N,D].

python -m data_pipeline encode --image dog.jpg --manifest features/vit/manifest.json \\
    --manifest features/esam/manifest.json --out /tmp/dog

Each manifest says how to build its encoder; its weights must still be those that made the column. The
values agree with the column's within rounding: a column is encoded in larger batches.
"""

import argparse
from pathlib import Path

import msgspec
import numpy as np
import torch

from contract import codec, manifest
from contract.errors import MismatchError, ShardError
from contract.files import write_atomic
from contract.manifest import FeatureManifest
from contract.quantise import dequantise
from data_pipeline.features import encode
from data_pipeline.features.stored_form import Absent, stored
from data_pipeline.features.transforms import transform
from data_pipeline.pictures.picture_files import Pixels, decode_rgb
from data_pipeline.pictures.thumbnails import thumbnail

SHOWN = 480  # longest side of picture.jpg, pixels


def arguments(parser: argparse.ArgumentParser) -> None:
    """The picture, the columns, where to write."""
    parser.add_argument(
        "--image", type=Path, required=True, metavar="FILE", help="a picture of any common format"
    )
    parser.add_argument(
        "--manifest",
        type=Path,
        required=True,
        action="append",
        metavar="FILE",
        help="manifest.json of a feature column, or its folder; again for each encoder",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for <encoder>.npy")


def run(args: argparse.Namespace) -> None:
    """Write one file per manifest; size.json: the picture's own width and height; picture.jpg: to look at."""
    pixels = decode_rgb(args.image)
    height, width = pixels.shape[:2]
    write_atomic(args.out / "picture.jpg", thumbnail(pixels, SHOWN))
    write_atomic(args.out / "size.json", msgspec.json.encode({"width": width, "height": height}))
    for path in args.manifest:
        column = manifest.load(path.parent if path.name == manifest.NAME else path, FeatureManifest)
        features = encode_picture(column, pixels)
        write_atomic(args.out / f"{column.encoder}.npy", codec.encode_array(features))
        print(f"{args.out / column.encoder}.npy: {features.shape[0]} tokens of {features.shape[1]}")


def encode_picture(column: FeatureManifest, pixels: Pixels) -> np.ndarray:
    """[N,D] of one picture, as a reader of the column gets them: float16, of an int8 column float32."""
    torch.set_num_threads(column.threads)
    frozen = encode.load_as(column)
    if frozen.version != column.version:
        fix = "encode all pictures anew (dvc repro)"
        raise MismatchError(
            f"encoder {column.encoder}",
            "its code has changed since",
            found=frozen.version,
            expected=column.version,
            fix=fix,
        )
    inputs = transform(pixels, frozen.settings.transform, frozen.settings.size)
    arrays = stored(column.encoder, encode.encode(frozen, inputs[None])[0], column.dtype)
    if isinstance(arrays, Absent):
        raise ShardError(f"encoder {column.encoder}", "features cannot be stored", found=arrays.detail)
    return dequantise(*arrays) if column.dtype == "int8" else arrays[0]
