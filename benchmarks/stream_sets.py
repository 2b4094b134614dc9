"""Generated samples of a stated size, as Fuseline's shards: records with texts, features in columns."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from contract import codec, manifest, record
from contract.files import sha256_file
from contract.index import count_texts, index_path
from contract.manifest import DataManifest, FeatureManifest, ShardFacts, TokenizerFacts, WeightsFacts
from contract.record import Record, Regions, Text
from contract.seeds import rng
from data_pipeline.shards.shard_writer import Sample, write_shard

SHARDS = 100
REGIONS, TEXTS = 4, 4  # of a picture
WORDS = 1000  # of the tokenizer
ANSWERS = ["yes", "no", "left", "right"]
DIFFERENT = 32  # arrays that are drawn; a sample's is one of them, its first numbers its own


class Width(Struct, frozen=True):
    """A feature column: grid² tokens, and one more with `cls`, of `width` float16 numbers."""

    grid: int
    cls: bool
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.grid**2 + self.cls, self.width


class Size(Struct, frozen=True):
    """A set of samples. columns: as the encoders named give them."""

    name: str
    samples: int
    columns: dict[str, Width]


SIZES = {
    "20 KB": Size("20 KB", 40_000, {"vit": Width(5, True, 384)}),
    "440 KB": Size("440 KB", 2_000, {"vit": Width(14, True, 768), "esam": Width(16, False, 256)}),
    "2.6 MB": Size("2.6 MB", 350, {"vit": Width(37, True, 768), "esam": Width(32, False, 256)}),
}


def build(folder: Path, size: Size) -> None:
    """data/ and features/ of the set under `folder`."""
    facts: dict[str, dict[str, ShardFacts]] = {name: {} for name in ("data", *size.columns)}
    drawn = {name: arrays(name, width) for name, width in size.columns.items()}
    for shard in range(SHARDS):
        numbers = range(shard, size.samples, SHARDS)
        name = f"set-{shard:03d}.tar"
        facts["data"][f"set-{shard:03d}"] = _write(folder / "data" / name, "json", records(numbers))
        for column, of_column in drawn.items():
            path = folder / "features" / column / name
            facts[column][path.stem] = _write(path, f"{column}.npy", features(numbers, of_column))
    _manifests(folder, size, facts)


def records(numbers: range) -> Iterator[Sample]:
    """Record shards' samples."""
    for number in numbers:
        made = picture(number)
        yield Sample(key(number), [codec.encode(made)], count_texts(made))


def features(numbers: range, drawn: NDArray[np.float16]) -> Iterator[Sample]:
    """A column's samples: no two are equal, so that nothing passes for another."""
    for number in numbers:
        array = drawn[number % len(drawn)]
        array[0, :4] = np.frombuffer(number.to_bytes(4, "little"), np.uint8)
        yield Sample(key(number), [codec.encode_array(array)])


def key(number: int) -> str:
    """Keys that sort like the numbers."""
    return f"{number:08d}"


def arrays(name: str, width: Width) -> NDArray[np.float16]:
    """[DIFFERENT, N, D] noise."""
    noise = rng("stream", name).standard_normal((DIFFERENT, *width.shape), np.float32)
    return noise.astype(np.float16)


def picture(number: int) -> Record:
    """Regions and questions, about as long as GQA's."""
    drawn = rng("picture", number)
    corners = drawn.uniform(0, 0.5, (REGIONS, 2)).round(6).tolist()
    boxes = [(x, y, round(x + 0.25, 6), round(y + 0.25, 6)) for x, y in corners]
    regions = Regions([str(n) for n in range(REGIONS)], boxes, ["thing"] * REGIONS)
    texts = [_text(f"{number}-{n}", drawn.integers(1, WORDS, 9).tolist(), n) for n in range(TEXTS)]
    return Record(1, key(number), 640, 480, f"{number:064x}", f"set:{number}", regions, texts)


def _text(name: str, tokens: list[int], number: int) -> Text:
    return Text(
        id=name,
        role="question",
        text=" ".join(f"w{token}" for token in tokens),
        tokens=tokens,
        span_chars=[(0, 2)],
        span_tokens=[(0, 1)],
        span_regions=[[number % REGIONS]],
        answer=ANSWERS[number % len(ANSWERS)],
        type="query/attr",
    )


def _write(path: Path, suffix: str, samples: Iterator[Sample]) -> ShardFacts:
    path.parent.mkdir(parents=True, exist_ok=True)
    done = write_shard(path, [suffix], samples)
    hashed = sha256_file(index_path(path))
    return ShardFacts("set", "train", done.samples, done.bytes, done.sha256, index=hashed)


def _manifests(folder: Path, size: Size, facts: dict[str, dict[str, ShardFacts]]) -> None:
    words = {"[UNK]": 0} | {f"w{number}": number for number in range(1, WORDS)}
    path = folder / "data" / "tokenizer.json"
    Tokenizer(WordLevel(words, unk_token="[UNK]")).save(str(path))
    tokens = TokenizerFacts("generated", sha256_file(path))
    manifest.save(folder / "data", DataManifest(1, record.fingerprint(), tokens, ANSWERS, facts["data"]))
    for name, width in size.columns.items():
        known = FeatureManifest(
            format=1,
            encoder=name,
            architecture="none",
            model="none",
            weights=WeightsFacts("random", "none"),
            transform="squash",
            size=16 * width.grid,
            grid=width.grid,
            cls=width.cls,
            width=width.width,
            dtype="float16",
            batch=1,
            threads=1,
            version=1,
            settings={},
            shards=facts[name],
        )
        manifest.save(folder / "features" / name, known)
