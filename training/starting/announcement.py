"""What a person is told before the first step."""

import sys

import torch

from training.config import Train
from training.distributed import World
from training.heads.itc import alpha_at
from training.optimizing import loop
from training.starting.session import Session


def announce(session: Session, where: torch.device, world: World) -> None:
    settings, shards, stream = session.run.settings, session.shards, session.stream
    left_out, splits = shards.left_out, sorted({shard.split for shard in shards.shards})
    steps, _ = loop.planned_steps(len(stream), settings)
    print(f"run      {session.run.folder}")
    print(
        f"shards   {len(shards.shards)} of split {', '.join(splits)}"
        + (f"; {left_out} of other splits left out" if left_out else "")
    )
    for note in shards.notes:
        print(f"note     {note}", file=sys.stderr)
    if settings.development and len(stream.datasets) > 1:
        print("note     a picture held out of one dataset may be trained on in another", file=sys.stderr)
    if settings.tasks.hides_objects:
        print("note     is what is hidden gone? `python -m training.probe --masked` tells", file=sys.stderr)
    if late := _late_ramp(settings, steps):
        print(f"note     {late}", file=sys.stderr)
    for name, known in shards.features.items():
        origin = "demo weights" if known.weights.demo else known.weights.source
        print(f"column   {name}: {known.model}, {known.tokens} × {known.width}, {origin}")
    if not shards.features:
        print("column   none: this model never looks at a picture")
    print(f"rows     {len(stream):,} pictures an epoch, {settings.optim.texts_per_image} texts of each")
    if len(stream.datasets) > 1:
        turns = zip(stream.datasets, stream.weights, strict=True)
        print("turns    " + ", ".join(f"{weight} of {dataset.dataset}" for dataset, weight in turns))
    parameters = sum(parameter.numel() for parameter in session.model.parameters())
    print(f"model    {parameters:,} parameters, {_fusion(session)}, on {where}")
    if world.size > 1:
        print(f"world    {world.size} processes, {settings.optim.accumulate} parts a step")
    print(
        f"plan     {steps:,} steps of {settings.optim.batch} pictures, {settings.optim.epochs} epochs",
        flush=True,
    )


def _fusion(session: Session) -> str:
    """One input is fused with nothing, whatever the settings say of fusion."""
    if session.model.trunk.fuses:
        return f"{session.run.settings.fusion.kind} fusion"
    return "one input, no fusion" if session.shards.features else "no input, no fusion"


def _late_ramp(settings: Train, steps: int) -> str | None:
    """The momentum encoder's share in the last step, where it is not the one that is asked for."""
    itc = settings.tasks.itc
    if itc is None or not itc.alpha or itc.alpha_ramp <= steps:
        return None
    reached = alpha_at(itc.alpha, steps - 1, itc.alpha_ramp)
    ramp = f"tasks.itc.alpha_ramp of {itc.alpha_ramp:,} steps is longer than the run"
    return f"{ramp}: alpha ends at {reached:.2g}, not {itc.alpha:g}"
