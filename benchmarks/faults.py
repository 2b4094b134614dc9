"""Nine faults in one shard: who notices, who loses samples without a word, who hands on damaged numbers.

    python -m benchmarks.faults

The shard holds a record and ViT-B features of each picture, self-contained, so that every reader can read it.
The others run in an environment of their own (`.venv-bench`); one that is not there is quoted, and said so.
"""

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from benchmarks import report
from contract import codec, index, manifest, record
from contract.errors import FuselineError
from contract.files import sha256_file, write_atomic
from contract.index import Index, index_path
from contract.manifest import ExportManifest, FeatureManifest, ShardFacts, TokenizerFacts, WeightsFacts
from contract.record import Record, Regions, Text
from contract.seeds import rng
from data_pipeline.shards.shard_writer import Sample, write_shard
from data_pipeline.shards.verifying import columns
from data_pipeline.stages.verify import verify
from training.shards import open_shards
from training.stream import Stream

SAMPLES, TOKENS, WIDTH, GRID = 64, 197, 768, 14
ANSWERS = ["yes", "no"]
SUFFIXES = ["json", "vit.npy"]
HERE = Path(__file__).parent
PEERS = {"webdataset": "webdataset", "datasets": "HF datasets", "ray": "Ray Data"}
SILENTLY = "silently lost"
PUBLISHED = "not installed here; a published comparison: noticed 2 of the 9"

Damage = Callable[[bytearray, Index], bytes | bytearray]


class Row(Struct):
    """One fault. readers: name → what it did. message: what the user of ours saw."""

    fault: str
    readers: dict[str, str]
    message: str


class Table(Struct):
    """benchmarks/results/faults.json."""

    machine: dict[str, str | int | float]
    samples: int
    rows: list[Row]


def flipped(content: bytearray, place: int) -> bytearray:
    """One bit of the other value."""
    content[place] ^= 4
    return content


def zeroed(content: bytearray, start: int, size: int) -> bytearray:
    """Zeros over a stretch."""
    content[start : start + size] = bytes(size)
    return content


def at(known: Index, row: int, member: int) -> int:
    """Offset of a member's header."""
    return int(known.rows["offset"][row, member])


MIDDLE = SAMPLES // 4
FAULTS: dict[str, Damage] = {
    "cut at a sample boundary": lambda content, known: content[: at(known, MIDDLE, 0)],
    "cut between members": lambda content, known: content[: at(known, MIDDLE, 1)],
    "cut inside a payload": lambda content, known: content[: at(known, MIDDLE, 1) + 50_000],
    "empty file": lambda content, known: b"",
    "one bit in a header": lambda content, known: flipped(content, at(known, MIDDLE, 0) + 3),
    "1 MiB of zeros over headers": lambda content, known: zeroed(content, at(known, MIDDLE, 0), 1 << 20),
    "one bit in a record": lambda content, known: flipped(
        content, content.index(b"cube", at(known, MIDDLE, 0))
    ),
    "one bit in an npy": lambda content, known: flipped(content, at(known, MIDDLE, 1) + 50_000),
    "a zeroed page in an npy": lambda content, known: zeroed(content, at(known, MIDDLE, 1) + 8192, 4096),
}


def build(folder: Path) -> Path:
    """A self-contained shard with its index, manifest and tokenizer."""
    path = folder / "bench-000.tar"
    written = write_shard(path, SUFFIXES, (sample(number) for number in range(SAMPLES)))
    Tokenizer(WordLevel({"[UNK]": 0, "cube": 1}, unk_token="[UNK]")).save(str(folder / "tokenizer.json"))
    words = TokenizerFacts("bench", sha256_file(folder / "tokenizer.json"))
    hashed = sha256_file(index_path(path))
    facts = ShardFacts("bench", "train", written.samples, written.bytes, written.sha256, index=hashed)
    known = ExportManifest(
        1, record.fingerprint(), True, words, ANSWERS, {"vit": column()}, None, {path.stem: facts}
    )
    manifest.save(folder, known)
    return path


def column() -> FeatureManifest:
    """ViT-B/16 at 224."""
    return FeatureManifest(
        format=1,
        encoder="vit",
        architecture="vit",
        model="bench",
        weights=WeightsFacts("random", "bench"),
        transform="squash",
        size=224,
        grid=GRID,
        cls=True,
        width=WIDTH,
        dtype="float16",
        batch=1,
        threads=1,
        version=1,
        settings={},
        shards={},
    )


def sample(number: int) -> Sample:
    """A picture with one question."""
    key = f"p{number:04d}"
    asked = Text(key, "question", "a cube ?", [0, 1, 0], answer=ANSWERS[number % 2])
    told = Record(1, key, 640, 480, f"{number:064x}", key, Regions(), [asked])
    tokens = rng("faults", number).normal(size=(TOKENS, WIDTH)).astype(np.float16)
    return Sample(key, [codec.encode(told), codec.encode_array(tokens)], (1, 0, 0, 0))


def ours(folder: Path) -> str:
    """What an epoch of the stream says; "" where it says nothing."""
    try:
        opened = open_shards([str(folder)], ["vit"])
        got = sum(len(batch.keys) for batch in Stream(opened, ["vqa"], batch=16, stop=SAMPLES))
    except FuselineError as error:
        return error.text()
    return "; ".join([lost(SAMPLES - got, SAMPLES)] * (got != SAMPLES) + opened.notes)


def lost(count: int, of: int) -> str:
    """The words for samples that nobody was told of."""
    return f"{SILENTLY} {count} of {of}"


def verified(folder: Path) -> str:
    """What `python -m data_pipeline verify` finds first."""
    found, faults = columns(folder)
    faults += verify(found, deep=False, workers=1)
    return f"{faults[0].where}: {faults[0].problem}" if faults else ""


def peer(python: Path, reader: str, path: Path) -> dict[str, object] | None:
    """What another reader delivers; None where it is not installed."""
    if not python.is_file():
        return None
    done = subprocess.run(
        [python, HERE / "fault_peers.py", reader, path],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    last = done.stdout.splitlines()[-1] if done.returncode == 0 else ""
    return msgspec.json.decode(last) if last else {"digests": {}, "error": "died", "version": ""}


def judged(whole: dict[str, object] | None, got: dict[str, object] | None) -> str:
    """The one word for it: noticed, lost, damaged, or nothing happened."""
    if whole is None or got is None:
        return PUBLISHED
    if got["error"]:
        return f"noticed ({got['error']})"
    expected, found = whole["digests"], got["digests"]
    assert isinstance(expected, dict) and isinstance(found, dict)
    missing = len(expected) - len(found)
    damaged = sum(expected.get(key) != digest for key, digest in found.items())
    said = [lost(missing, len(expected))] * bool(missing)
    said += [f"delivered {damaged} damaged"] * bool(damaged)
    return ", ".join(said) or "delivered the same"


def table(folder: Path, python: Path) -> list[Row]:
    """Every fault through every reader, after each has read the sound shard."""
    path = build(folder / "sound")
    assert not ours(folder / "sound") and not verified(folder / "sound")
    whole = {reader: peer(python, reader, path) for reader in PEERS}
    titles = {reader: _title(title, whole[reader]) for reader, title in PEERS.items()}
    known, rows = index.load(path), []
    for fault, damage in FAULTS.items():
        broken = Path(shutil.copytree(folder / "sound", folder / "broken"))
        (broken / path.name).write_bytes(damage(bytearray(path.read_bytes()), known))
        readers = {
            titles[reader]: judged(whole[reader], peer(python, reader, broken / path.name))
            for reader in PEERS
        }
        rows.append(Row(fault, {**readers, **own(broken)}, ours(broken)))
        shutil.rmtree(broken)
    return rows


def _title(name: str, whole: dict[str, object] | None) -> str:
    return f"{name} {whole['version']}" if whole else name


def own(broken: Path) -> dict[str, str]:
    """Fuseline's three ways to look at a shard."""
    said = {"Fuseline": ours(broken), "verify": verified(broken)}
    (index_path(broken / "bench-000.tar")).rename(broken / "aside")
    said["Fuseline, no index"] = ours(broken)
    (broken / "aside").rename(index_path(broken / "bench-000.tar"))
    return {name: _noticed(text) for name, text in said.items()}


def _noticed(text: str) -> str:
    if text.startswith(SILENTLY):
        return text.split("; ")[0]
    if "payload bits are not checked" in text:
        return "said that payload bits are not checked"
    return "noticed" if text else "not noticed"


def markdown(rows: list[Row]) -> str:
    """The table, and below it what the user of ours saw."""
    names = list(rows[0].readers)
    lines = ["| fault | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {row.fault} | " + " | ".join(row.readers[name] for name in names) + " |" for row in rows]
    lines += ["", "What the run said, with the index:", ""]
    lines += [f"- {row.fault}: `{' '.join(row.message.split())}`" for row in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Build, damage, read, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument(
        "--python",
        type=Path,
        default=Path(".venv-bench/bin/python"),
        help="of the other readers' environment",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "sound").mkdir()
        rows = table(folder, options.python)
    for row in rows:
        row.message = row.message.replace(temporary, "")
    text = markdown(rows)
    result = msgspec.json.encode(Table(report.machine(), SAMPLES, rows))
    write_atomic(report.FOLDER / "faults.json", msgspec.json.format(result, indent=1) + b"\n")
    write_atomic(report.FOLDER / "faults.md", text)
    print(text)


if __name__ == "__main__":
    main()
