"""Small shards whose answers can be learned: what the trainer's tests read.

Each picture has one bright cell; the questions ask in which half it lies. Both columns show it.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from contract import codec, column, manifest, record
from contract.column import Dtype
from contract.files import sha256_file
from contract.index import count_texts, index_path
from contract.manifest import (
    DataManifest,
    FeatureManifest,
    NegativesManifest,
    ShardFacts,
    TokenizerFacts,
    WeightsFacts,
)
from contract.quantise import quantise
from contract.record import Near, Negatives, Record, Regions, Text, TextNegatives
from contract.seeds import rng
from data_pipeline.shards.shard_writer import Sample, write_shard

GRID = 4
WIDTHS = {"vit": 8, "esam": 6}
CLS = {"vit": True, "esam": False}
WORDS = ["[PAD]", "[UNK]", "left", "or", "right", "top", "bottom", "?"]
QUESTIONS = {"left or right ?": ("left", "right"), "top or bottom ?": ("top", "bottom")}
PARAMS = """\
seed: 3
train:
  inputs: {grid: vit, pixel: esam}
  model: {hidden: 32, heads: 2, text_layers: 1, head_layers: 1, dropout: 0.1}
  optim: {epochs: 2, batch: 8, learning_rate: 0.003}
  development: 0.2
  log_every: 1
  checkpoint_every: 3
"""


def build(
    folder: Path,
    train: int = 40,
    val: int = 12,
    shards: int = 4,
    dtype: Dtype = "float16",
    change: Callable[[int, Record], Record] = lambda _number, record: record,
    false: Callable[[Record], dict[str, TextNegatives]] = lambda _record: {},
) -> None:
    """data/, features/{vit,esam}/, negatives/ and params.yaml under `folder`.

    change: of each record; false: changed texts of one, by text.
    """
    (folder / "params.yaml").write_text(PARAMS)
    parts = {f"toy-{n:03d}": ("train", range(n, train, shards)) for n in range(shards)}
    parts["toy-val-000"] = ("val", range(train, train + val))
    facts: dict[str, dict[str, ShardFacts]] = {"data": {}, "vit": {}, "esam": {}, "negatives": {}}
    for shard, (split, numbers) in parts.items():
        records = {key(number): change(number, picture(number)) for number in numbers}
        same = [key(number) for other, those in parts.values() if other == split for number in those]
        same.sort()
        write(
            facts["data"],
            folder / "data" / f"{shard}.tar",
            ["json"],
            split,
            {k: [codec.encode(r)] for k, r in records.items()},
            records,
        )
        for name in WIDTHS:
            arrays = {key(n): stored(features(n, name), dtype) for n in numbers}
            members = column.suffixes(name, dtype)
            write(facts[name], folder / "features" / name / f"{shard}.tar", members, split, arrays)
        mined = {k: [codec.encode(Negatives(neighbours(k, same), false(r)))] for k, r in records.items()}
        write(facts["negatives"], folder / "negatives" / f"{shard}.tar", ["neg.json"], split, mined)
    save_manifests(folder, facts, dtype)


def key(number: int) -> str:
    """Keys that sort like the numbers."""
    return f"p{number:04d}"


def neighbours(key: str, keys: list[str]) -> Near:
    """The three that follow in the split, whatever their shard."""
    following = [keys[(keys.index(key) + step) % len(keys)] for step in (1, 2, 3)]
    return Near(following, ["", "", ""], [0.9, 0.8, 0.7])


def cell(number: int) -> int:
    """The bright cell of a picture."""
    return int(rng("toy", number).integers(GRID**2))


def picture(number: int) -> Record:
    """A picture with a region round its bright cell and the two questions about it."""
    row, column = divmod(cell(number), GRID)
    box = (column / GRID, row / GRID, (column + 1) / GRID, (row + 1) / GRID)
    right = {"left or right ?": column >= GRID // 2, "top or bottom ?": row >= GRID // 2}
    texts = [
        Text(
            id=f"{number}-{place}",
            role="question",
            text=words,
            tokens=[WORDS.index(word) for word in words.split()],
            span_chars=[(0, 4)],
            span_tokens=[(0, 1)],
            span_regions=[[0]],
            answer=options[int(right[words])],
            type="choose/" + options[0],
        )
        for place, (words, options) in enumerate(QUESTIONS.items())
    ]
    regions = Regions(id=["cell"], box=[box], name=["cell"])
    return Record(1, key(number), 64, 48, f"{number:064x}", f"toy:{number}", regions, texts)


def features(number: int, name: str) -> NDArray[np.float64]:
    """[N, D]: noise, and a bright cell."""
    noise = rng("toy", name, number).normal(0, 0.1, (GRID**2 + CLS[name], WIDTHS[name]))
    noise[cell(number) + CLS[name], : WIDTHS[name] // 2] += 3
    return noise


def stored(tokens: NDArray[np.float64], dtype: Dtype) -> list[bytes]:
    """The members of one picture of a column."""
    if dtype == "float16":
        return [codec.encode_array(tokens.astype(np.float16))]
    return [codec.encode_array(part) for part in quantise(tokens.astype(np.float32))]


def write(
    facts: dict[str, ShardFacts],
    path: Path,
    suffixes: list[str],
    split: str,
    members: dict[str, list[bytes]],
    records: dict[str, Record] | None = None,
) -> None:
    """One tar and its facts for the manifest."""
    counts = {k: count_texts(r) for k, r in (records or {}).items()}
    samples = [Sample(k, content, counts.get(k, (0, 0, 0, 0))) for k, content in members.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    done = write_shard(path, suffixes, samples)
    hashed = sha256_file(index_path(path))
    facts[path.stem] = ShardFacts("toy", split, done.samples, done.bytes, done.sha256, index=hashed)


def save_manifests(folder: Path, facts: dict[str, dict[str, ShardFacts]], dtype: Dtype) -> None:
    """Tokenizer and manifests, as the pipeline writes them."""
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "data" / "tokenizer.json"))
    tokens = TokenizerFacts("toy", sha256_file(folder / "data" / "tokenizer.json"))
    answers = ["bottom", "left", "right", "top"]
    manifest.save(folder / "data", DataManifest(1, record.fingerprint(), tokens, answers, facts["data"]))
    for name, width in WIDTHS.items():
        weights = WeightsFacts("random", f"{name}-weights")
        known = FeatureManifest(
            1,
            name,
            "toy",
            "toy",
            weights,
            "squash",
            64,
            GRID,
            CLS[name],
            width,
            dtype,
            1,
            1,
            1,
            {},
            facts[name],
        )
        manifest.save(folder / "features" / name, known)
    mined = NegativesManifest(1, record.fingerprint(), "vit", "vit-weights", 3, facts["negatives"])
    manifest.save(folder / "negatives", mined)
