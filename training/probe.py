"""`python -m training.probe`: what int8 and pooling cost a feature column, by small heads on frozen boxes.

Two questions that need the box alone: what is in it (task `region`: its name), and what a question asks of it
(task `vqa`: questions that are linked to one box). A box is the mean of what it covers. Each head is trained
on the train split and scored on another, for the column as stored and for copies of it made worse.

With --masked a third (task `hidden`): the name of an object by what is left of its picture once its cells are
hidden, told by one matrix. Above twice chance the mask does not hide it.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from contract.errors import ParamsError, run_command
from contract.files import write_atomic
from contract.manifest import FeatureManifest
from contract.quantise import dequantise, quantise
from contract.record import Record, Text
from contract.seeds import rng, seed64
from training.batching.needs import need
from training.evaluation import outputs
from training.probing import leaks
from training.probing.box_vectors import Tokens, box_vectors, grid_of
from training.probing.probe_heads import Example, Head, Linear, chance, score
from training.reading.members import Member, Reader, Rows
from training.reading.tars import Tars
from training.shards import TRAIN, Place, ShardSet, open_shards

EXAMPLES = """\
examples:
  python -m training.probe                               every column beside data/
  python -m training.probe --columns vit --split testdev
  python -m training.probe --masked --out masked.json    do masks hide what they cover?
"""
TAUGHT, ASKED = 1000, 400  # pictures looked at
HELD_OUT = "val"
HEADS = 3  # per task and variant, each from another seed
TASKS = ("region", "vqa")
BOTH = "give a folder or a glob, of which two splits are read"

Examples = dict[tuple[str, str], list[Example]]  # by task and variant


class Variant(Struct, frozen=True):
    """A way to store a column. change: tokens [N,D] → the same made worse; block: cells averaged a side."""

    change: Callable[[Tokens], Tokens]
    block: int = 1


VARIANTS = {
    "stored": Variant(lambda tokens: tokens),
    "int8": Variant(lambda tokens: dequantise(*quantise(tokens))),
    "pooled": Variant(lambda tokens: tokens, block=2),
}


class Row(Struct, frozen=True):
    """A line of the result: accuracy over held-out examples, its spread over heads, the accuracy of always
    giving the most frequent label, and what was lost against the task's first variant, for the most part the
    column as stored: below 0 where this one scored better. Shares of 1.
    """

    probe: str
    column: str
    task: str
    variant: str
    accuracy: float
    spread: float
    chance: float
    lost: float
    examples: int


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.probe",
        description="What int8 and pooling cost, measured by small heads on boxes.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--shards", nargs="+", default=["data"], metavar="PATTERN", help="default: data")
    parser.add_argument("--columns", nargs="+", help="default: every column beside the shards")
    parser.add_argument("--split", help=f"split to score on (default: {HELD_OUT}, if there is one)")
    parser.add_argument("--masked", action="store_true", help="also: does a mask hide what it covers?")
    parser.add_argument("--out", type=Path, default=Path("reports/probe.json"), help="result file")
    parser.add_argument("--seed", type=int, default=0, help="of the sample and the heads (default: 0)")
    return parser


def main(arguments: list[str]) -> None:
    """Probe every column; print a table, write it as a list of rows."""
    options = parser().parse_args(arguments)
    _check_split(options.split)
    outputs.check([options.out], [])
    known = open_shards(options.shards, [], other_split=BOTH)
    if options.split or HELD_OUT in {shard.split for shard in known.data.shards.values()}:
        names = options.columns or columns_beside(known.folder)
        rows = probe_columns(names, options.shards, options.split or HELD_OUT, options.seed, options.masked)
    else:
        print(f"probe: no shard of split '{HELD_OUT}': nothing to score on", file=sys.stderr)
        rows = []
    write_atomic(options.out, msgspec.json.format(msgspec.json.encode(rows), indent=1) + b"\n")
    print(table(rows))
    for line in leaks.warnings(rows):
        print(line, file=sys.stderr)
    print(f"written: {options.out}")


def _check_split(split: str | None) -> None:
    """Heads that are scored on what they were taught tell nothing."""
    if split == TRAIN:
        raise ParamsError(
            "--split", "the heads are trained on it", found=split, fix=f"name a held-out one, as {HELD_OUT}"
        )


def columns_beside(data: Path) -> list[str]:
    """Every feature column that lies beside a folder of records."""
    return sorted(path.parent.name for path in (data.parent / "features").glob("*/manifest.json"))


def probe_columns(names: list[str], patterns: list[str], split: str, seed: int, masked: bool) -> list[Row]:
    """The rows of every column; says so where there are none."""
    rows: list[Row] = []
    for name in names:
        train, held_out = (
            open_shards(patterns, [name], split=part, other_split=BOTH) for part in (TRAIN, split)
        )
        rows += probe_column(name, train, held_out, seed, masked)
    if not rows:
        print("probe: no box with a name and no question about one box: nothing to measure", file=sys.stderr)
    return rows


def probe_column(name: str, train: ShardSet, held_out: ShardSet, seed: int, masked: bool) -> list[Row]:
    """A row per task and variant."""
    taught = examples(train, name, TAUGHT, seed, masked)
    asked = examples(held_out, name, ASKED, seed, masked)
    rows: list[Row] = []
    first: dict[str, float] = {}
    for task, variant in cases(train.features[name], masked):
        known, wanted = taught[task, variant], asked[task, variant]
        build = Linear if task == leaks.TASK else Head
        found = [score(known, wanted, seed64(seed, "probe", number), build) for number in range(HEADS)]
        scores = [one for one in found if one is not None]
        if not scores:
            continue
        mean, spread, least = float(np.mean(scores)), float(np.std(scores)), chance(known, wanted)
        lost, title = first.setdefault(task, mean) - mean, f"{name} {task} {variant}"
        rows.append(Row(title, name, task, variant, mean, spread, least, lost, len(wanted)))
    return rows


def cases(column: FeatureManifest, masked: bool) -> list[tuple[str, str]]:
    """The tasks and the variants of each."""
    found = [(task, variant) for task in TASKS for variant in variants(column)]
    return found + [(leaks.TASK, variant) for variant in leaks.variants(column) if masked]


def variants(column: FeatureManifest) -> list[str]:
    """`stored`, and those that differ from what the column is already."""
    same = {"int8"} if column.dtype == "int8" else set()
    return [name for name, made in VARIANTS.items() if name not in same and column.grid % made.block == 0]


def examples(shards: ShardSet, name: str, pictures: int, seed: int, masked: bool = False) -> Examples:
    """What a seeded sample of the pictures that have a box gives to each task, in each variant."""
    column = shards.features[name]
    found: Examples = {case: [] for case in cases(column, masked)}
    shard, row = shards.eligible(["region"])
    chosen = np.sort(rng(seed, "probe").permutation(len(shard))[:pictures])
    tars = Tars()
    reader = Reader(tars)
    for place in (Place(int(shard[number]), int(row[number])) for number in chosen):
        record, tokens = _record(reader, shards, place), _tokens(reader, shards, place, name)
        for variant in variants(column):
            made = VARIANTS[variant]
            vectors = box_vectors(grid_of(made.change(tokens), column, made.block), record, column)
            found["region", variant] += _named(vectors, record)
            found["vqa", variant] += _asked(vectors, record)
        for variant, those in leaks.examples(tokens, record, column).items() if masked else ():
            found[leaks.TASK, variant] += those
    tars.close()
    return found


def _record(reader: Reader, shards: ShardSet, place: Place) -> Record:
    shard = shards.shards[place.shard]
    return reader.record(Member(shard.path, shard.index, "json"), place.row, shards.vocabulary)


def _tokens(reader: Reader, shards: ShardSet, place: Place, name: str) -> Tokens:
    """[N,D] of one picture, as numbers."""
    known, column = shards.features[name], shards.shards[place.shard].columns[name]
    arrays = {suffix: np.zeros((1, *shape), dtype) for suffix, (shape, dtype) in known.arrays.items()}
    for suffix, array in arrays.items():
        reader.array(Member(column.path, column.index, suffix), place.row, Rows(array), 0)
    tokens, *scales = (array[0] for array in arrays.values())
    if not scales:
        return tokens.astype(np.float32)
    return np.asarray(dequantise(tokens, scales[0]), np.float32)


def _named(vectors: dict[int, Tokens], record: Record) -> list[Example]:
    """Boxes that have a name."""
    names = record.regions.name
    return [Example(vector, [], names[row]) for row, vector in vectors.items() if names[row]]


def _asked(vectors: dict[int, Tokens], record: Record) -> list[Example]:
    """Questions about one box that the encoder sees."""
    return [
        Example(vectors[row], text.tokens, str(text.answer))
        for text, row in questions(record)
        if row in vectors
    ]


def questions(record: Record) -> Iterator[tuple[Text, int]]:
    """Questions with an answer that name exactly one box, and its row."""
    for text in record.texts:
        named = {row for rows in text.span_regions for row in rows}
        if need("vqa").usable(text) and len(named) == 1:
            yield text, named.pop()


def table(rows: list[Row]) -> str:
    """The result as aligned text."""
    lines = [f"{'column':<12}{'task':<10}{'variant':<10}{'accuracy':>10}{'±':>8}{'chance':>9}{'lost':>8}"]
    for row in rows:
        cells = [100 * value for value in (row.accuracy, row.spread, row.chance, row.lost)]
        lines.append(
            f"{row.column:<12}{row.task:<10}{row.variant:<10}"
            f"{cells[0]:>9.1f}%{cells[1]:>8.1f}{cells[2]:>8.1f}%{cells[3]:>8.1f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
