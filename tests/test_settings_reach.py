"""What is said under `train` reaches what it is for: each setting has a row here, or a test elsewhere.

A row says what it stands beside, other values than the one that holds there, and where to look: at what the
first step asks of the weights, at what a short run makes of them, or at the part that was to get the value.
"""

import hashlib
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import cache
from itertools import count
from pathlib import Path
from typing import NamedTuple, get_args, get_type_hints

import every_task
import pytest
import statements
import synthetic
import synthetic_tasks
import torch
from msgspec import Struct
from torch import Tensor, nn

from contract import manifest
from contract.manifest import DataManifest
from contract.record import NegText, Record, TextNegatives
from training import fit, run
from training.config import Train
from training.distributed import ALONE
from training.modules.attention import Attention
from training.modules.logit_scale import LogitScale
from training.modules.recompute import Block
from training.optimizing import loop, step
from training.optimizing.checkpoint import Sums
from training.optimizing.step import StepContext
from training.optimizing.tally import tally
from training.starting.command_line import parser
from training.starting.preparing import Prepared, prepare

Settings = tuple[str, ...]
CPU = torch.device("cpu")
PICTURES = 24
SHORT = ("development=0", "optim.epochs=1", "optim.clip=1000", "log_every=100", "checkpoint_every=100")
WORDS = {"words.yaml": "[left, top]", "other.yaml": "[left, bottom]"}  # that may be exchanged
runs = count()


class Row(NamedTuple):
    """A setting, other values of it than the one that holds beside `given`, and where to look."""

    place: str
    given: Settings
    values: tuple[object, ...]
    probe: Callable[[Settings], Hashable]


@pytest.fixture(scope="module", autouse=True)
def world(tmp_path_factory) -> Iterator[Path]:
    """Shards of every task; in `two`, shards of two datasets."""
    folder = tmp_path_factory.mktemp("reach")
    synthetic.build(folder, train=PICTURES, val=4, shards=2, change=named, false=false)
    (folder / "two").mkdir()
    synthetic.build(folder / "two", train=PICTURES, val=4, shards=2)
    known = manifest.load(folder / "two/data", DataManifest)
    known.shards["toy-001"].dataset = "other"
    manifest.save(folder / "two/data", known)
    for name, group in WORDS.items():
        (folder / name).write_text(f"objects: {{}}\ninterchangeable: [{group}]")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def named(number: int, record: Record) -> Record:
    """A text for every task; all of the statement names the bright cell."""
    made = every_task.with_all(number, record)
    for text in made.texts:
        if text.role == "statement":
            text.span_chars, text.span_tokens, text.span_regions = [(0, len(text.text))], [(0, 2)], [[0]]
    return made


def false(record: Record) -> dict[str, TextNegatives]:
    """Three changes of the statement and of a phrase, and the statements of later pictures."""
    number = int(record.id[1:])
    own = synthetic_tasks.quadrant(synthetic.cell(number))
    others = synthetic_tasks.phrase("", 0, own).negatives
    changed = [NegText(other.text, other.tokens, "side") for other in others]
    mined = statements.mined(number, PICTURES) if number < PICTURES else {}
    found = {name: TextNegatives(of.near, changed) for name, of in mined.items()}
    return found | {f"{number}-0-phrase": TextNegatives(statements.near([]), changed)}


def prepared(chosen: Settings, shards: str = "data") -> Prepared:
    """All of a run but its folder."""
    return prepare(parser().parse_args(["--shards", shards, "--set", *SHORT, *chosen]))


def pulled(chosen: Settings) -> str:
    """The gradients of the first step."""
    new = prepared(chosen)
    steps, _ = loop.planned_steps(len(new.stream), new.settings)
    parts = {0: next(iter(new.stream))}
    context = StepContext(0, steps, new.seed, False, tally(parts, new.settings, False, ALONE))
    step.backward(new.model, parts, new.settings, context, CPU, Sums())
    found = {name: weights.grad for name, weights in new.model.named_parameters()}
    return digest({name: gradient for name, gradient in found.items() if gradient is not None})


def trained(chosen: Settings) -> Path:
    """A run of a few steps."""
    folder = Path(f"runs/{next(runs)}")
    fit.main(["--run", str(folder), "--device", "cpu", "--set", *SHORT, *chosen])
    return folder


def learned(chosen: Settings) -> str:
    """The weights that a short run is scored by."""
    return digest(run.trained_model(run.open_run(trained(chosen)), "last").state_dict())


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Of names, shapes and bytes."""
    found = hashlib.sha256()
    for name, tensor in tensors.items():
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
        found.update(tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


def rows(chosen: Settings) -> Hashable:
    """How many pictures are trained on, and how many held out."""
    new = prepared(chosen)
    return len(new.stream), new.development and len(new.development)


def turns(chosen: Settings) -> Hashable:
    """The datasets whose batches come one after another."""
    new = prepared(chosen, "two/data")
    return tuple(span.dataset for span, _ in zip(new.stream.spans(), range(12), strict=False))


def lines(chosen: Settings) -> Hashable:
    """How many lines the log has of a run."""
    return len((trained(chosen) / "plots/metrics/train/loss.tsv").read_text().splitlines())


def modules(chosen: Settings) -> list[nn.Module]:
    """Of the model as it is made."""
    return list(prepared(chosen).model.modules())


def dropouts(chosen: Settings) -> Hashable:
    """Every share of what is dropped."""
    found = modules(chosen)
    plain = {module.p for module in found if isinstance(module, nn.Dropout)}
    return plain | {module.dropout for module in found if isinstance(module, Attention)}


def heads(chosen: Settings) -> Hashable:
    """Every number of heads."""
    return {module.heads for module in modules(chosen) if isinstance(module, Attention)}


def text_layers(chosen: Settings) -> Hashable:
    """How deep the text encoder is."""
    return {len(prepared(chosen).model.trunk.text.blocks)}


def head_layers(chosen: Settings) -> Hashable:
    """How deep the heads are that have layers."""
    found = prepared(chosen).model.heads.modules()
    return {len(module) for module in found if isinstance(module, nn.ModuleList)}


def longest(chosen: Settings) -> Hashable:
    """How long a text of a batch is, and may be."""
    new = prepared(chosen)
    return {next(iter(new.stream)).tokens.shape[1], new.model.trunk.text.max_tokens}


def limits(chosen: Settings) -> Hashable:
    """What no scale goes beyond."""
    found = [module for module in modules(chosen) if isinstance(module, LogitScale)]
    return {round(torch.tensor(module.most).exp().item(), 3) for module in found}


def recomputed(chosen: Settings) -> Hashable:
    """Whether blocks keep their inputs alone."""
    return {module.recomputed for module in modules(chosen) if isinstance(module, Block)}


def queries(chosen: Settings) -> Hashable:
    """How many queries and prompts there are, and vectors of a target."""
    new = prepared(chosen)
    head, shared = new.model.heads["cir"], new.model.trunk(next(iter(new.stream)))
    targets = head.targets(shared.picture, shared.visible)
    return {len(head.queries), len(head.prompt), targets.shape[1]}


def beside(field: str) -> Callable[[Settings], Hashable]:
    """How many pictures, or texts, stand beside the texts of a batch."""
    return lambda chosen: int((getattr(next(iter(prepared(chosen).stream)), field) >= 0).sum())


def of_streams(name: str) -> Callable[[Settings], Hashable]:
    """An attribute of the rows that are trained on, and of those held out."""

    def found(chosen: Settings) -> Hashable:
        new = prepared(chosen)
        return {getattr(stream, name) for stream in (new.stream, new.development)}

    return found


def task(name: str, options: str = "") -> Settings:
    """The settings of a run of one task."""
    holes = ("masking={ratio: 0.5, fill: learned}",) if name == "mfm" else ()
    return (f"tasks={{{name}: {{{options}}}}}", *holes)


def of_any_task(name: str) -> list[Row]:
    """What every task has: its weight."""
    at, given = f"tasks.{name}", task(name)
    return [
        Row(f"{at}.weight", given, (2,), pulled),
        Row(f"{at}.weight_end", given, (0.25,), learned),
        Row(f"{at}.rise", given, (0.9,), pulled),
    ]


def of_scale(name: str) -> list[Row]:
    """What every contrast has."""
    at, given = f"tasks.{name}.scale", task(name)
    return [Row(f"{at}.init", given, (5,), pulled), Row(f"{at}.learned", given, ("false",), pulled)]


def of_bank(name: str) -> list[Row]:
    """What every bank has; a short run fills it."""
    at, given = f"tasks.{name}.bank", task(name, "bank: {slots: 12}")
    return [Row(f"{at}.slots", given, (4,), learned), Row(f"{at}.warmup", given, (2,), learned)]


VQA, ITC, ITM, REGION, CIR = map(task, ("vqa", "itc", "itm", "region", "cir"))
SIGMOID = task("itc", "loss: sigmoid")
MOMENTUM = task("itc", "momentum: 0.9")
RAMP = task("itc", "momentum: 0.9, alpha: 0.4")
BOTH = ("tasks={itc: {}, itm: {}}",)
SIMILAR = ("tasks={itc: {}, itm: {sources: {similar: 1}}}",)
MINED = task("itm", "mined: 1, sources: {mined: 1}")
OF_PICTURES, OF_TEXTS = ((*MINED, f"tasks.itm.sides={side}") for side in ("picture", "text"))
MASKED = (*task("itm", "sources: {masked: 1}"), "masking.fill=learned", "optim.batch=24")
SWAPPED = task("itm", "swapped: 1, sources: {swapped: 1}")
ARCFACE = task("region", "contrast: arcface")
HALF = ("masking.ratio=0.5",)
FALLING = ("masking={ratio: 0.5, ratio_end: 0}",)
EVERY = (every_task.TASKS, *every_task.MASK)
DIFNET, CROSS = ("fusion.kind=difnet",), ("fusion.kind=cross_attention",)
REWORDED = ("augment={synonyms: 1, vocabulary: words.yaml}",)

# With another value, something else is found.
CHANGES = [
    *(row for name in ("vqa", "itc", "itm", "region", "cir", "mfm") for row in of_any_task(name)),
    *(row for name in ("itc", "region", "cir") for row in of_scale(name)),
    *(row for name in ("itc", "region") for row in of_bank(name)),
    Row("tasks.vqa.label_smoothing", VQA, (0.1,), pulled),
    Row("tasks.itc.width", ITC, (16,), pulled),
    Row("tasks.itc.loss", ITC, ("sigmoid",), pulled),
    Row("tasks.itc.bias", SIGMOID, (-1,), pulled),
    Row("tasks.itc.mined", ITC, (1, 2), pulled),
    Row("tasks.itc.momentum", ITC, (0.5, 0.9), learned),
    Row("tasks.itc.alpha", MOMENTUM, (0.4,), learned),
    Row("tasks.itc.alpha_ramp", RAMP, (1,), learned),
    Row("tasks.itm.gamma", ITM, (2,), pulled),
    Row("tasks.itm.balance", ITM, ("false",), pulled),
    Row("tasks.itm.two_way", ITM, ("true",), pulled),
    Row("tasks.itm.sides", ITM, ("picture", "text"), pulled),
    Row("tasks.itm.mined", MINED, (3,), beside("neg_picture")),
    Row("tasks.itm.mined", MINED, (3,), beside("near_text")),
    Row("tasks.itm.swapped", SWAPPED, (3,), pulled),
    Row("tasks.itm.sources.similar", BOTH, (9,), pulled),
    Row("tasks.itm.sources.random", SIMILAR, (0,), pulled),
    Row("tasks.itm.sources.mined", OF_PICTURES, (9,), pulled),
    Row("tasks.itm.sources.mined", OF_TEXTS, (9,), pulled),
    Row("tasks.itm.sources.mined", MINED, (0,), beside("near_text")),
    Row("tasks.itm.sources.swapped", SWAPPED, (9,), pulled),
    Row("tasks.itm.sources.masked", MASKED, (0, 9), pulled),
    Row("tasks.region.width", REGION, (16,), pulled),
    Row("tasks.region.pooling", REGION, ("max", "attention"), pulled),
    Row("tasks.region.contrast", REGION, ("supcon", "arcface"), pulled),
    Row("tasks.region.margin", ARCFACE, (0.5,), pulled),
    Row("tasks.region.coarse", REGION, (2,), pulled),
    Row("tasks.region.coarse_end", REGION, (0,), pulled),
    Row("tasks.region.fine", REGION, (2,), pulled),
    Row("tasks.region.fine_end", REGION, (0,), pulled),
    Row("tasks.region.negatives", REGION, (0, 1), pulled),
    Row("tasks.region.swapped", REGION, (1, 2), pulled),
    Row("tasks.region.rank", REGION, (0.5,), pulled),
    Row("tasks.region.intra", REGION, (0.5,), pulled),
    Row("tasks.region.false_phrases", REGION, ("true",), pulled),
    Row("tasks.region.masked", (*REGION, "masking.fill=learned"), ("true",), pulled),
    Row("tasks.cir.width", CIR, (16,), pulled),
    Row("tasks.cir.rtc", CIR, (1,), pulled),
    Row("tasks.cir.align", CIR, (1,), pulled),
    Row("tasks.cir.target", CIR, ("shared",), pulled),
    Row("tasks.cir.gated", CIR, ("true",), pulled),
    Row("inputs", (), ("{}", "{grid: vit}", "{grid: esam}", "{grid: vit, words: text}"), pulled),
    Row("fusion.kind", (), ("none", "difnet", "cross_attention"), pulled),
    Row("fusion.alpha", (), (0.5,), pulled),
    Row("fusion.layers", DIFNET, (3,), pulled),
    Row("fusion.layers", CROSS, (1, 3), pulled),
    Row("fusion.separate", DIFNET, (0,), pulled),
    Row("fusion.repeats", DIFNET, (0, 1), pulled),
    Row("model.hidden", (), (64,), pulled),
    Row("masking.kind", HALF, ("block", "centre", "object"), pulled),
    Row("masking.ratio", (), (0.25,), pulled),
    Row("masking.ratio_end", HALF, (0,), pulled),
    Row("masking.fill", HALF, ("learned", "zero", "mean", "noise"), pulled),
    Row("augment.token_dropout", (), (0.5,), pulled),
    Row("augment.feature_noise", (), (0.5,), pulled),
    Row("augment.synonyms", ("augment.vocabulary=words.yaml",), (1,), pulled),
    Row("augment.vocabulary", REWORDED, ("other.yaml",), pulled),
    Row("optim.epochs", (), (2,), learned),
    Row("optim.epochs", FALLING, (2,), pulled),
    Row("optim.batch", (), (12,), learned),
    Row("optim.accumulate", (), (2,), learned),
    Row("optim.texts_per_image", (), (1,), pulled),
    Row("optim.learning_rate", (), (0.1,), learned),
    Row("optim.weight_decay", (), (0.5,), learned),
    Row("optim.schedule", (), ("one_cycle", "constant"), learned),
    Row("optim.warmup", (), (1,), learned),
    Row("optim.clip", (), (0.01,), pulled),
    Row("optim.groups", (), ("{trunk.text: 2}",), learned),
    Row("optim.ema", (), (0.05, 0.01), learned),
    Row("development", (), (0.3,), rows),
    Row("precision", (), ("bfloat16",), pulled),
    Row("log_every", (), (1,), lines),
    Row("datasets", (), ("{toy: 3, other: 1}",), turns),
    Row("shuffle", ("window=1",), ("window", "none"), pulled),
    Row("window", ("shuffle=window",), (1,), pulled),
]

# The value is found as it was said, wherever one is.
SAID = [
    *(Row(f"tasks.{name}.scale.most", task(name), (50,), limits) for name in ("itc", "region", "cir")),
    Row("tasks.cir.queries", CIR, (2, 9), queries),
    Row("model.heads", (*EVERY, *DIFNET), (4,), heads),
    Row("model.heads", (*EVERY, *CROSS), (4,), heads),
    Row("model.text_layers", (), (3,), text_layers),
    Row("model.head_layers", EVERY, (3,), head_layers),
    Row("model.max_tokens", (), (1, 2), longest),
    Row("model.dropout", (*EVERY, *DIFNET), (0.3,), dropouts),
    Row("model.dropout", (*EVERY, *CROSS), (0.3,), dropouts),
    Row("model.checkpointing", (*EVERY, *CROSS), (True,), recomputed),
    Row("threads", ("development=0.3",), (3,), of_streams("threads")),
    Row("ahead", ("development=0.3",), (3,), of_streams("ahead")),
]

HELD_ELSEWHERE = {
    "tasks.cir.static_bank": "test_static_bank",
    "model.compile": "test_recompute",
    "model.text.kind": "test_pretrained_text",
    "model.text.path": "test_pretrained_text",
    "model.text.trained": "test_pretrained_text",
    "model.text.random": "test_pretrained_text",
    "best": "test_starting",
    "patience": "test_patience",
    "checkpoint_every": "test_fit",
    "on_error": "test_fit_stops",
    "max_skipped": "test_skipped",
}


def leaves(section: type[Struct] = Train, at: str = "") -> Iterator[str]:
    """Every setting of a section and of those in it."""
    for name, hint in get_type_hints(section).items():
        parts = [part for part in (hint, *get_args(hint)) if isinstance(part, type)]
        inner = [part for part in parts if issubclass(part, Struct)]
        if inner:
            yield from leaves(inner[0], f"{at}{name}.")
        else:
            yield f"{at}{name}"


def test_every_setting_has_a_row_here_or_a_test_elsewhere():
    rows, elsewhere = {row.place for row in (*CHANGES, *SAID)}, set(HELD_ELSEWHERE)
    assert rows | elsewhere == set(leaves()) and not rows & elsewhere
    for module in HELD_ELSEWHERE.values():
        assert Path(__file__).with_name(f"{module}.py").is_file()


@cache
def unchanged(probe: Callable[[Settings], Hashable], given: Settings) -> Hashable:
    """What is found without the setting."""
    return probe(given)


@pytest.mark.parametrize("row", CHANGES, ids=lambda row: f"{row.place} {' '.join(row.given)}".strip())
def test_another_value_changes_what_it_is_for(row):
    other = [row.probe((*row.given, f"{row.place}={value}")) for value in row.values]
    assert len({unchanged(row.probe, row.given), *other}) == 1 + len(other)


@pytest.mark.parametrize("row", SAID, ids=lambda row: f"{row.place} {' '.join(row.given)}".strip())
def test_a_value_is_what_was_said_wherever_it_goes(row):
    for value in row.values:
        assert row.probe((*row.given, f"{row.place}={value}")) == {value}


@pytest.mark.parametrize("probe", [pulled, learned])
@pytest.mark.parametrize("given", [VQA, (*EVERY, *DIFNET, "optim.batch=12")], ids=["vqa", "every"])
def test_the_same_settings_change_nothing(probe, given):
    assert probe(given) == probe((*given, "augment.synonyms=0.0"))
