"""Stage shards at the size of GQA's balanced questions, against `cp` of the folder that it wrote.

The clean tables are generated: as many pictures, boxes and texts as the official files give, spans included.
Times are wall time with the page cache warm, the two sides in turn, the best round of each.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks import report
from benchmarks.end_to_end import GIB, watch
from benchmarks.report import Figure, figure
from data_pipeline.frames import findings_frame

PICTURES, QUESTIONS, BOXES, SHARDS = 72_000, 943_000, 17, 100
SENTENCES = 50_000  # different ones; GQA's questions repeat as well
WORDS = 2_000
ROUNDS = 3
SAMPLED_EVERY = 0.05  # seconds
PARAMS = """\
workers: 2
datasets:
  gqa:
    format: gqa
    folder: raw/gqa
    raw:
      - shards: {{train: {shards}}}
tokenizer: {{name: words.json}}
encoders:
  vit: {{architecture: vit, model: none, weights: random, size: 32, grid: 2}}
negatives: {{encoder: vit}}
"""
STAGE = """\
import argparse, pathlib, time
from data_pipeline.stages import shards
start = time.perf_counter()
shards.run(argparse.Namespace(params=pathlib.Path("params.yaml")))
print(time.perf_counter() - start)
"""
Numbers = NDArray[np.int64]


def main() -> None:
    """Generate, measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shards", description=__doc__)
    parser.add_argument("--size", type=float, default=1.0, help="share of GQA (default: 1)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="generate into FOLDER and leave it there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        if not (folder / "params.yaml").is_file():
            generate(folder, options.size)
        report.write("shards", figures(folder))


def figures(folder: Path) -> list[Figure]:
    """Rounds of the stage and of `cp`, alternating."""
    written, copied, peaks = [], [], [0]
    for _ in range(ROUNDS):
        written.append(stage(folder, peaks))
        copied.append(copy(folder))
    held = sum(path.stat().st_size for path in (folder / "data").iterdir())
    ratio = min(copied) / min(written)
    return [
        figure("records written, MB", held / 1e6),
        figure("`cp -r data`, MB/s", held / 1e6 / min(copied)),
        figure("stage shards, MB/s", held / 1e6 / min(written)),
        figure("stage shards, seconds", min(written)),
        figure("stage shards, share of the speed of `cp`", ratio, "> 0.3", "index and hashes included"),
        figure("stage shards, peak memory of the process tree, GiB", max(peaks) / GIB, "< 2"),
    ]


def stage(folder: Path, peaks: list[int]) -> float:
    """Seconds of the stage in a process of its own, imports before the clock starts."""
    process = subprocess.Popen([sys.executable, "-c", STAGE], cwd=folder, stdout=subprocess.PIPE, text=True)
    threading.Thread(target=watch, args=(process.pid, peaks, SAMPLED_EVERY), daemon=True).start()
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"stage shards failed with status {process.returncode}")
    return float(said.splitlines()[-1])


def copy(folder: Path) -> float:
    """Seconds of `cp -r`."""
    target = folder / "copy"
    start = time.perf_counter()
    subprocess.run(["cp", "-r", str(folder / "data"), str(target)], check=True)
    seconds = time.perf_counter() - start
    shutil.rmtree(target)
    return seconds


def generate(folder: Path, size: float) -> None:
    """params.yaml and the tables that stage shards reads; nothing was rejected."""
    rng = np.random.default_rng(0)
    pictures, questions = round(PICTURES * size), round(QUESTIONS * size)
    shards = max(1, round(SHARDS * size))
    for place in ("images", "read/gqa", "validate/gqa", "spans/gqa"):
        (folder / place).mkdir(parents=True)
    names = pl.Series("picture", 2_300_000 + rng.permutation(pictures)).cast(pl.String)
    of = np.sort(rng.integers(0, pictures, questions))
    boxes = np.repeat(np.arange(pictures), BOXES)
    regions = pl.Series("region", 500_000 + rng.permutation(len(boxes))).cast(pl.String)
    texts, entities = annotations(rng, of)
    place = {"split": pl.lit("train"), "source_file": pl.lit("questions.json")}
    texts = texts.with_columns(picture=names[texts["picture"]], **place)
    entities = entities.with_columns(pl.concat_list(regions[entities["region"]]).alias("regions"))
    write(folder / "images/catalogue.parquet", catalogue(names, rng.integers(0, shards, pictures)))
    write(folder / "images/findings.parquet", findings_frame().with_columns(dataset=pl.lit("gqa")))
    write(folder / "read/gqa/images.parquet", names.to_frame().with_columns(**place))
    write(folder / "read/gqa/texts.parquet", texts)
    write(folder / "read/gqa/findings.parquet", findings_frame())
    write(folder / "validate/gqa/regions.parquet", region_table(rng, names[boxes], regions))
    write(folder / "spans/gqa/texts.parquet", texts)
    write(folder / "spans/gqa/entities.parquet", entities.drop("region"))
    (folder / "spans/gqa/tokenizer.json").write_text("{}")
    (folder / "params.yaml").write_text(PARAMS.format(shards=shards))


def write(path: Path, table: pl.DataFrame) -> None:
    table.write_parquet(path, row_group_size=1 << 16)


def catalogue(names: pl.Series, shard: Numbers) -> pl.DataFrame:
    """Every picture in one train split."""
    numbered = pl.DataFrame({"picture": names, "shard": shard}).with_row_index("number")
    return numbered.select(
        "picture",
        key="picture",
        dataset=pl.lit("gqa"),
        split=pl.lit("train"),
        shard=pl.lit("gqa-") + pl.col("shard").cast(pl.String).str.zfill(3),
        path=pl.lit("none.jpg"),
        width=pl.lit(500, pl.Int32),
        height=pl.lit(375, pl.Int32),
        sha256=pl.col("number").cast(pl.String).str.zfill(64),
        group=pl.lit("vg:") + pl.col("picture"),
    )


def region_table(rng: np.random.Generator, pictures: pl.Series, regions: pl.Series) -> pl.DataFrame:
    """Valid boxes with whole pixels as corners."""
    edges = np.sort(rng.integers(0, [[500], [375]], (len(regions), 2, 2)), axis=2)
    edges[..., 1] += 1
    columns = dict(zip(("x0", "x1", "y0", "y1"), (edges / [[500], [375]]).reshape(-1, 4).T, strict=True))
    names = vocabulary(rng)[rng.integers(0, WORDS, len(regions))]
    crowd = pl.lit(False).alias("crowd")
    return pl.DataFrame({"picture": pictures, "region": regions, "name": names, **columns}).with_columns(
        crowd
    )


def annotations(rng: np.random.Generator, of: Numbers) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(texts, entities): a question and its statement each, two spans in either.

    of: the picture of each question. Column `picture` holds its number and `region` the number of a box.
    """
    words, texts = vocabulary(rng), sentences(rng)
    rows = texts[rng.integers(0, SENTENCES, 2 * len(of))].with_columns(picture=np.repeat(of, 2))
    ids = pl.Series(np.arange(len(of)).repeat(2)).cast(pl.String).str.zfill(8)
    question = pl.Series(np.arange(2 * len(of)) % 2 == 0)
    answers = words[rng.integers(0, WORDS, len(rows))]
    rows = rows.with_columns(
        text=pl.when(question).then(ids).otherwise(ids + ".full"),
        role=pl.when(question).then(pl.lit("question")).otherwise(pl.lit("statement")),
        answer=pl.when(question).then(answers),
        type=pl.when(question).then(pl.lit("query/attr")).otherwise(pl.lit("")),
    )
    none = pl.lit([], pl.List(pl.String))
    negatives = pl.lit(
        [], pl.List(pl.Struct({"text": pl.String, "tokens": pl.List(pl.Int32), "kind": pl.String}))
    )
    whole = rows.drop("places").with_columns(target=none, members=none, about=none, negatives=negatives)
    return whole, entities(rng, rows)


def entities(rng: np.random.Generator, rows: pl.DataFrame) -> pl.DataFrame:
    """The third and the last word of every text, each with a box."""
    long = rows.select("text", "picture", "places").explode("places").unnest("places")
    region = long["picture"].to_numpy() * BOXES + rng.integers(0, BOXES, len(long))
    return long.drop("picture").with_columns(region=region, source=pl.lit("annotated"))


def sentences(rng: np.random.Generator) -> pl.DataFrame:
    """Sentences with `content`, `tokens` and `places`: two spans of one word."""
    words = vocabulary(rng).to_list()
    rows = []
    for tokens in (rng.integers(0, WORDS, length).tolist() for length in rng.integers(6, 14, SENTENCES)):
        said = [words[token] for token in tokens]
        starts = [len(" ".join(said[:at])) + 1 for at in (2, len(said) - 1)]
        places = [
            {
                "start": start,
                "end": start + len(said[at]),
                "token_start": at % len(said),
                "token_end": at % len(said) + 1,
            }
            for at, start in zip((2, -1), starts, strict=True)
        ]
        rows.append({"content": " ".join(said), "tokens": tokens, "places": places})
    place = pl.Struct(dict.fromkeys(("start", "end", "token_start", "token_end"), pl.Int32))
    return pl.DataFrame(rows, {"content": pl.String, "tokens": pl.List(pl.Int32), "places": pl.List(place)})


def vocabulary(rng: np.random.Generator) -> pl.Series:
    """Words of two to nine letters."""
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    return pl.Series(["".join(rng.choice(letters, length)) for length in rng.integers(2, 10, WORDS)])


if __name__ == "__main__":
    main()
