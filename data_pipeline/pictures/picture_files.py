"""Picture files → arrays: type by content, bounded, and strict about damage.

Boxes are in stored pixels, so an EXIF orientation is not applied. Everything becomes RGB.
Pictures come from strangers: a file is decoded only after its header promised a bearable size.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from stat import S_ISREG

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from contract.errors import RawDataError, no_room

Pixels = NDArray[np.uint8]
MAX_PIXELS = 178_000_000  # 5454 × 3866 exists in NLVR2; a decompression bomb is far above this
MAX_BYTES = 1 << 29  # MAX_PIXELS stored as plain RGB
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
EXTENSIONS = {
    "JPEG": {".jpg", ".jpeg"},
    "PNG": {".png"},
    "GIF": {".gif"},
    "BMP": {".bmp"},
    "WEBP": {".webp"},
    "TIFF": {".tif", ".tiff"},
    "PPM": {".ppm", ".pgm", ".pbm"},
}
PNG_END = b"IEND\xaeB`\x82"  # the last chunk with its checksum
THUMB = 8
HASH_SIDE = 32


@dataclass(frozen=True)
class Picture:
    """A decoded file. pixels: uint8 [H,W,3], RGB; mode: as stored ("L", "RGB", "RGBA", "P", "CMYK", …)."""

    pixels: Pixels
    format: str
    mode: str
    size: int  # bytes of the file
    sha256: str  # of the file's bytes

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])


def decode_rgb(path: Path) -> Pixels:
    """uint8 [H,W,3] of a picture file. RawDataError when it is missing, damaged or too large."""
    return open_picture(path).pixels


def open_picture(path: Path) -> Picture:
    """Read, identify and decode a file. RawDataError when it is missing, damaged or too large."""
    return decode(read(path), path)


def read(path: Path) -> bytes:
    """The file's bytes, of a file too large for `decode` its beginning.

    RawDataError when there are none to read, or the name can be no file's.
    """
    try:
        status = path.stat()
        if not S_ISREG(status.st_mode):  # to open a pipe would wait for a writer
            raise RawDataError(path, "is no regular file")
        with path.open("rb") as file:
            return file.read(min(status.st_size, MAX_BYTES + 1))
    except (FileNotFoundError, NotADirectoryError):
        raise RawDataError(path, "no such picture file") from None
    except OSError as error:  # among them that of a name too long
        raise no_room(path, error) or RawDataError(path, "cannot be read", found=error.strerror) from None
    except ValueError as error:  # a name with a null character
        raise RawDataError(path, "cannot be read", found=error) from None


def decode(content: bytes, path: Path) -> Picture:
    """Identify and decode a file's bytes. RawDataError when they are damaged, or too many bytes or pixels."""
    if len(content) > MAX_BYTES:
        raise RawDataError(path, "is too large for a picture", expected=f"at most {MAX_BYTES:,} bytes")
    header = _header(content, path)
    _check_size(header, path)
    if header.format == "PNG" and content.rfind(PNG_END) < 0:  # Pillow does not miss it
        raise _damaged(path, "the end of the PNG is missing")
    is_jpeg = _format(header) == "JPEG"
    pixels = _decode_jpeg(content, header.mode, path) if is_jpeg else _decode_other(header, path)
    return Picture(pixels, _format(header), header.mode, len(content), hashlib.sha256(content).hexdigest())


def _header(content: bytes, path: Path) -> Image.Image:
    """Format, size and mode by content; nothing is decoded yet."""
    try:
        return Image.open(BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError:
        raise RawDataError(path, "has too many pixels", expected=f"at most {MAX_PIXELS:,}") from None
    except UnidentifiedImageError:  # its words are of the buffer, not of the file
        raise RawDataError(
            path, "is damaged or no picture", expected=f"one of {', '.join(FORMATS)}"
        ) from None
    except (OSError, SyntaxError, ValueError) as error:
        raise _damaged(path, error) from None


def _check_size(header: Image.Image, path: Path) -> None:
    width, height = header.size
    if width * height > MAX_PIXELS:
        found = f"{width} × {height}"
        raise RawDataError(path, "has too many pixels", found=found, expected=f"at most {MAX_PIXELS:,}")


def _format(header: Image.Image) -> str:
    """Pillow calls a JPEG with a second picture behind the first (stereo cameras) MPO."""
    return "JPEG" if header.format == "MPO" else str(header.format)


def _decode_jpeg(content: bytes, mode: str, path: Path) -> Pixels:
    """libjpeg-turbo, strict: a truncated scan raises where Pillow may return grey."""
    try:
        if mode != "CMYK":
            return simplejpeg.decode_jpeg(content, colorspace="RGB", strict=True)
        return _of_inks(simplejpeg.decode_jpeg(content, colorspace="CMYK", strict=True))
    except ValueError as error:
        raise _damaged(path, error) from None


def _of_inks(stored: Pixels) -> Pixels:
    """uint8 [H,W,4], 255 for no ink, as every known program writes CMYK into a JPEG → [H,W,3]."""
    return np.asarray(Image.frombytes("CMYK", stored.shape[1::-1], (255 - stored).tobytes()).convert("RGB"))


def _decode_other(header: Image.Image, path: Path) -> Pixels:
    try:
        header.load()
        return np.asarray(_eight_bit(header).convert("RGB"))
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise _damaged(path, error) from None


def _eight_bit(picture: Image.Image) -> Image.Image:
    """16-bit grey is scaled: Pillow's own conversion would clip it to white."""
    if not picture.mode.startswith("I"):
        return picture
    return Image.fromarray((np.asarray(picture, np.int64) >> 8).clip(0, 255).astype(np.uint8))


def _damaged(path: Path, error: object) -> RawDataError:
    return RawDataError(path, "is damaged or no picture", found=" ".join(str(error).split())[:200])


def extension_fits(path: Path, picture_format: str) -> bool:
    """Whether the file's name says what its content is."""
    return path.suffix.lower() in EXTENSIONS[picture_format]


def thumb(pixels: Pixels) -> bytes:
    """8×8 RGB of the squashed picture, row-major: 192 bytes."""
    return Image.fromarray(pixels).resize((THUMB, THUMB), Image.Resampling.BOX).tobytes()


def perceptual_hash(pixels: Pixels) -> int:
    """64 bits that survive re-encoding and scaling: signs of low frequencies of the 32×32 grey picture.

    DCT-II, the 8×8 lowest frequencies, each above their median or not. A flat picture hashes like any
    other flat one: confirm an equal hash by the thumbs.
    """
    grey = Image.fromarray(pixels).convert("L").resize((HASH_SIDE, HASH_SIDE), Image.Resampling.BOX)
    basis = _dct_basis()
    low = basis @ np.asarray(grey, np.float64) @ basis.T
    bits = low.ravel() > np.median(low)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


@cache
def _dct_basis() -> NDArray[np.float64]:
    """[8, 32] rows of the orthogonal DCT-II."""
    n = np.arange(HASH_SIDE)
    k = np.arange(THUMB)[:, None]
    return np.cos(np.pi / HASH_SIDE * (n + 0.5) * k) * np.sqrt(2 / HASH_SIDE)
