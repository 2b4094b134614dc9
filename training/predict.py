"""`python -m training.predict`: ask a run about a picture file.

The picture is encoded by `python -m data_pipeline encode`, a process of its own: nothing is imported from it.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from msgspec import Struct

from contract.errors import FuselineError, ParamsError, run_command
from contract.record import Text
from training import run
from training.arguments import positive
from training.batch import Batch
from training.batching import collate
from training.batching.collate import Chosen
from training.optimizing import device
from training.run import Run

EXAMPLES = """\
examples:
  python -m training.predict --run runs/demo --image photo.jpg --question "What color is the ball?"
  python -m training.predict --run runs/demo --image photo.jpg --question "Is there a cube?" --top 3
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
    parser.add_argument("--question", required=True, help="the question")
    parser.add_argument("--top", type=positive, default=5, help="answers shown (default: 5)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
    return parser


@device.enough_memory()
def main(arguments: list[str]) -> None:
    """Encode the picture, answer, print the likeliest answers."""
    options = parser().parse_args(arguments)
    if not options.question.strip():
        raise ParamsError("--question", "is blank")
    where = device.choose(options.device)
    current = run.open_run(options.run)
    if "vqa" not in current.settings.tasks.chosen:
        raise ParamsError(
            options.run,
            "this run answers no questions",
            found=", ".join(current.settings.tasks.chosen),
            expected="a run with the task vqa",
        )
    encoded = encode(current, options.image)
    for share, answer in answers(current, encoded, options.question, options.top, where):
        print(f"{100 * share:5.1f} %  {answer}")


class Encoded(Struct):
    """A picture by the run's encoders. features: column → [1, N, D]; place: column → [1, 4], as in Batch."""

    features: dict[str, torch.Tensor]
    place: dict[str, torch.Tensor]


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
    features = {name: torch.from_numpy(array)[None] for name, array in arrays.items()}
    return Encoded(features, collate.places([size], run.column_manifests(current)))


@torch.inference_mode()
def answers(
    current: Run, encoded: Encoded, question: str, top: int, where: torch.device
) -> list[tuple[float, str]]:
    """The `top` likeliest answers with their probabilities."""
    model = run.trained_model(current, "best")
    batch = single(current, encoded, question).to(where)
    shares = model.to(where).eval().answer_logits(batch).float().softmax(-1)[0]
    best = shares.topk(min(top, len(shares)))
    return [
        (float(p), current.config.answers[i]) for p, i in zip(best.values, best.indices.tolist(), strict=True)
    ]


def single(current: Run, encoded: Encoded, question: str) -> Batch:
    """A batch of one picture and one question."""
    tokens = run.tokenizer(current).encode(question, add_special_tokens=False).ids
    asked = [Chosen(Text(id="question", role="question", text=question, tokens=tokens), 0)]
    chosen, false = collate.with_negatives(asked, {})
    nothing: dict[str, Any] = {**collate.named(chosen, [], False), **false}
    limit = current.settings.model.max_tokens
    return Batch(
        position=0,
        progress=1.0,
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
        rows={"vqa": torch.tensor([0])},
        **collate.texts(chosen, {}, limit),
        **collate.regions(chosen, [], False, limit),
        **collate.targets(chosen, {}, []),
        **collate.negatives(chosen, [[]], {}, 0),
        **nothing,
    )


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
