"""Settings that contradict a task, said before the run is made."""

from contract.errors import ParamsError
from training.batching.needs import need
from training.config import TEXT, Itc, Itm, Region, Tasks, Train
from training.model.tasks import TASKS
from training.modules.filling import DROP

SOURCES = {  # of a wrong one
    "picture": ("similar", "mined", "random", "masked"),
    "text": ("similar", "mined", "random", "swapped"),
}


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
        _check_itc(settings.tasks.itc)
    if settings.tasks.itm:
        _check_sources(settings.tasks.itm, settings.tasks)
    if settings.tasks.cir and settings.tasks.cir.static_bank:
        _check_second_stage(settings.tasks)
    if settings.tasks.region:
        _check_region(settings.tasks.region, settings)


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
    if masking.drops:
        raise ParamsError(
            "train.masking.fill",
            f"{name} asks for tokens by their place, and `{DROP}` leaves nothing there",
            found=masking.fill,
            fix="fill: learned, zero, mean or noise",
        )


def _check_ratio(name: str, settings: Train) -> None:
    if not settings.masking.at_end.ratio:
        place = "ratio" if settings.masking.ratio_end is None else "ratio_end"
        raise ParamsError(
            f"train.masking.{place}",
            f"{name} learns from what the mask hides, and it hides nothing",
            found=0,
            fix=f"{place}: 0.25",
        )


def _check_second_stage(tasks: Tasks) -> None:
    if others := [name for name in tasks.chosen if name != "cir"]:
        raise ParamsError(
            "train.tasks.cir.static_bank",
            "freezes what reads pictures, so no other task is trained beside it",
            found=", ".join(others),
            fix="train cir alone in the second stage",
        )


def _check_region(region: Region, settings: Train) -> None:
    if settings.augment.token_dropout:
        raise ParamsError(
            "train.augment.token_dropout",
            "drops nothing for region, which reads all that its boxes cover",
            found=settings.augment.token_dropout,
            fix="token_dropout: 0, or a run without the task (--set tasks.region=null)",
        )
    if not any((region.coarse, region.coarse_end, region.fine, region.fine_end, region.rank)):
        raise ParamsError(
            "train.tasks.region.coarse",
            "is 0 from start to end, and so are fine and rank: there would be nothing to learn",
            found=0,
            fix="coarse: 1, or take region out of train.tasks",
        )
    if (region.rank or region.false_phrases) and not (region.negatives or region.swapped):
        raise ParamsError(
            f"train.tasks.region.{'rank' if region.rank else 'false_phrases'}",
            "looks at texts that are false of a box, and the run asks for none",
            found="negatives 0, swapped 0",
            fix="negatives: 10, or swapped: 1",
        )
    if region.masked and settings.masking.fill == DROP:
        raise ParamsError(
            "train.tasks.region.masked",
            f"looks at the place of what it hides, and `{DROP}` leaves nothing there",
            fix="masking.fill: learned, zero, mean or noise",
        )
    if region.false_phrases and not (region.coarse or region.coarse_end):
        raise ParamsError(
            "train.tasks.region.false_phrases",
            "puts false texts into the contrast over the batch, whose weight is 0 from start to end",
            found="coarse 0",
            fix="coarse: 1, or false_phrases: false",
        )
    more = [name for name in ("bank", "masked", "false_phrases") if getattr(region, name)]
    if region.contrast == "supcon" and more:
        raise ParamsError(
            "train.tasks.region.contrast",
            "supcon contrasts the boxes and phrases of a batch with each other alone",
            found=" and ".join(more),
            fix="contrast: infonce or arcface, or none of bank, masked and false_phrases",
        )


def _check_itc(itc: Itc) -> None:
    if itc.alpha and itc.momentum is None:
        raise ParamsError(
            "train.tasks.itc.alpha",
            "is the momentum encoder's share of the target, and there is no such encoder",
            found=itc.alpha,
            fix="momentum: 0.995, or no alpha",
        )
    if itc.bias != Itc().bias and itc.loss != "sigmoid":
        raise ParamsError(
            "train.tasks.itc.bias",
            "is what sigmoid adds to a logit, and this contrast is over all pictures",
            found=f"bias {itc.bias}, loss {itc.loss}",
            fix="loss: sigmoid, or no bias",
        )
    if itc.alpha and itc.loss == "sigmoid":
        raise ParamsError(
            "train.tasks.itc.alpha",
            "softens a distribution over all pictures, and sigmoid judges each pair by itself",
            found=itc.alpha,
            fix="alpha: 0, or loss: softmax",
        )


def _check_sources(itm: Itm, tasks: Tasks) -> None:
    place, sources = "train.tasks.itm.sources", itm.sources
    for side, names in SOURCES.items():
        if not any(getattr(sources, name) for name in names):
            raise ParamsError(
                place,
                f"name none of a wrong {side}: there would be no wrong pair",
                found=f"0 of {', '.join(names)}",
                fix="random: 1",
            )
    if sources.similar and not tasks.itc:
        raise ParamsError(
            f"{place}.similar",
            "is what itc takes for alike, and this run has no itc",
            found=sources.similar,
            fix="random: 1 in its place, or train itc too",
        )
    if sources.mined and not tasks.mined:
        raise ParamsError(
            f"{place}.mined",
            "needs mined pictures and texts in the batch",
            found=sources.mined,
            fix="itm.mined: 1",
        )
    if sources.swapped and not itm.swapped:
        raise ParamsError(
            f"{place}.swapped",
            "needs changed texts in the batch",
            found=sources.swapped,
            fix="itm.swapped: 1",
        )
    if itm.swapped and not sources.swapped:
        raise ParamsError(
            "train.tasks.itm.swapped",
            "asks for changed texts, which would be read and encoded and never taken for wrong ones",
            found=itm.swapped,
            fix="itm.sources.swapped: 1, or itm.swapped: 0",
        )
