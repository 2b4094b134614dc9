"""Picture files: type by content, strict about damage, bounded, RGB whatever is stored."""

import os
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from contract.errors import RawDataError
from data_pipeline.pictures import picture_files
from data_pipeline.pictures.identity import MAX_BITS, MAX_THUMB_DIFFERENCE
from data_pipeline.pictures.picture_files import (
    decode_rgb,
    extension_fits,
    open_picture,
    perceptual_hash,
    thumb,
)
from data_pipeline.pictures.scanning import Task, scan
from data_pipeline.stages.scan import scan_dataset


def smooth(mode: str = "RGB") -> Image.Image:
    """A picture that survives JPEG: red to the right, green downwards."""
    y, x = np.mgrid[0:60, 0:90]
    rgb = np.stack([x * 2, y * 4, np.full_like(x, 40)], axis=2).astype(np.uint8)
    return Image.fromarray(rgb).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_modes(tmp_path: Path, mode: str) -> None:
    smooth(mode).save(tmp_path / "a.jpg", quality=95)
    pixels = decode_rgb(tmp_path / "a.jpg")
    assert pixels.shape == (60, 90, 3) and pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - np.asarray(smooth(mode).convert("RGB"))).mean() < 4
    assert open_picture(tmp_path / "a.jpg").mode == mode


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "LA", "1"])
def test_png_modes_are_exact(tmp_path: Path, mode: str) -> None:
    smooth(mode).save(tmp_path / "a.png")
    assert (decode_rgb(tmp_path / "a.png") == np.asarray(smooth(mode).convert("RGB"))).all()


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    grey = (np.arange(100, dtype=np.uint16).reshape(10, 10) * 600).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert (decode_rgb(tmp_path / "a.png")[..., 0] == grey >> 8).all()


def test_stored_pixels_whatever_the_orientation_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees when shown
    smooth().save(tmp_path / "a.jpg", exif=exif)
    assert decode_rgb(tmp_path / "a.jpg").shape == (60, 90, 3)


JPEG_END = b"\xff\xd9"
STORED = [("a.jpg", mode, end) for mode in ("RGB", "L", "CMYK") for end in (b"", JPEG_END)]


@pytest.mark.parametrize(("name", "mode", "end"), [*STORED, ("a.png", "RGB", b"")])
def test_every_truncation_is_noticed(tmp_path: Path, name: str, mode: str, end: bytes) -> None:
    """Also where the marker of the end is put behind the cut."""
    whole = BytesIO()
    smooth(mode).save(whole, "JPEG" if name.endswith("jpg") else "PNG")
    path = tmp_path / name
    for share in (0.0, 0.1, 0.5, 0.8, 0.95):
        path.write_bytes(whole.getvalue()[: int(len(whole.getvalue()) * share)] + end)
        with pytest.raises(RawDataError, match=name):
            decode_rgb(path)


def test_what_is_no_picture_is_said_in_words_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("none")
    with pytest.raises(
        RawDataError, match=r"a\.jpg: is damaged or no picture\n  expected: one of JPEG"
    ) as told:
        decode_rgb(tmp_path / "a.jpg")
    assert "BytesIO" not in str(told.value)


def test_inks_of_a_print_are_the_colours_that_pillow_sees(tmp_path: Path) -> None:
    smooth("CMYK").save(tmp_path / "a.jpg", quality=80)
    seen = np.asarray(Image.open(tmp_path / "a.jpg").convert("RGB"))
    assert (decode_rgb(tmp_path / "a.jpg") == seen).all()


def test_missing_and_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RawDataError, match="no such picture file"):
        decode_rgb(tmp_path / "absent.jpg")
    smooth().save(tmp_path / "a.png")
    monkeypatch.setattr(picture_files, "MAX_PIXELS", 60 * 90 - 1)
    with pytest.raises(RawDataError, match="too many pixels"):
        decode_rgb(tmp_path / "a.png")


def test_only_regular_files_of_bearable_size_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(RawDataError, match=r"pipe\.png: is no regular file"):
        decode_rgb(tmp_path / "pipe.png")
    smooth().save(tmp_path / "a.png")
    monkeypatch.setattr(picture_files, "MAX_BYTES", (tmp_path / "a.png").stat().st_size)
    decode_rgb(tmp_path / "a.png")
    monkeypatch.setattr(picture_files, "MAX_BYTES", picture_files.MAX_BYTES - 1)
    with pytest.raises(RawDataError, match="is too large for a picture"):
        decode_rgb(tmp_path / "a.png")


def test_type_by_content(tmp_path: Path) -> None:
    smooth().save(tmp_path / "a.png", "JPEG")
    found = open_picture(tmp_path / "a.png")
    assert found.format == "JPEG" and not extension_fits(tmp_path / "a.png", found.format)
    ((scanned, trouble),) = scan(Task(str(tmp_path), ["a.png"]))
    assert scanned is not None and trouble is not None
    assert (trouble.outcome, trouble.reason) == ("flag", "picture_extension")


@pytest.mark.parametrize("file", ["../a.png", "/etc/hostname", "b/../../a.png"])
def test_a_path_that_leaves_the_folder_is_not_followed(tmp_path: Path, file: str) -> None:
    smooth().save(tmp_path / "a.png")
    (tmp_path / "inner").mkdir()
    ((scanned, trouble),) = scan(Task(str(tmp_path / "inner"), [file]))
    assert scanned is None and trouble is not None and trouble.reason == "picture_missing"


def test_the_hash_survives_encoding_and_scale(real_data: Path) -> None:
    paths = sorted((real_data / "coco/train2017").glob("*.jpg"))[:12]
    for path in paths:
        picture = Image.fromarray(decode_rgb(path))
        again = BytesIO()
        picture.resize((picture.width * 3 // 4, picture.height * 3 // 4)).save(again, "JPEG", quality=70)
        (a, b) = (np.asarray(picture), np.asarray(Image.open(again)))
        assert (perceptual_hash(a) ^ perceptual_hash(b)).bit_count() <= MAX_BITS
        difference = np.frombuffer(thumb(a), np.uint8).astype(int) - np.frombuffer(thumb(b), np.uint8)
        assert np.abs(difference).max() <= MAX_THUMB_DIFFERENCE
    assert len({perceptual_hash(decode_rgb(path)) for path in paths}) == len(paths)


@pytest.mark.parametrize("file", ["none.png", "a\0b.png", "x" * 3000 + ".png", "folder"])
def test_a_name_that_no_file_can_have_is_a_missing_picture(tmp_path: Path, file: str) -> None:
    (tmp_path / "folder").mkdir()
    ((found, trouble),) = scan(Task(str(tmp_path), [file]))
    assert found is None and trouble is not None and trouble.reason == "picture_missing"


def test_a_folder_without_any_picture_stops_the_scan(tmp_path: Path) -> None:
    """Pictures that are not unpacked yet are one mistake and not a hundred thousand rejects."""
    declared = {"picture": ["1"], "file": ["images/1.png"], "drop": [0], "split": ["train"]}
    declared |= {"source_file": ["f"], "position": ["/"]}
    (tmp_path / "read").mkdir()
    pl.DataFrame(declared).write_parquet(tmp_path / "read/images.parquet")
    with pytest.raises(RawDataError, match=r"images/1.png: none of the 1 declared"):
        scan_dataset("own", tmp_path, tmp_path / "read", tmp_path / "scan", 1, {})
    assert not (tmp_path / "scan").exists()
    (tmp_path / "images").mkdir()
    smooth().save(tmp_path / "images/1.png")
    scan_dataset("own", tmp_path, tmp_path / "read", tmp_path / "scan", 1, {})
    assert len(pl.read_parquet(tmp_path / "scan/pictures.parquet")) == 1
