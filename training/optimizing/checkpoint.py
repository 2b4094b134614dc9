"""Everything that a next step depends on, as safetensors and JSON, whole or not at all.

checkpoints/step-00000400/{model,optimizer}.safetensors, state.json
checkpoints/last.json, best.json      {"step": 400}: which of them it is
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import torch
from msgspec import Struct
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from contract.codec import UNDECODABLE
from contract.errors import FuselineError, MismatchError, ShardError, TrainingError, no_room
from contract.files import atomic_path, remove, sha256_file, sha256_text, write_atomic
from training.optimizing.averaging import AVERAGE

MODEL, OPTIMIZER = "model.safetensors", "optimizer.safetensors"
STEP, MOMENTS = "step", ("exp_avg", "exp_avg_sq")  # of AdamW, for each parameter

Which = Literal["last", "best"]


class Sums(Struct, forbid_unknown_fields=True):
    """What the next line of the log is a mean of, summed since the last one.

    loss: over steps. texts: read in them. measures: "vqa/accuracy" → sum and count.
    """

    loss: float = 0.0
    steps: int = 0
    texts: int = 0
    measures: dict[str, tuple[float, int]] = {}

    def add(self, name: str, total: float, count: int) -> None:
        """Add to a measure."""
        before, counted = self.measures.get(name, (0.0, 0))
        self.measures[name] = before + total, counted + count

    def take(self, other: "Sums") -> None:
        """Add what another process summed up in the same steps."""
        self.loss += other.loss
        self.texts += other.texts
        for name, (total, count) in other.measures.items():
            self.add(name, total, count)

    def means(self) -> dict[str, float]:
        """Every measure that something asked for, as a mean: of nothing there is none."""
        return {name: total / count for name, (total, count) in self.measures.items() if count}


class State(Struct, forbid_unknown_fields=True):
    """Where a run stands. position: rows consumed; best: the highest development score so far; stale: how
    often it was not reached since; unscored: an epoch ended here whose score failed; skipped: pictures that
    were left out, as `Stream.left_out` names them; asked: measures that something asked for since the run
    began, None where that is not known.
    """

    step: int
    position: int
    best: float | None = None
    stale: int = 0
    unscored: bool = False
    skipped: list[str] = []
    asked: list[str] | None = None
    sums: Sums = msgspec.field(default_factory=Sums)


class Pointer(Struct):
    """last.json and best.json."""

    step: int


def save(run: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: State, best: bool) -> None:
    """Write a checkpoint, point (`best` and) `last` at it, and remove those nothing points at.

    `best` first: a run killed between the two goes on from the earlier `last` and comes by here again.
    TrainingError where it cannot be written: what was there before stays.
    """
    try:
        _save(run / "checkpoints", model, optimizer, state, best)
    except (OSError, SafetensorError) as error:
        fix = f"make room there, then go on by --resume {shlex.quote(str(run))}"
        raise TrainingError(run, f"a checkpoint cannot be written: {error}", fix=fix) from None


def _save(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: State, best: bool) -> None:
    with atomic_path(folder / _name(state.step)) as beside:
        beside.mkdir()
        _write(beside / MODEL, _contiguous(model.state_dict()))
        _write(beside / OPTIMIZER, _optimizer_tensors(model, optimizer))
        (beside / "state.json").write_bytes(msgspec.json.encode(state))
    for which in ("best", "last") if best else ("last",):
        write_atomic(folder / f"{which}.json", msgspec.json.encode(Pointer(state.step)))
    _prune(folder)


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    """For whoever may read the folder: safetensors makes files that their owner alone may."""
    save_file(tensors, path)
    path.chmod(path.parent.stat().st_mode & 0o666)


def find(run: Path, which: Which) -> Path:
    """The folder of a run's last or best checkpoint; the best is the last where none was chosen."""
    folder = run / "checkpoints"
    pointer = next((p for p in (folder / f"{which}.json", folder / "last.json") if p.is_file()), None)
    if pointer is None:
        raise ShardError(run, "holds no checkpoint", fix="name a run's folder, for example runs/demo")
    return folder / _pointed(pointer)


def _pointed(pointer: Path) -> str:
    try:
        return _name(msgspec.json.decode(pointer.read_bytes(), type=Pointer).step)
    except UNDECODABLE as error:
        raise MismatchError(
            pointer,
            f"does not name a checkpoint: {error}",
            expected='for example {"step": 400}',
            fix="write the step of a folder beside it",
        ) from None


def load_model(checkpoint: Path, model: nn.Module, averaged: bool = False) -> None:
    """Load every weight, or its running mean. MismatchError lists what does not fit."""
    stored = _weights(checkpoint, averaged)
    expected = model.state_dict()
    _check_fit(checkpoint, "is a checkpoint of another model", stored, expected)
    model.load_state_dict(stored)


def _check_fit(place: Path, problem: str, stored: dict[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """MismatchError unless the names are the same, and each has its shape."""
    missing, extra, shapes = _differences(stored, expected)
    if missing or extra or shapes:
        raise MismatchError(
            place,
            problem,
            found=f"unknown {_some(extra)}; other shape {_some(shapes)}",
            expected=f"also {_some(missing)}",
            fix="use the settings it was trained with (its run's config.json), or start from it by --init",
        )


def init_model(
    checkpoint: Path, model: nn.Module, fresh: Sequence[str], averaged: bool = False
) -> tuple[list[str], list[str], list[str]]:
    """Load what fits by name and shape; returns the names of what is loaded, what is new, and what is left of
    what is stored. An empty fit is an error.

    fresh: prefixes of names whose stored values mean something else, and are left alone.
    """
    stored, expected = _weights(checkpoint, averaged), model.state_dict()
    fits = {
        name: value
        for name, value in stored.items()
        if name in expected and value.shape == expected[name].shape and not name.startswith(tuple(fresh))
    }
    if not fits:
        raise MismatchError(checkpoint, "shares no parameter with this model", found=_some(sorted(stored)))
    model.load_state_dict(fits, strict=False)
    return sorted(fits), sorted(set(expected) - set(fits)), sorted(set(stored) - set(fits))


def fingerprint(checkpoint: Path, averaged: bool) -> str:
    """Hex sha256 of the files that the weights, or their running means, are read from."""
    files = (MODEL, OPTIMIZER) if averaged else (MODEL,)
    try:
        return sha256_text(" ".join(sha256_file(checkpoint / name) for name in files))
    except OSError as error:
        raise _damaged(checkpoint, error) from None


def load_state(checkpoint: Path) -> State:
    """Where the run stood."""
    try:
        return msgspec.json.decode((checkpoint / "state.json").read_bytes(), type=State)
    except (OSError, *UNDECODABLE) as error:
        raise _damaged(checkpoint / "state.json", error) from None


def load_optimizer(
    checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer, averaged: bool = False
) -> None:
    """Moments and step counts of every parameter, by name, and running means where weights are `averaged`.

    MismatchError lists what does not fit. A parameter that never had a gradient has nothing.
    """
    stored, trained = _read(checkpoint / OPTIMIZER), _trained(model)
    parts = (STEP, *MOMENTS, AVERAGE) if averaged else (STEP, *MOMENTS)
    moved = [name for name in trained if any(f"{name}.{part}" in stored for part in parts)]
    expected = {
        f"{name}.{part}": torch.zeros(()) if part == STEP else trained[name]
        for name in moved
        for part in parts
    }
    _check_fit(checkpoint / OPTIMIZER, "is the optimizer state of another model", stored, expected)
    for name in moved:
        state = {part: stored[f"{name}.{part}"].to(trained[name].device) for part in parts}
        optimizer.state[trained[name]] = state


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    named = ((name, optimizer.state.get(parameter, {})) for name, parameter in model.named_parameters())
    return _contiguous({f"{name}.{part}": value for name, state in named for part, value in state.items()})


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}


def _weights(checkpoint: Path, averaged: bool) -> dict[str, Tensor]:
    """By name; `averaged`: the running mean of each that has one, which one that was never moved has not."""
    stored = _read(checkpoint / MODEL)
    if not averaged:
        return stored
    state = _read(checkpoint / OPTIMIZER)
    means, moved = _of(AVERAGE, state), _of(STEP, state)
    if lacking := sorted(set(moved) - set(means)):
        raise MismatchError(
            checkpoint / OPTIMIZER,
            "lacks running means, which are what is scored of a run with optim.ema",
            found=f"none of {_some(lacking)}",
            fix="put back the file that was written with the weights",
        )
    return stored | means


def _of(part: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One part of the optimizer's state, by the parameter's name."""
    ending = f".{part}"
    return {name.removesuffix(ending): value for name, value in state.items() if name.endswith(ending)}


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> FuselineError:
    lack = no_room(path, error) if isinstance(error, OSError) else None
    fix = "take the run's other one (evaluate --checkpoint last), or begin a new run by --init from its best"
    return lack or MismatchError(path, f"cannot be read: {error}", fix=fix)


def _differences(
    stored: dict[str, Tensor], expected: Mapping[str, Tensor]
) -> tuple[list[str], list[str], list[str]]:
    shapes = [name for name in stored if name in expected and stored[name].shape != expected[name].shape]
    return sorted(set(expected) - set(stored)), sorted(set(stored) - set(expected)), shapes


def _some(names: list[str]) -> str:
    return (
        ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") if names else "none"
    )


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _prune(folder: Path) -> None:
    pointed = {_pointed(pointer) for pointer in folder.glob("*.json")}
    for path in folder.glob("step-*"):
        if path.name not in pointed:
            remove(path)
