"""params.yaml → typed, strict settings. The structs below are its documentation."""

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from contract import plain_yaml
from contract.column import Dtype, Output, Transform
from contract.errors import ParamsError
from contract.record import Role

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
T = TypeVar("T")


NAME = re.compile(r"[A-Za-z0-9_]+")  # of what becomes part of folders and shards
SOURCES = ("pretrained", "random")  # of an encoder's weights, besides files
WEIGHTS = "weights"  # the folder that the stages depend on which run encoders
TFIDF = "tfidf"  # the text encoder that needs no weights
NOWHERE: Mapping[str, str] = MappingProxyType({})
SHOWN = 200  # characters of a value that an error shows


class Strict(Struct, forbid_unknown_fields=True, frozen=True):
    """A section in which an unknown key is an error."""


class DemoGqa(Strict, frozen=True):
    """Pictures per split of the generated GQA."""

    train: Positive = 2200
    val: Positive = 300
    testdev: Positive = 60


class DemoCirr(Strict, frozen=True):
    """Pictures per split of the generated CIRR."""

    train: Positive = 360
    val: Positive = 120
    test1: Positive = 60


class Demo(Strict, frozen=True):
    """The generated world (stage demo). Sizes are pictures, except `questions`: per GQA picture."""

    gqa: DemoGqa = DemoGqa()
    questions: Positive = 9
    cirr: DemoCirr = DemoCirr()
    visual_genome: Positive = 300
    coco: Positive = 120


class Pretrain(Strict, frozen=True):
    """Stage pretrain: the demo's own weights. Steps and not seconds, so that the bytes repeat."""

    encoders: list[str]
    steps: Positive
    batch: Positive = 32
    learning_rate: float = 2e-3


class Drop(Strict, frozen=True):
    """One delivery of raw data. Shards per split are fixed when it arrives; later drops open new ones."""

    shards: dict[str, Positive]
    path: str = "."  # relative to the dataset's folder


class Dataset(Strict, frozen=True):
    """One dataset: a reader, a folder and the drops in it."""

    format: str  # names data_pipeline/readers/<format>.py
    folder: str
    raw: Annotated[list[Drop], Meta(min_length=1)]
    # Shares of our own split, by picture group, for pictures that come without an official one.
    splits: dict[str, Share] = {}
    exhaustive: bool = False  # its boxes show every thing of their names
    options: dict[str, Any] = {}  # the reader's own, checked by the reader


class BoxRules(Strict, frozen=True):
    """What stage validate does to boxes. Lengths in pixels of the picture, areas as a share of it."""

    max_overhang: Annotated[float, Meta(ge=0.0)] = 2.0
    min_area: Share = 0.0
    max_mask_difference: Annotated[float, Meta(ge=0.0)] = 2.0  # between the edges of a box and of its mask


class Budgets(Strict, frozen=True):
    """Per stage, {reason: share of the rows of a table that it may take}. A stage that finds more fails."""

    read: dict[str, Share] = {}
    scan: dict[str, Share] = {}
    images: dict[str, Share] = {}
    validate: dict[str, Share] = {}
    spans: dict[str, Share] = {}
    features: dict[str, Share] = {}


class Tokenizer(Strict, frozen=True):
    """The tokenizer of the texts."""

    name: str  # a tokenizers JSON file: stage spans depends on it
    # Tokens that the model reads, its two specials among them; only counted, texts stay whole.
    length: Annotated[int, Meta(ge=3)] = 77
    # The demo's tokenizer knows only the demo's words: other data needs this said on purpose.
    allow_demo: bool = False


class Spans(Strict, frozen=True):
    """Stage spans. match: roles of texts in which things are found by name where the source marks none."""

    match: tuple[Role, ...] = ("caption", "edit")


class Encoder(Strict, frozen=True):
    """One frozen encoder; its features are the column `features/<its name>/`."""

    architecture: str  # names data_pipeline/features/encoders/<architecture>.py
    model: str
    weights: str  # "pretrained", "random", or a file under weights/
    size: Positive  # side of the square input, pixels
    grid: Positive  # side of the stored token grid; exact pooling from the model's own
    transform: Transform = "squash"
    output: Output = "tokens"
    dtype: Dtype = "float16"
    batch: Positive = 32
    threads: Positive = 1
    options: dict[str, Any] = {}  # handed to the architecture's builder
    allow_demo_weights: bool = False


class Ranks(Strict, frozen=True):
    """Which neighbours become negatives; names as in sentence-transformers' `mine_hard_negatives`.

    Ranks and scores (cosines) are of what is left when all that is known to be no negative has gone.
    """

    num_negatives: Positive = 16
    range_min: Count = 0  # nearest ones that are passed over, as too likely true
    range_max: Positive = 32  # ranks that are looked at
    min_score: float | None = None
    max_score: float | None = None
    sampling_strategy: Literal["top", "random", "balanced"] = "top"


class Selection(Ranks, frozen=True):
    """Of pictures."""

    sampling_strategy: Literal["top", "random"] = "top"


class TextSelection(Ranks, frozen=True):
    """Of texts (statements, captions, phrases), which are changed into false ones as well.

    balanced: drawn so that what is said often is named as often. The nearest alone are the same few texts for
    many, and a model learns to tell these by their words, without a picture.
    """

    num_negatives: Positive = 4
    sampling_strategy: Literal["top", "random", "balanced"] = "balanced"
    encoder: str = TFIDF  # or a text encoder of transformers: a folder under weights/, or a name on the hub
    dimensions: Positive = 256  # of a text's TF-IDF vector, a power of two
    # A neighbour's cosine with the picture lies below that of the picture's own text by this much, or by this
    # share of it. Only where one CLIP projects texts and pictures.
    absolute_margin: Annotated[float, Meta(ge=0.0)] | None = None
    relative_margin: Share | None = None
    swaps: Count = 4  # changed texts per text, at most


class NegativesParams(Strict, frozen=True):
    """Stage negatives: neighbours of pictures in one encoder's feature space, of texts in their words'."""

    encoder: str
    pictures: Selection = Selection()
    text: TextSelection = TextSelection()
    exact_up_to: Count = 100_000  # vectors; more are searched by FAISS in a few cells
    probes: Positive = 256  # cells per query, at most
    min_recall: Share = 0.99  # of a sample's true neighbours, or the stage fails


class ShardsParams(Strict, frozen=True):
    """Stage shards. thumbnails: longest side in pixels, 0 for none."""

    thumbnails: Count = 0


class Report(Strict, frozen=True):
    """Stage report: pictures shown per reject reason, and samples per dataset."""

    examples: Positive = 6


class Params(Strict, kw_only=True, frozen=True):
    """The whole of params.yaml. `train` is checked by `training.config`."""

    seed: int = 0
    workers: Positive = 2  # processes per stage; does not change a byte
    # Whether stage features may encode anew what dvc.lock names and nobody has fetched to this machine.
    encode_unfetched: bool = False
    demo: dict[str, Demo] = {}
    pretrain: dict[str, Pretrain] = {}
    datasets: dict[str, Dataset]
    boxes: BoxRules = BoxRules()
    budgets: Budgets = Budgets()
    tokenizer: Tokenizer
    spans: Spans = Spans()
    encoders: dict[str, Encoder]
    negatives: NegativesParams
    shards: ShardsParams = ShardsParams()
    report: Report = Report()
    train: dict[str, Any] = {}


def load(path: Path = Path("params.yaml")) -> Params:
    """Read params.yaml. ParamsError names the key, the value found and the nearest known name."""
    params = convert(plain_yaml.read(path), Params, str(path))
    for section in ("demo", "pretrain", "datasets", "encoders"):
        _check_names(path, section, getattr(params, section))
    if not params.datasets:
        raise ParamsError(path, "datasets is empty", expected="at least one dataset")
    for name, dataset in params.datasets.items():
        _check_dataset(path, name, dataset)
    for name, encoder in params.encoders.items():
        _check_weights(path, name, encoder.weights)
    if params.negatives.encoder not in params.encoders:
        raise ParamsError(
            path,
            "negatives.encoder names no encoder",
            found=params.negatives.encoder,
            expected=f"one of {', '.join(params.encoders)}",
        )
    _check_negatives(path, params)
    return params


def convert(content: object, kind: type[T], where: str, said: Mapping[str, str] = NOWHERE) -> T:
    """Turn plain data into `kind`; every miss is a ParamsError with its key, the value and what it may be.

    said: place → where it was said, if not in `where`.
    """
    check_keys(content, kind, where, said=said)
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError:
        raise _fault(content, kind, where, said) from None


def check_keys(
    content: object, kind: Any, where: str, place: str = "", said: Mapping[str, str] = NOWHERE
) -> None:
    """Look for unknown keys all the way down, and offer the nearest name."""
    if isinstance(content, Mapping) and (fields := _fields(kind)):
        for key in content:
            if key not in fields:
                inner = _join(place, key)
                raise _unknown_key(_said_in(inner, where, said), inner, str(key), list(fields))
    for inner, value, of in _parts(content, kind, place):
        check_keys(value, of, where, inner, said)


def _fault(content: object, kind: Any, where: str, said: Mapping[str, str], place: str = "") -> ParamsError:
    """The error for what cannot be converted: of the first part of it that cannot, all the way down."""
    for inner, value, of in _parts(content, kind, place):
        if _problem(value, of):
            return _fault(value, of, where, said, inner)
    allowed = _choices(kind)
    return ParamsError(
        _said_in(place, where, said),
        f"{place or 'value'}: {_problem(content, kind)}",
        found=None if isinstance(content, Mapping) and _fields(kind) else repr(content)[:SHOWN],
        expected=f"one of {', '.join(allowed)}" if allowed else None,
    )


def _problem(content: object, kind: Any) -> str:
    """Why it cannot be converted; "" where it can."""
    try:
        msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        return str(error)
    return ""


def _parts(content: object, kind: Any, place: str) -> Iterator[tuple[str, object, Any]]:
    """What a mapping or list holds: the place of each, the value, and what it is to be."""
    fields = _fields(kind)
    holds, inner = get_origin(_unwrap(kind)), get_args(_unwrap(kind))
    if isinstance(content, Mapping) and fields:
        yield from ((_join(place, key), content[key], fields[key]) for key in content if key in fields)
    elif isinstance(content, Mapping) and holds is dict:
        yield from ((_join(place, key), value, inner[1]) for key, value in content.items())
    elif isinstance(content, list) and holds in (list, tuple):
        yield from ((f"{place}[{number}]", value, inner[0]) for number, value in enumerate(content))


def _fields(kind: Any) -> dict[str, Any]:
    """Key → type, of a section; nothing of anything else."""
    kind = _unwrap(kind)
    if not (isinstance(kind, type) and issubclass(kind, Struct)):
        return {}
    return {field.encode_name: field.type for field in msgspec.structs.fields(kind)}


def _unwrap(kind: Any) -> Any:
    """`Annotated[X, …]` → X, and `X | None` → X."""
    if hasattr(kind, "__metadata__"):
        return _unwrap(kind.__origin__)
    members = [one for one in get_args(kind) if one is not NoneType]
    return _unwrap(members[0]) if get_origin(kind) in (Union, UnionType) and len(members) == 1 else kind


def _choices(kind: Any) -> list[str]:
    """The words that a value may be, if it is one of several; beside them what else it may be."""
    kind = _unwrap(kind)
    if get_origin(kind) is Literal:
        return [str(name) for name in get_args(kind)]
    members = get_args(kind) if get_origin(kind) in (Union, UnionType) else ()
    if not any(map(_choices, members)):
        return []
    return [name for one in members for name in _choices(one) or [_unwrap(one).__name__]]


def _join(place: str, key: object) -> str:
    return f"{place}.{key}" if place else str(key)


def _said_in(place: str, where: str, said: Mapping[str, str]) -> str:
    """Where this place was said: itself, or what holds it; the last that was said counts."""
    found = [source for prefix, source in said.items() if f"{place}.".startswith(f"{prefix}.")]
    return found[-1] if found else where


def _unknown_key(where: str, place: str, key: str, known: list[str]) -> ParamsError:
    near = get_close_matches(key, known, n=1, cutoff=0.4)
    return ParamsError(
        where,
        f"unknown key '{place}'",
        expected=f"one of {', '.join(known)}",
        fix=f"did you mean '{near[0]}'?" if near else None,
    )


def dataset(params: Params, name: str) -> Dataset:
    """The dataset of that name, or the error that lists them."""
    return _choose(params.datasets, "dataset", name)


def encoder(params: Params, name: str) -> Encoder:
    """The encoder of that name, or the error that lists them."""
    return _choose(params.encoders, "encoder", name)


def _choose(table: Mapping[str, T], what: str, name: str) -> T:
    if name not in table:
        raise _unknown_key("params.yaml", f"{what}s.{name}", name, list(table))
    return table[name]


def _check_names(path: Path, section: str, names: Iterable[str]) -> None:
    for name in names:
        if not NAME.fullmatch(name):
            expected = "letters, digits and _"
            raise ParamsError(path, f"{section}: '{name}' cannot be a name", expected=expected)


def _check_weights(path: Path, name: str, weights: str) -> None:
    """A file elsewhere could change without any stage knowing."""
    if weights not in SOURCES and not (
        _stays_inside(weights) and PurePosixPath(weights).parts[:1] == (WEIGHTS,)
    ):
        expected = f"{' or '.join(SOURCES)}, or a file under {WEIGHTS}/"
        raise ParamsError(path, f"encoders.{name}.weights", found=weights, expected=expected)


def _check_negatives(path: Path, params: Params) -> None:
    text = params.negatives.text
    for name, chosen in (("pictures", params.negatives.pictures), ("text", text)):
        least = chosen.range_min + chosen.num_negatives
        if chosen.range_max < least:
            expected = f"range_min + num_negatives or more, which is {least}"
            raise ParamsError(path, f"negatives.{name}.range_max", found=chosen.range_max, expected=expected)
    if text.dimensions & (text.dimensions - 1):
        raise ParamsError(path, "negatives.text.dimensions", found=text.dimensions, expected="a power of two")


def _stays_inside(place: str) -> bool:
    path = PurePosixPath(place)
    return not path.is_absolute() and ".." not in path.parts


def _check_dataset(path: Path, name: str, dataset: Dataset) -> None:
    _check_names(path, f"datasets.{name}.splits", dataset.splits)
    for number, drop in enumerate(dataset.raw):
        _check_names(path, f"datasets.{name}.raw[{number}].shards", drop.shards)
        if not _stays_inside(drop.path):
            where = f"datasets.{name}.raw[{number}].path"
            raise ParamsError(
                path, f"{where} leaves the dataset's folder", found=drop.path, expected="a folder inside it"
            )
    folders = [str(PurePosixPath(drop.path)) for drop in dataset.raw]
    if twice := sorted({folder for folder in folders if folders.count(folder) > 1}):
        where, expected = f"datasets.{name}.raw: two drops are one folder", "a path of its own for each drop"
        raise ParamsError(path, where, found=twice[0], expected=expected)
    total = sum(dataset.splits.values())
    if dataset.splits and abs(total - 1) > 1e-9:
        raise ParamsError(path, f"datasets.{name}.splits do not add up to 1", found=total, expected=1)
