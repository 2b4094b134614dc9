"""`manifest.json` of a folder of shards: what a reader must know, and refuse to guess."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from contract import column, record
from contract.codec import UNDECODABLE
from contract.column import Dtype, Output, Transform
from contract.errors import MismatchError, ShardError, no_room, unreadable
from contract.files import write_atomic

NAME = "manifest.json"
T = TypeVar("T", "DataManifest", "FeatureManifest", "NegativesManifest", "ExportManifest")
Grid = Annotated[int, Meta(ge=1, le=256)]  # bounds keep a hostile manifest from claiming all memory
Width = Annotated[int, Meta(ge=1, le=65536)]

# dataset → split, "" where none is known → "picture", "note" (of CIRR) or role of text → how many
Missing = dict[str, dict[str, dict[str, int]]]


class Strict(Struct, forbid_unknown_fields=True):
    """A part of a manifest."""


class ShardFacts(Strict):
    """One tar. task: what a feature tar was made from, as one hash. index: sha256 of its `.idx`.

    The index holds a hash of every member, so its own hash ties the manifest to the tar's payloads.
    """

    dataset: str
    split: str
    samples: int
    bytes: int
    sha256: str
    texts: dict[str, int] = {}  # per index.COUNTED, record shards only
    task: str = ""
    index: str = ""


class TokenizerFacts(Strict):
    """The tokenizer behind every `tokens`; the file lies beside the manifest as `tokenizer.json`."""

    name: str
    sha256: str


class WeightsFacts(Strict):
    """Where an encoder's weights came from. demo: made by stage pretrain, of no use on other pictures."""

    source: str
    sha256: str
    demo: bool = False


class DataManifest(Strict):
    """`data/manifest.json`. answers: the vocabulary, from train splits, most frequent first.

    missing: what a dataset declares and no shard holds.
    """

    format: Literal[1]
    schema: str
    tokenizer: TokenizerFacts
    answers: list[str]
    shards: dict[str, ShardFacts]
    params: dict[str, Any] = {}
    missing: Missing = {}


class FeatureManifest(Strict):
    """`features/<encoder>/manifest.json`. width: channels D; tokens are grid² plus one if `cls`.

    config: sha256 of the model's own configuration, where it comes with one.
    """

    format: Literal[1]
    encoder: str
    architecture: str
    model: str
    weights: WeightsFacts
    transform: Transform
    size: int
    grid: Grid
    cls: bool
    width: Width
    dtype: Dtype
    batch: int
    threads: int
    version: int
    settings: dict[str, Any]  # the entry of params.yaml, enough to build the encoder again
    shards: dict[str, ShardFacts]
    output: Output = "tokens"
    config: str = ""

    @property
    def tokens(self) -> int:
        """Tokens per picture."""
        return self.grid**2 + self.cls

    @property
    def suffixes(self) -> list[str]:
        """Members of a picture, in the order of the tar."""
        return column.suffixes(self.encoder, self.dtype)

    @property
    def arrays(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and type of each member of a picture: tokens [N, D], and the scales [N] of int8."""
        shapes = ((self.tokens, self.width), self.dtype), ((self.tokens,), "float32")
        return dict(zip(self.suffixes, shapes, strict=False))


class Certificate(Strict):
    """How neighbours were searched, and the share of the true ones that a sample of queries found.

    An exact search has no cells, needs no sample and has recall 1.
    """

    method: Literal["exact", "ivf"]
    vectors: int
    wanted: int
    cells: int = 0
    probes: int = 0  # cells searched per query
    sampled: int = 0
    recall: float = 1.0


class NegativesManifest(Strict):
    """`negatives/manifest.json`. searches: by "<dataset>/<split>/pictures" and "…/texts",
    or "…/texts/<role>" where texts have several.

    text_encoder: as params.yaml names it. text_weights: sha256 of its weights, "" for TF-IDF.
    """

    format: Literal[1]
    schema: str
    encoder: str
    weights: str  # sha256 of the encoder's weights
    per_picture: int
    shards: dict[str, ShardFacts]
    searches: dict[str, Certificate] = {}
    text_encoder: str = "tfidf"
    text_weights: str = ""


class ExportManifest(Strict):
    """`manifest.json` of self-contained shards: the members of every column stand in one tar.

    features, negatives: the manifests of those columns, without their shards. missing: as of the records.
    """

    format: Literal[1]
    schema: str
    self_contained: Literal[True]
    tokenizer: TokenizerFacts
    answers: list[str]
    features: dict[str, FeatureManifest]
    negatives: NegativesManifest | None
    shards: dict[str, ShardFacts]
    missing: Missing = {}


def save(folder: Path, manifest: DataManifest | FeatureManifest | NegativesManifest | ExportManifest) -> None:
    """Write the manifest, readable, keys in the order of the struct."""
    write_atomic(folder / NAME, msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")


def is_export(folder: Path) -> bool:
    """Whether a folder's manifest says that its shards are self-contained; what else is wrong `load` says."""
    path = folder / NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Kind).self_contained
    except OSError as error:
        if wanting := no_room(path, error):
            raise wanting from None
        return False
    except UNDECODABLE:
        return False


class _Kind(Struct):
    """What tells the manifests of a folder of records apart."""

    self_contained: bool = False


def load(folder: Path, kind: type[T]) -> T:
    """A folder's manifest. ShardError where there is none, MismatchError where it is of another version."""
    path = folder / NAME
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise ShardError(
            path, "no such manifest", fix=f"fetch it (dvc pull {path}) or build it (dvc repro)"
        ) from None
    except OSError as error:
        raise unreadable(path, error) from None
    try:
        manifest = msgspec.json.decode(content, type=kind)
    except UNDECODABLE as error:
        raise _unreadable(path, content, error) from None
    _check_schema(path, getattr(manifest, "schema", None))
    _check_column(path, getattr(manifest, "encoder", None) if kind is FeatureManifest else None)
    return manifest


def _check_column(path: Path, encoder: str | None) -> None:
    """A copied folder would give one encoder's features out for another's."""
    name = os.path.basename(os.path.abspath(path.parent))  # noqa: PTH100, PTH119 a link may lead elsewhere
    if encoder is not None and encoder != name:
        raise MismatchError(
            path,
            "encoder: is of another column than its folder",
            found=encoder,
            expected=name,
            fix=f"name the folder {encoder}, or fetch or build {name} (dvc repro)",
        )


def _check_schema(path: Path, found: str | None) -> None:
    expected = record.fingerprint()
    if found is not None and found != expected:
        raise MismatchError(
            path,
            "schema: these shards were written with another version of the record schema",
            found=found,
            expected=expected,
            fix="rebuild them (dvc repro), or use the version of Fuseline that wrote them",
        )


def _unreadable(path: Path, content: bytes, error: Exception) -> MismatchError:
    """Say `format: found 2, expected 1` rather than how the decoder tripped over it."""
    try:
        plain = msgspec.json.decode(content)
    except UNDECODABLE:
        return MismatchError(path, f"is not JSON: {error}", fix="fetch it again")
    found = plain.get("format") if isinstance(plain, dict) else None
    if found != record.FORMAT_VERSION:
        return MismatchError(path, "format: another version of the shard format", found=found, expected=1)
    return MismatchError(path, f"does not fit this version: {error}")
