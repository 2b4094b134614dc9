"""Look at a shard: its keys, or one record with its features, neighbours, boxes and spans.

python -m data_pipeline show data/gqa-000.tar                     the keys
python -m data_pipeline show data/gqa-000.tar 2315004             one record; draws 2315004.png
python -m data_pipeline show data/gqa-000.tar 2315004 --save x.png
"""

import argparse
import io
from collections import Counter
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image
from rich.console import Console
from rich.text import Text as Line

from contract import codec, index, tar
from contract.errors import RawDataError, ShardError
from contract.index import ABSENT, Index
from contract.quantise import dequantise
from contract.record import Record, Text
from data_pipeline.pictures import drawing
from data_pipeline.pictures.picture_files import decode_rgb
from data_pipeline.shards import shard_reader

HEAD = "bold"
MOST_KEYS = 20
MOST_NEAR = 5


def arguments(parser: argparse.ArgumentParser) -> None:
    """The shard, the key, where to draw."""
    parser.add_argument("shard", type=Path, help="a record shard, such as data/gqa-000.tar")
    parser.add_argument("key", nargs="?", help="one of its keys (default: list them)")
    parser.add_argument(
        "--save", type=Path, metavar="FILE", help="where to draw the record (default: KEY.png)"
    )


def run(args: argparse.Namespace) -> None:
    """Print, and draw where a key is given."""
    with tar.open_shard(args.shard):
        known = index.load(args.shard)
    console = Console(highlight=False, soft_wrap=True)
    if args.key is None:
        lines = shard_lines(args.shard, known)
    else:
        lines = key_lines(args.shard, known, args.key, args.save or Path(f"{args.key}.png"))
    for line in lines:
        console.print(line)


def key_lines(shard: Path, known: Index, key: str, target: Path) -> Iterator[Line]:
    """All that is stored under a key; draws it into `target`."""
    record = load(shard, known, key)
    yield from record_lines(record)
    yield from column_lines(shard, key)
    yield save(shard, known, key, record, target)


def load(shard: Path, known: Index, key: str) -> Record:
    """The record of a key, or an error that offers the nearest."""
    keys = known.keys()
    if key not in keys:
        near = get_close_matches(key, keys, n=3, cutoff=0.3) or keys[:3]
        nearest = f"did you mean {' or '.join(near)}?" if near else None
        raise ShardError(shard, f"holds no key '{key}'", found=f"{len(keys)} keys", fix=nearest)
    return codec.decode_record(shard_reader.member(shard, known, key, "json"), f"{shard}/{key}")


def shard_lines(shard: Path, known: Index) -> Iterator[Line]:
    """What a shard holds, and its first keys."""
    checked = "indexed" if known.hashed else "no index: damage to payloads would go unnoticed"
    yield Line.assemble((str(shard), HEAD), f": {len(known)} pictures, {known.tar_bytes:,} bytes, {checked}")
    yield Line(f"beside it: {', '.join(str(path) for path in columns(shard)) or 'nothing'}")
    keys = known.keys()[:MOST_KEYS]
    width = max(map(len, keys), default=3)
    yield Line(f"{'key':<{width}}  {'size':>11}  regions  texts", HEAD)
    for key in keys:
        record = load(shard, known, key)
        size = f"{record.width} × {record.height}"
        roles = Counter(text.role for text in record.texts)
        texts = ", ".join(f"{count} {role}" for role, count in roles.items()) or "none"
        yield Line(f"{key:<{width}}  {size:>11}  {len(record.regions.id):>7}  {texts}")
    if len(known) > MOST_KEYS:
        yield Line(f"… and {len(known) - MOST_KEYS} more")


def record_lines(record: Record) -> Iterator[Line]:
    """A record for reading: spans in brackets with the rows of their regions."""
    facts = f"  {record.width} × {record.height}, group {record.group}, sha256 {record.sha256[:16]}…"
    yield Line.assemble((record.id, HEAD), facts)
    yield Line.assemble((f"{len(record.regions.id)} regions", HEAD), "  x0 y0 x1 y1")
    for row, (name, box) in enumerate(zip(record.regions.name, record.regions.box, strict=True)):
        edges = " ".join(f"{edge:.4f}" for edge in box)
        crowd = "  crowd" if row in record.regions.crowd else ""
        about = f"  {edges}  {name} ({record.regions.id[row]}){crowd}"
        yield Line.assemble((f"{row:>5}", _style(row)), about)
    yield Line(f"{len(record.texts)} texts", HEAD)
    for text in record.texts:
        tail = (f"  {text.id}, {len(text.tokens)} tokens", "dim")
        yield Line.assemble(f"  {text.role:<9} ", _with_spans(text), _remarks(text), tail)


def _with_spans(text: Text) -> Line:
    """`[the cube]1 is red`: a bracket per span, and the rows of its regions behind it."""
    line, at = Line(), 0
    spans = list(zip(text.span_chars, text.span_regions, strict=True))
    marks = [(end, 0, start, rows) for (start, end), rows in spans]
    marks += [(start, 1, end, rows) for (start, end), rows in spans]
    for place, opens, _, rows in sorted(marks):
        line.append(text.text[at:place])
        line.append("[" if opens else f"]{','.join(map(str, rows)) or '-'}", _style(*rows[:1]))
        at = place
    return line.append(text.text[at:])


def _style(*rows: int) -> str:
    """The colour of the first row; plain where there is none."""
    return f"bold {drawing.colour(rows[0])}" if rows else ""


def _remarks(text: Text) -> str:
    parts = [f"→ {text.answer}" if text.answer is not None else "", text.type]
    parts.append(f"about {', '.join(map(str, text.about))}" if text.about else "")
    parts.append(f"→ {', '.join(text.target)}" if text.target else "")
    parts.append(f"among {', '.join(text.members)}" if text.members else "")
    return "".join(f"  {part}" for part in parts if part)


def columns(shard: Path) -> list[Path]:
    """The tars of the same name that other stages wrote: features/*/S.tar, negatives/S.tar."""
    root = shard.absolute().parent.parent
    found = [*sorted(root.glob(f"features/*/{shard.name}")), root / "negatives" / shard.name]
    here = Path.cwd()
    return [path.relative_to(here) if path.is_relative_to(here) else path for path in found if path.is_file()]


def column_lines(shard: Path, key: str) -> Iterator[Line]:
    """Shapes and norms of a picture's features, and its nearest neighbours."""
    for path in columns(shard):
        known = index.load(path)
        read = _near if path.parent.name == "negatives" else _features
        said = read(path, known, key) if key in set(known.keys()) else "has no such key"
        yield Line.assemble((path.parent.name, HEAD), f"  {said}")


def _features(path: Path, known: Index, key: str) -> str:
    contents = (shard_reader.member(path, known, key, suffix) for suffix in known.suffixes)
    tokens, *scale = (codec.decode_array(content, f"{path}/{key}") for content in contents)
    if known.rows["flags"][known.keys().index(key)] & ABSENT or not len(tokens):
        return "absent: the encoder could not take this picture"
    values = dequantise(tokens, *scale) if scale else tokens
    norms = np.linalg.norm(values.astype(np.float64), axis=1)
    shape = " × ".join(map(str, tokens.shape))
    low, mean, high = norms.min(), norms.mean(), norms.max()
    return f"{shape} {tokens.dtype}, token norms: mean {mean:.2f}, min {low:.2f}, max {high:.2f}"


def _near(path: Path, known: Index, key: str) -> str:
    content = shard_reader.member(path, known, key, known.suffixes[0])
    near = codec.decode_negatives(content, f"{path}/{key}").pictures
    first = list(zip(near.key, near.score, strict=True))[:MOST_NEAR]
    more = f" … and {len(near.key) - MOST_NEAR} more" if len(near.key) > MOST_NEAR else ""
    return ", ".join(f"{name} {score:.4f}" for name, score in first) + more or "none"


def save(shard: Path, known: Index, key: str, record: Record, target: Path) -> Line:
    """Draw the record into `target` and say so."""
    picture, source = find_picture(shard, known, key)
    target.parent.mkdir(parents=True, exist_ok=True)
    drawing.draw(record, picture).save(target)
    return Line.assemble("drawn to ", (str(target), HEAD), f" ({source})")


def find_picture(shard: Path, known: Index, key: str) -> tuple[Image.Image | None, str]:
    """The thumbnail in the shard, else the file that the catalogue names, else None; and which it was."""
    if "jpg" in known.suffixes:
        content = shard_reader.member(shard, known, key, "jpg")
        return Image.open(io.BytesIO(content), formats=["JPEG"]), "thumbnail of the shard"
    root = shard.absolute().parent.parent
    catalogue = root / "images" / "catalogue.parquet"
    if not catalogue.is_file():
        return None, "no thumbnail in the shard and no images/catalogue.parquet: boxes on a blank canvas"
    row = pl.scan_parquet(catalogue).filter(shard=shard.stem, key=key).select("path").collect()
    if not len(row):
        return None, "the catalogue does not list this picture: boxes on a blank canvas"
    path = Path(row["path"][0])
    try:
        return Image.fromarray(decode_rgb(root / path)), str(path)
    except RawDataError as error:
        return None, f"{path}: {error.problem}; boxes on a blank canvas"
