"""Settings that contradict a task, said before the run is made."""

from contract.errors import ParamsError
from training.batching.needs import need
from training.config import TEXT, Itc, Itm, Tasks, Train
from training.model.tasks import TASKS
from training.modules.filling import DROP


def check(settings: Train) -> None:
    """ParamsError at the first setting with which a chosen task cannot be trained."""
    for name in settings.tasks.chosen:
        if TASKS[name].alone:
            _check_inputs(name, settings)
        if TASKS[name].cells:
            _check_cells(name, settings)
        if need(name).masked:
            _check_ratio(name, settings)
    if settings.tasks.itc:
        _check_teacher(settings.tasks.itc)
    if settings.tasks.itm:
        _check_sources(settings.tasks.itm, settings.tasks)


def _check_inputs(name: str, settings: Train) -> None:
    inputs = list(settings.inputs.values())
    if not inputs:
        raise ParamsError(
            "train.inputs", f"{name} looks at pictures, and this run has none", fix="name a column"
        )
    if TEXT in inputs:
        raise ParamsError(
            "train.inputs",
            f"{name} compares pictures with texts, so no text may be fused into them",
            found=settings.inputs,
            fix="take `text` out, or train the task in a run of its own",
        )


def _check_cells(name: str, settings: Train) -> None:
    masking = settings.masking
    if masking.fill == DROP and (masking.ratio or masking.ratio_end):
        raise ParamsError(
            "train.masking.fill",
            f"{name} asks for tokens by their place, and `{DROP}` leaves nothing there",
            fix="fill: learned, zero, mean or noise",
        )


def _check_ratio(name: str, settings: Train) -> None:
    if not settings.masking.ratio:
        raise ParamsError(
            "train.masking.ratio", f"{name} learns from what the mask hides, and it hides nothing", found=0
        )


def _check_teacher(itc: Itc) -> None:
    if itc.alpha and itc.momentum is None:
        raise ParamsError(
            "train.tasks.itc.alpha",
            "is the momentum encoder's share of the target, and there is no such encoder",
            found=itc.alpha,
            fix="momentum: 0.995, or no alpha",
        )


def _check_sources(itm: Itm, tasks: Tasks) -> None:
    place, sources = "train.tasks.itm.sources", itm.sources
    if not (sources.similar or sources.mined or sources.random):
        raise ParamsError(place, "name none: there would be no wrong pair", found="0 of each")
    if sources.similar and not tasks.itc:
        raise ParamsError(
            f"{place}.similar", "is what itc takes for alike, and this run has no itc", found=sources.similar
        )
    if sources.mined and not tasks.mined:
        raise ParamsError(
            f"{place}.mined", "needs mined pictures in the batch", found=sources.mined, fix="itm.mined: 1"
        )
