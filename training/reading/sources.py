"""Where the columns of a folder of records lie, and what is known of them.

A family has `features/` and `negatives/` beside `data/`. An export has every column in the record tars. Tars
without a manifest can be either; of those the user says the tokenizer and the answers.
"""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from contract import index, manifest, record
from contract.errors import ParamsError, ShardError, no_room, unknown_name
from contract.files import sha256_file
from contract.manifest import (
    DataManifest,
    ExportManifest,
    FeatureManifest,
    NegativesManifest,
    ShardFacts,
    TokenizerFacts,
)
from training.reading.tars import Tars
from training.reading.unlisted import UNLISTED, describe_column

FEATURES, NEGATIVES = "features", "negatives"


class Source(Struct, frozen=True):
    """A folder of records. features: what is known of each column that will be read.

    beside: folder of the feature columns; None: they and the negatives stand in the record tars. negatives:
    what an export says of them. listed: whether a manifest names the shards.
    """

    folder: Path
    data: DataManifest
    tokenizer: Path
    features: dict[str, FeatureManifest]
    beside: Path | None
    negatives: NegativesManifest | None = None
    listed: bool = True

    def column(self, name: str, shard: Path) -> Path:
        """The tar that holds a feature column of a record shard."""
        return self.beside / name / shard.name if self.beside else shard

    def mined(self, shard: Path) -> Path:
        """The tar that holds the negatives of a record shard."""
        return self.folder.parent / NEGATIVES / shard.name if self.beside else shard

    @property
    def mined_there(self) -> bool:
        """Whether there are mined negatives."""
        beside = self.folder.parent / NEGATIVES / manifest.NAME
        return self.negatives is not None if self.beside is None else beside.is_file()

    def mining(self) -> NegativesManifest | None:
        """What is known of the negatives; None where no manifest tells of them."""
        folder = self.folder.parent / NEGATIVES
        if self.beside is None or not (self.listed or (folder / manifest.NAME).is_file()):
            return self.negatives
        return manifest.load(folder, NegativesManifest)

    def notes(self) -> list[str]:
        """What nothing vouches for, a line each."""
        assumed = [known for known in self.features.values() if known.weights.source == UNLISTED]
        unlisted = f"{self.folder}/ has no manifest.json: nothing says that tokens, answers and features fit"
        return [unlisted] * (not self.listed) + [
            f"column {known.encoder} has no manifest: by its first array {known.width} wide and "
            f"{known.grid} × {known.grid}{' behind a CLS' * known.cls}; taken for the whole picture, squashed"
            for known in assumed
        ]


def find(
    shards: Sequence[Path],
    columns: Sequence[str],
    *,
    split: str,
    beside: Path | None,
    tokenizer: Path | None,
    answers: Sequence[str] | None,
) -> Source:
    """The source of shards of one folder. beside: another folder of columns than that of a family.

    tokenizer, answers: of shards that came without a manifest; ShardError where these lack either.
    """
    folder = shards[0].parent
    if manifest.is_export(folder):
        return _export(folder, columns, beside)
    if (folder / manifest.NAME).is_file():
        return _family(folder, columns, beside or folder.parent / FEATURES)
    if tokenizer is None or answers is None:
        raise ShardError(
            folder / manifest.NAME,
            "no such manifest",
            fix=f"fetch it (dvc pull {folder / manifest.NAME}) or build it (dvc repro); "
            "for shards of another make say --tokenizer FILE and --answers FILE",
        )
    return _bare(shards, columns, split, beside, tokenizer, answers)


def _family(folder: Path, columns: Sequence[str], features: Path) -> Source:
    data = manifest.load(folder, DataManifest)
    known = {name: manifest.load(features / name, FeatureManifest) for name in columns}
    return Source(folder, data, folder / "tokenizer.json", known, features)


def _export(folder: Path, columns: Sequence[str], beside: Path | None) -> Source:
    if beside:
        raise ParamsError("--features", f"{folder} holds its own columns", fix="leave it out")
    known = manifest.load(folder, ExportManifest)
    for name in columns:
        if name not in known.features:
            raise unknown_name(folder, "feature column", name, known.features, ShardError)
    data = DataManifest(
        known.format, known.schema, known.tokenizer, known.answers, known.shards, missing=known.missing
    )
    features = {name: known.features[name] for name in columns}
    return Source(folder, data, folder / "tokenizer.json", features, None, known.negatives)


def _bare(
    shards: Sequence[Path],
    columns: Sequence[str],
    split: str,
    beside: Path | None,
    tokenizer: Path,
    answers: Sequence[str],
) -> Source:
    """All that can be known of tars alone: each is of the split that was asked for, and of one dataset."""
    folder, words = shards[0].parent, TokenizerFacts(tokenizer.name, _digest(tokenizer))
    facts = ShardFacts(folder.resolve().name, split, samples=0, bytes=0, sha256="")
    data = DataManifest(1, record.fingerprint(), words, list(answers), {path.stem: facts for path in shards})
    if beside is None and not _self_contained(shards):
        beside = folder.parent / FEATURES
    source = Source(folder, data, tokenizer, {}, beside, listed=False)
    with closing(Tars()) as tars:
        return replace(source, features={name: _column(tars, source, shards, name) for name in columns})


def _digest(tokenizer: Path) -> str:
    try:
        return sha256_file(tokenizer)
    except OSError as error:
        fix = "name a tokenizer.json by --tokenizer"
        mistaken = ParamsError(tokenizer, f"cannot be read: {error.strerror}", fix=fix)
        raise no_room(tokenizer, error) or mistaken from None


def _self_contained(shards: Sequence[Path]) -> bool:
    """Whether the first shard that has pictures holds more of them than records."""
    suffixes = next((known.suffixes for known in map(index.load, shards) if len(known)), ())
    return any(suffix.endswith(".npy") for suffix in suffixes)


def _column(tars: Tars, source: Source, shards: Sequence[Path], name: str) -> FeatureManifest:
    if source.beside and (source.beside / name / manifest.NAME).is_file():
        return manifest.load(source.beside / name, FeatureManifest)
    return describe_column(tars, (source.column(name, shard) for shard in shards), name)
