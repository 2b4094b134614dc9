"""`python -m training.predict`: ask a run about a picture file.

The picture is encoded by `python -m data_pipeline encode`, a process of its own: nothing is imported from it.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray

from contract import geometry
from contract.errors import FuselineError, ParamsError, run_command
from contract.files import write_atomic
from contract.record import Text
from training import run
from training.arguments import positive
from training.batch import Batch
from training.batching import collate
from training.batching.collate import Chosen
from training.evaluation import gradcam, heatmap, outputs
from training.evaluation.heatmap import Photo
from training.heads.itm import ItmHead
from training.model.model import FusionModel
from training.optimizing import device
from training.run import Run

EXAMPLES = """\
examples:
  python -m training.predict --run runs/demo --image photo.jpg --question "What color is the ball?"
  python -m training.predict --run runs/demo --image photo.jpg --question "Is there a cube?" --top 3
  python -m training.predict --run runs/itm --image photo.jpg --text "a red cube" --map where.svg
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.predict",
        description="Ask a trained run about a picture file.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--image", type=Path, required=True, help="a picture file")
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--question", help="a question, of a run with the task vqa")
    asked.add_argument("--text", help="a text, of a run with the task itm: is it true of the picture?")
    parser.add_argument("--top", type=positive, default=5, help="answers shown (default: 5)")
    parser.add_argument(
        "--map",
        type=Path,
        metavar="FILE",
        help="with --text: where the run looks for it, and for each of its words (Grad-CAM), as SVG",
    )
    parser.add_argument(
        "--fused",
        action="store_true",
        help="the map of fused tokens, which may stand for other places; else of the first column's own",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
    return parser


@device.enough_memory()
def main(arguments: list[str]) -> None:
    """Encode the picture; print the likeliest answers, or whether the text is true of it."""
    options = parser().parse_args(arguments)
    current = run.open_run(options.run)
    _check(options, current)
    _note_cut(current, options.text or options.question)
    where = device.choose(options.device)
    encoded = encode(current, options.image)
    if options.text is None:
        for share, answer in answers(current, encoded, options.question, options.top, where):
            print(f"{100 * share:5.1f} %  {answer}")
        return
    model = run.trained_model(current, "best").to(where).eval()
    batch = single(current, encoded, options.text, "itm").to(where)
    share = truth(model, batch)
    print(f"{100 * share:5.1f} %  true")
    if options.map:
        assert encoded.photo is not None
        said = f"{options.text} · {100 * share:.1f} % true" + " · of fused tokens" * options.fused
        page = heatmap.svg(said, encoded.photo, looked_at(current, model, batch, options))
        write_atomic(options.map, page.encode())
        print(f"written: {options.map}")


def _check(options: argparse.Namespace, current: Run) -> None:
    """What is asked must be something that the run was trained for."""
    option, task, does = ("--text", "itm", "matches no texts")
    if options.text is None:
        option, task, does = ("--question", "vqa", "answers no questions")
    if not (options.question or options.text or "").strip():
        raise ParamsError(option, "is blank")
    if options.map and options.text is None:
        raise ParamsError("--map", "goes with --text")
    if options.fused and not options.map:
        raise ParamsError("--fused", "goes with --map")
    tasks = current.settings.tasks.chosen
    if task not in tasks:
        expected = f"a run with the task {task}"
        raise ParamsError(options.run, f"this run {does}", found=", ".join(tasks), expected=expected)
    if options.map:
        _check_map(options, current)


def _check_map(options: argparse.Namespace, current: Run) -> None:
    """A map needs a block that words read the picture by, and a file of its own."""
    layers = current.settings.model.head_layers
    if layers < 2:
        raise ParamsError(
            "--map",
            "the only block of this run's head reads with the text's summary alone",
            found=f"model.head_layers: {layers}",
            expected="a run with 2 or more",
        )
    outputs.check([options.map], [options.image, *run.own(options.run)])


def _note_cut(current: Run, text: str) -> None:
    """Of a text too long the model reads the beginning alone."""
    words, most = len(tokens_of(current, text)), current.settings.model.max_tokens
    if words > most:
        print(f"note: of the {words} tokens of this text the run reads the first {most}", file=sys.stderr)


def tokens_of(current: Run, text: str) -> list[int]:
    """As the model takes them."""
    return list(run.tokenizer(current).encode(text, add_special_tokens=False).ids)


class Encoded(Struct):
    """A picture by the run's encoders. features: column → [1, N, D]; place: column → [1, 4], as in Batch.

    photo: to draw on, as the first column's encoder saw it; None of a run that looks at no picture.
    """

    features: dict[str, torch.Tensor]
    place: dict[str, torch.Tensor]
    photo: Photo | None = None


class Size(Struct):
    """Of the picture file, pixels."""

    width: int
    height: int


def encode(current: Run, image: Path) -> Encoded:
    """The picture as the run's encoders see it."""
    if not image.is_file():
        raise ParamsError(image, "no such picture")
    names = current.settings.columns
    if not names:
        return Encoded({}, {})
    manifests = [str(current.folder / "features" / name / "manifest.json") for name in names]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "data_pipeline", "encode", "--image", str(image), "--out", folder]
        for path in manifests:
            command += ["--manifest", path]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise FuselineError(image, f"could not be encoded\n{done.stderr.strip()}")
        arrays = {name: np.load(Path(folder) / f"{name}.npy", allow_pickle=False) for name in names}
        size = msgspec.json.decode(Path(folder, "size.json").read_bytes(), type=Size)
        jpeg = Path(folder, "picture.jpg").read_bytes()
    features = {name: torch.from_numpy(array)[None] for name, array in arrays.items()}
    columns = run.column_manifests(current)
    place = geometry.affine(columns[names[0]].transform, size.width, size.height)
    photo = Photo(jpeg, size.width, size.height, place)
    return Encoded(features, collate.places([size], columns), photo)


@torch.inference_mode()
def answers(
    current: Run, encoded: Encoded, question: str, top: int, where: torch.device
) -> list[tuple[float, str]]:
    """The `top` likeliest answers with their probabilities."""
    model = run.trained_model(current, "best")
    batch = single(current, encoded, question, "vqa").to(where)
    shares = model.to(where).eval().answer_logits(batch).float().softmax(-1)[0]
    best = shares.topk(min(top, len(shares)))
    return [
        (float(p), current.config.answers[i]) for p, i in zip(best.values, best.indices.tolist(), strict=True)
    ]


@torch.inference_mode()
def truth(model: FusionModel, batch: Batch) -> float:
    """How sure the model is, in [0, 1], that the batch's one text is true of its one picture."""
    first = batch.text_picture.new_zeros(1)
    head = cast(ItmHead, model.heads["itm"])
    return float(head.logits(model.trunk(batch), first, first).float().softmax(-1)[0, gradcam.TRUE])


def looked_at(
    current: Run, model: FusionModel, batch: Batch, options: argparse.Namespace
) -> list[tuple[str, NDArray[np.float32]]]:
    """Name → [G²] of the whole text and of each of its words that the model reads."""
    first = batch.text_picture.new_zeros(1)
    cam = gradcam.gradcam(model, batch, first, first, fused=options.fused)[0].float().cpu().numpy()
    cells = cam[:, int(model.trunk.picture.columns[0].cls) :]
    offsets = run.tokenizer(current).encode(options.text, add_special_tokens=False).offsets
    words = [options.text[start:end] for start, end in offsets]
    return [("all of it", cells[gradcam.MEAN]), *zip(words, cells[gradcam.TOKENS :], strict=False)]


def single(current: Run, encoded: Encoded, text: str, task: str) -> Batch:
    """A batch of one picture and one text, which the task takes."""
    asked = [Chosen(Text(id="asked", role="question", text=text, tokens=tokens_of(current, text)), 0)]
    chosen, false = collate.with_negatives(asked, {})
    nothing: dict[str, Any] = {**collate.named(chosen, [], False), **false}
    limit = current.settings.model.max_tokens
    return Batch(
        position=0,
        progress=1.0,
        dataset="",
        keys=["picture"],
        groups=["picture"],
        features=encoded.features,
        scales={},
        visible={
            name: torch.ones(array.shape[:2], dtype=torch.bool) for name, array in encoded.features.items()
        },
        hidden={
            name: torch.zeros(array.shape[:2], dtype=torch.bool) for name, array in encoded.features.items()
        },
        place=encoded.place,
        rows={task: torch.tensor([0])},
        **collate.texts(chosen, {}, limit),
        **collate.regions(chosen, [], False, limit),
        **collate.targets(chosen, {}, [], ""),
        **collate.negatives(chosen, [[]], {}, 0),
        **nothing,
    )


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
