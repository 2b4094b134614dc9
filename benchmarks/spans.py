"""Texts and their spans → tokens: the alignment beside the tokenizers library alone, then the whole stage.

    python -m benchmarks.spans [--size 0.1]

The texts are questions as long as GQA's, about the things of data_pipeline/texts/objects.yaml, with two spans
each. The peer asks the library for the token of each span's first and last character, one span at a time. All
these spans are annotated: the search for spans in texts that come with none has a figure of its own.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import chdir
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import polars as pl
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from benchmarks import report
from benchmarks.report import Figure, figure
from contract.seeds import rng
from data_pipeline.__main__ import main as pipeline
from data_pipeline.texts import object_names
from data_pipeline.texts.alignment import SLICE, align
from data_pipeline.texts.matching import mentions
from data_pipeline.texts.tokenizer_file import build, to_bytes

STAGE_TEXTS, TEXTS = 2_000_000, 200_000
ROUNDS = 5
GIB, KIB = 2**30, 2**10
PLACES = ("to the left of", "to the right of", "in front of", "behind", "near", "on top of")
COLOURS = ("white", "black", "green", "blue", "brown", "red")
TEMPLATES = ("Is the {colour} {a} {place} the {b}?", "Do you see any {a} {place} the {colour} {b}?")
NEGATIVES = pl.List(pl.Struct({"text": pl.String, "kind": pl.String}))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.spans", description=__doc__)
    parser.add_argument("--size", type=float, default=1.0, help="share of the texts; 1 is GQA's number")
    size = parser.parse_args().size
    contents, spans = drawn(round(TEXTS * size))
    word_piece = build(contents.unique(), 30_000)
    figures = [
        *core("WordPiece", word_piece, contents, spans, "> 50000"),
        *core("byte-level BPE", byte_level(contents), contents, spans),
        *stage(word_piece, round(STAGE_TEXTS * size)),
        matching(contents),
    ]
    report.write("spans", figures)


def drawn(count: int) -> tuple[pl.Series, pl.DataFrame]:
    """Questions, and two spans each (row, start, end)."""
    things = sorted(object_names.load().forms)
    draws = rng(0, "benchmark", "spans").integers(0, 1 << 30, (count, 4)).tolist()
    contents, spans = [], []
    for row, (a, b, place, form) in enumerate(draws):
        one, other = things[a % len(things)], things[b % len(things)]
        words = {"colour": COLOURS[form % 6], "place": PLACES[place % 6], "a": one, "b": other}
        content = TEMPLATES[form % 2].format(**words)
        end = len(content) - 1
        start = content.index(one)
        contents.append(content)
        spans += [(row, start, start + len(one)), (row, end - len(other), end)]
    return pl.Series(contents), pl.DataFrame(np.array(spans, np.int32), ["row", "start", "end"])


def byte_level(contents: pl.Series) -> Tokenizer:
    """A vocabulary as GPT-2 would have it of these texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=30_000, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(contents, trainer)
    return tokenizer


def core(
    name: str, tokenizer: Tokenizer, contents: pl.Series, spans: pl.DataFrame, goal: str = ""
) -> list[Figure]:
    """Texts a second: the library's encode_batch, ours, and a loop over char_to_token, taken in turns."""
    sides: list[Callable[[], object]] = [
        lambda: encoded(tokenizer, contents),
        lambda: align(tokenizer, contents, spans),
        lambda: looped(tokenizer, contents, spans),
    ]
    seconds = np.array([[timed(side) for side in sides] for _ in range(ROUNDS)]).min(0)
    bare, ours, peer = (len(contents) / seconds).tolist()
    return [
        figure(f"{name}: texts with two spans each, aligned per second", ours, goal),
        figure(f"{name}: of the speed of encode_batch alone", ours / bare, against="tokenizers encode_batch"),
        figure(f"{name}: of the speed of a loop", ours / peer, against="tokenizers char_to_token"),
    ]


def timed(side: Callable[[], object]) -> float:
    start = time.perf_counter()
    side()
    return time.perf_counter() - start


def matching(contents: pl.Series) -> Figure:
    """What the stage does first where a dataset marks no spans, as COCO's captions and CIRR's edits."""
    names = object_names.load()
    seconds = min(timed(lambda: [mentions(text, names) for text in contents]) for _ in range(ROUNDS))
    return figure("texts whose spans are matched, before alignment, per second", len(contents) / seconds)


def encoded(tokenizer: Tokenizer, contents: pl.Series) -> None:
    """The bare library, its answers thrown away."""
    for begin in range(0, len(contents), SLICE):
        tokenizer.encode_batch(contents[begin : begin + SLICE].to_list(), add_special_tokens=False)


def looped(tokenizer: Tokenizer, contents: pl.Series, spans: pl.DataFrame) -> list[object]:
    """Ids of each text, then the tokens of each span's first and last character."""
    found: list[object] = []
    rows = spans.iter_rows()
    for begin in range(0, len(contents), SLICE):
        texts = contents[begin : begin + SLICE].to_list()
        for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
            found.append(encoding.ids)
            for _ in range(2):
                _, start, end = next(rows)
                found.append((encoding.char_to_token(start), encoding.char_to_token(end - 1)))
    return found


def stage(tokenizer: Tokenizer, count: int) -> list[Figure]:
    """The stage as the command line runs it, in a process of its own: tables read, tables written."""
    with tempfile.TemporaryDirectory() as folder:
        project(Path(folder), tokenizer, count)
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            seconds, peak = pool.submit(run_stage, folder).result()
    return [
        figure(f"stage spans, {count:,} texts with annotated spans: per second", count / seconds),
        figure(f"stage spans, {count:,} texts: peak memory, GiB", peak / GIB, "< 2"),
    ]


def run_stage(folder: str) -> tuple[float, int]:
    """(seconds, peak of resident bytes)."""
    with chdir(folder):
        seconds = timed(lambda: pipeline(["spans", "gqa"]))
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB


def project(folder: Path, tokenizer: Tokenizer, count: int) -> None:
    """params.yaml, a tokenizer and the clean tables of one dataset."""
    encoder = {"architecture": "vit", "model": "none", "weights": "random", "size": 32, "grid": 2}
    settings = {
        "datasets": {"gqa": {"format": "gqa", "folder": "raw", "raw": [{"shards": {"train": 100}}]}},
        "tokenizer": {"name": "words.json"},
        "encoders": {"vit": encoder},
        "negatives": {"encoder": "vit"},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(settings))
    (folder / "words.json").write_bytes(to_bytes(tokenizer))
    clean = folder / "validate/gqa"
    clean.mkdir(parents=True)
    contents, spans = drawn(count)
    file = pl.lit("train_balanced_questions.json")
    place = {"drop": pl.lit(0), "source_file": file, "position": pl.format("/{}", "text")}
    texts = (
        pl.DataFrame({"content": contents})
        .with_row_index("text")
        .with_columns(pl.col("text").cast(pl.String), picture=(pl.col("text") // 13).cast(pl.String))
    )
    texts.select(
        "text",
        "picture",
        pl.lit("question").alias("role"),
        "content",
        pl.lit("yes").alias("answer"),
        pl.lit("verify/rel").alias("type"),
        *(pl.lit([], pl.List(pl.String)).alias(name) for name in ("target", "members", "about")),
        pl.lit([], NEGATIVES).alias("negatives"),
        pl.lit("train").alias("split"),
        **place,
    ).write_parquet(clean / "texts.parquet")
    spans.select(
        pl.col("row").cast(pl.String).alias("text"),
        "start",
        "end",
        pl.format("{}:{}", "start", "end").alias("span"),
        pl.lit(None, pl.String).alias("name"),
        pl.concat_list(pl.col("row").cast(pl.String)).alias("regions"),
        pl.lit("annotated").alias("source"),
    ).with_columns(**place).write_parquet(clean / "entities.parquet")


if __name__ == "__main__":
    main()
