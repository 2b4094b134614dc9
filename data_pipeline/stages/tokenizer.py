"""Make a tokenizer file from texts (WordPiece, lower case, the same bytes each time), or fetch one.

examples:
  python -m data_pipeline tokenizer --out tokenizer.json --from read/gqa read/cirr
  python -m data_pipeline tokenizer --out tokenizer.json --size 8000 captions.txt
  python -m data_pipeline tokenizer --out tokenizer.json --hub bert-base-uncased
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import polars as pl
from tokenizers import Tokenizer

from contract.errors import RawDataError
from contract.files import write_atomic
from data_pipeline.texts.tokenizer_file import build, fetch, to_bytes

SIZE = 8192


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="the tokenizers JSON file to write")
    parser.add_argument("--size", type=int, default=SIZE, help=f"entries at most (default: {SIZE})")
    parser.add_argument(
        "--from", dest="folders", type=Path, nargs="+", default=[], help="folders of stage read"
    )
    parser.add_argument("--hub", metavar="NAME", help="fetch this one from the hub instead")
    parser.add_argument("files", type=Path, nargs="*", help="text files, one text a line")


def run(args: argparse.Namespace) -> int | None:
    tokenizer = fetch(args.hub) if args.hub else _from_texts(args)
    write_atomic(args.out, to_bytes(tokenizer))
    print(f"{args.out}: {tokenizer.get_vocab_size():,} entries")
    return None


def _from_texts(args: argparse.Namespace) -> Tokenizer:
    if not args.files and not args.folders:
        raise RawDataError("tokenizer", "no texts", expected="text files, --from read/<dataset> … or --hub")
    return build(texts(args.files, args.folders), args.size)


def texts(files: list[Path], folders: list[Path]) -> Iterator[str]:
    """Lines of the files, then the texts of the tables."""
    for path in files:
        yield from _lines(path)
    for folder in folders:
        path = folder / "texts.parquet"
        if not path.is_file():
            raise RawDataError(path, "no such table", fix=f"run python -m data_pipeline read {folder.name}")
        yield from pl.read_parquet(path, columns=["content"])["content"]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RawDataError(path, "is not a readable UTF-8 text file", found=error) from None
