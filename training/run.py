"""A run's folder: settings, what it was trained on, and all that evaluation and prediction need.

config.json  tokenizer.json  features/<column>/manifest.json  checkpoints/  metrics.json  plots/
text/  (config.json and tokenizer.json of a text encoder that was not made with the run)
bank.json  (pictures that could not be read when a static bank was filled)
"""

import shlex
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, structs
from tokenizers import Tokenizer
from torch import nn

from contract import manifest
from contract.codec import UNDECODABLE
from contract.errors import MismatchError, ParamsError, unreadable
from contract.files import atomic_path, check_folder, sha256_text, write_atomic
from contract.manifest import FeatureManifest
from training.config import TextModel, Train
from training.heads.vqa import VqaHead
from training.model.model import FusionModel, build
from training.modules.logit_scale import LogitScale
from training.optimizing import checkpoint
from training.settings import from_builtins
from training.shards import ShardSet, read_tokenizer
from training.trunk import pretrained_text
from training.trunk.picture import column

SCRATCH = TextModel()
TEXT_FOLDER, BANK = "text", "bank.json"  # of a run
OWN = ("config.json", "tokenizer.json", "features", TEXT_FOLDER, BANK, "checkpoints", "metrics.json", "plots")
SHAPE = ("grid", "width", "dtype")  # of a column, which its arrays show


class ColumnIdentity(Struct, forbid_unknown_fields=True):
    """What makes a feature column that column and no other."""

    weights: str
    architecture: str
    model: str
    transform: str
    output: str
    size: int
    grid: int
    width: int
    dtype: str
    version: int


class Identity(Struct, forbid_unknown_fields=True):
    """What a run's weights mean anything with."""

    schema: str
    tokenizer: str
    answers: str
    columns: dict[str, ColumnIdentity]
    text: str = ""


class RunConfig(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """config.json. torch_threads: of the CPU's arithmetic, whose sums depend on them. shards: the patterns as
    given; opened: the shards that they gave, with fingerprints; data: the folder of these
    shards; features: that of the columns, if not beside it. init: fingerprint of the weights of another run
    that it was begun with; ancestors: the shards that these were trained on, and those that they were begun
    with; words: of the file of synonyms, where texts get other words.
    """

    settings: dict[str, Any]
    seed: int
    torch_threads: int
    shards: list[str]
    opened: dict[str, dict[str, str]]
    data: str
    features: str | None
    allow_split: bool
    answers: list[str]
    identity: Identity
    init: str | None = None
    ancestors: list[str] = []
    words: str = ""


class Run(Struct):
    """An opened run."""

    folder: Path
    config: RunConfig
    settings: Train


def identify(shards: ShardSet, text: TextModel = SCRATCH) -> Identity:
    """The identity of opened shards, and of the text encoder where it is not made with the run."""
    columns = {name: _column_identity(known) for name, known in shards.features.items()}
    answers = sha256_text("\n".join(shards.answers))
    encoder = pretrained_text.fingerprint(text)
    return Identity(shards.data.schema, shards.data.tokenizer.sha256, answers, columns, encoder)


def _column_identity(known: FeatureManifest) -> ColumnIdentity:
    return ColumnIdentity(
        weights=known.weights.sha256,
        architecture=known.architecture,
        model=known.model,
        transform=known.transform,
        output=known.output,
        size=known.size,
        grid=known.grid,
        width=known.width,
        dtype=known.dtype,
        version=known.version,
    )


def names(shards: ShardSet) -> list[str]:
    """Names of the opened shards."""
    return [shard.path.stem for shard in shards.shards]


def trained_on(config: RunConfig) -> list[str]:
    """Names of all shards that have a part in the run's weights, those of its ancestors among them."""
    return sorted({*config.opened, *config.ancestors})


def create(folder: Path, run_config: RunConfig, shards: ShardSet) -> Run:
    """Make a new run's folder."""
    check_new(folder)
    with atomic_path(folder) as beside:
        write_atomic(beside / "tokenizer.json", shards.tokenizer.read_bytes())
        for name, known in shards.features.items():
            manifest.save(beside / "features" / name, known)
        for path in pretrained_text.description(from_builtins(run_config.settings, "").model.text):
            write_atomic(beside / TEXT_FOLDER / path.name, path.read_bytes())
        write_atomic(beside / "config.json", msgspec.json.format(msgspec.json.encode(run_config), indent=1))
    return open_run(folder)


def own(folder: Path) -> list[Path]:
    """What a run's folder holds of the run itself: other things may lie beside it."""
    return [folder / name for name in OWN]


def check_new(folder: Path) -> None:
    """ParamsError if a folder holds anything, a run or what a run would overwrite, or cannot be made."""
    if (folder / "config.json").exists():
        raise ParamsError(
            folder, "is a run already", fix=f"--resume {shlex.quote(str(folder))}, or another --run"
        )
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ParamsError(folder, "is no empty folder", fix="name a new one by --run")
    check_folder(folder.parent)


def open_run(folder: Path) -> Run:
    """Read a run's folder."""
    path = folder / "config.json"
    if not path.is_file():
        raise ParamsError(
            folder, "is not a run: it holds no config.json", fix="name a folder such as runs/demo"
        )
    try:
        stored = msgspec.json.decode(path.read_bytes(), type=RunConfig)
    except OSError as error:
        raise unreadable(path, error) from None
    except UNDECODABLE as error:
        raise MismatchError(path, f"is not a run of this version: {error}") from None
    return Run(folder, stored, from_builtins(stored.settings, f"{path}: settings"))


def check_identity(run: Run, shards: ShardSet, text: TextModel = SCRATCH) -> None:
    """Refuse shards that the run's weights mean nothing with: MismatchError lists what differs.

    Of a column without a manifest only its shape can be compared.
    """
    here, stored = _flat(identify(shards, text)), _flat(run.config.identity)
    differing = [name for name in sorted(here.keys() & stored.keys()) if here[name] != stored[name]]
    if differing:
        raise MismatchError(
            shards.folder,
            f"does not belong to {run.folder}: {', '.join(differing)}",
            found="; ".join(f"{name} {here.get(name)}" for name in differing),
            expected="; ".join(f"{name} {stored.get(name)}" for name in differing),
            fix="use the shards and features of that run (dvc checkout), or train a new one",
        )


def _flat(identity: Identity) -> dict[str, str]:
    fields = {"schema": identity.schema, "tokenizer": identity.tokenizer, "answers": identity.answers}
    fields |= {"model.text": identity.text} if identity.text else {}
    for name, known in identity.columns.items():
        plain = msgspec.to_builtins(known)
        told = plain if known.weights else {key: plain[key] for key in SHAPE}
        fields |= {f"features/{name}.{key}": str(value) for key, value in told.items()}
    return fields


def build_model(
    settings: Train, shapes: dict[str, FeatureManifest], tokenizer: Path, answers: int
) -> FusionModel:
    """A model with fresh weights. shapes: manifests of the columns; answers: size of the vocabulary."""
    columns = [column(name, shapes[name]) for name in settings.columns]
    vocabulary = read_tokenizer(tokenizer).get_vocab_size()
    return build(settings, columns, vocabulary, answers)


def trained_model(run: Run, which: checkpoint.Which) -> FusionModel:
    """The run's model as it is scored, by its last or best checkpoint, from the run's folder alone."""
    shapes = column_manifests(run)
    settings = structs.replace(run.settings, model=structs.replace(run.settings.model, text=text_of(run)))
    model = build_model(settings, shapes, run.folder / "tokenizer.json", len(run.config.answers))
    model.trunk.picture.compact = False  # so that a token's number tells its place
    averaged = run.settings.optim.ema is not None
    checkpoint.load_model(checkpoint.find(run.folder, which), model, averaged)
    return model


def text_of(run: Run) -> TextModel:
    """The run's text encoder by the files that it keeps of it; its weights are in the checkpoints."""
    text = run.settings.model.text
    kept = str((run.folder / TEXT_FOLDER).absolute())
    return structs.replace(text, path=kept, random=True) if text.path else text


def tokenizer(run: Run) -> Tokenizer:
    """That of the tokens which the model takes."""
    return pretrained_text.tokenizer(text_of(run)) or read_tokenizer(run.folder / "tokenizer.json")


def column_manifests(run: Run) -> dict[str, FeatureManifest]:
    """The manifests of the run's columns, as they were when it began."""
    folder = run.folder / "features"
    return {name: manifest.load(folder / name, FeatureManifest) for name in run.settings.columns}


def fingerprint(folder: Path) -> str:
    """Of the weights that `init_model` starts from."""
    source = open_run(folder)
    return checkpoint.fingerprint(checkpoint.find(folder, "best"), source.settings.optim.ema is not None)


def init_model(
    folder: Path, model: FusionModel, settings: Train, shards: ShardSet
) -> tuple[list[str], list[str], list[str]]:
    """Start `model` from a run's best weights; returns the names of those loaded, new, and left there.

    What another answer vocabulary, tokenizer or feature column gives another meaning stays new, and a scale
    that this run holds fixed; one that it learns starts no higher than its limit here.
    """
    source = open_run(folder)
    fresh = _fresh(source, identify(shards, settings.model.text), settings.columns, model)
    averaged = source.settings.optim.ema is not None
    names = checkpoint.init_model(checkpoint.find(folder, "best"), model, fresh, averaged)
    model.limit_scales()
    return names


def _fresh(source: Run, here: Identity, columns: list[str], model: FusionModel) -> list[str]:
    """Prefixes of the parameters that do not mean the same in both."""
    stored = source.config.identity
    before = [stored.columns[name] for name in source.settings.columns]
    now = [here.columns[name] for name in columns]
    found = [
        f"trunk.picture.normalizers.{n}."
        for n, pair in enumerate(zip(before, now, strict=False))
        if pair[0] != pair[1]
    ]
    if before[:1] != now[:1]:
        found.append("heads.mfm.decode.")
    if stored.answers != here.answers:
        found.append(f"heads.vqa.{VqaHead.ANSWERS}.")
    if stored.tokenizer != here.tokenizer:
        found.append("trunk.text.words.")
    if stored.text != here.text:
        found.append("trunk.text.")
    found += [f"{name}." for name, module in model.named_modules() if _is_fixed(module)]
    return [
        *found,
        "heads.itc.bank.",
        "heads.region.bank.",
        "heads.region.threshold.",
        "momentum_encoder.",
    ]  # begin anew


def _is_fixed(module: nn.Module) -> bool:
    """Whether it is a scale that is set and not learned."""
    return isinstance(module, LogitScale) and not module.log.requires_grad
