"""Train the demo's own encoders on its generated pictures → weights/<demo>/{<encoder>.safetensors,.json}.

The demo downloads nothing, so it makes its weights: small encoders that learn, cell by cell, what stands
there. They know nothing but the generated world, and every column made with them says so.
"""

import argparse
import json
from pathlib import Path

from safetensors.torch import save as to_bytes

from contract import params
from contract.errors import ParamsError
from contract.files import atomic_path, sha256_file
from data_pipeline.engine import run_tasks
from data_pipeline.pretraining.fitting import Pretrained, Task, pretrain


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which generated world."""
    parser.add_argument("demo", help="a name under pretrain: in params.yaml")


def run(args: argparse.Namespace) -> None:
    """Write weights/<demo>/ whole; the encoders train side by side, a process and a thread each."""
    settings, name = params.load(args.params), args.demo
    if name not in settings.pretrain:
        raise ParamsError(
            args.params, f"no entry pretrain.{name}", expected=", ".join(settings.pretrain) or "none"
        )
    plan = settings.pretrain[name]
    tasks = [
        Task(encoder, params.encoder(settings, encoder), plan, settings.seed, str(Path("raw", name)))
        for encoder in plan.encoders
    ]
    results = run_tasks(pretrain, tasks, settings.workers, label="pretrain")
    with atomic_path(Path("weights", name)) as folder:
        folder.mkdir()
        for task, result in zip(tasks, results, strict=True):
            save(folder, task, result)
            print(f"pretrain {task.encoder}: {result.pictures:,} pictures, loss {result.loss}")


def save(folder: Path, task: Task, result: Pretrained) -> None:
    """The weights, and beside them what they are."""
    path = folder / f"{task.encoder}.safetensors"
    path.write_bytes(to_bytes(result.weights, {"demo": "true"}))
    facts = {
        "demo": True,
        "encoder": task.encoder,
        "model": task.settings.model,
        "pictures": result.pictures,
        "steps": task.plan.steps,
        "batch": task.plan.batch,
        "learning_rate": task.plan.learning_rate,
        "seed": task.seed,
        "loss": result.loss,
        "sha256": sha256_file(path),
    }
    path.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n")
