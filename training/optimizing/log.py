"""What a run tells people: DVCLive's TSV files, and a progress line with the share of time spent waiting."""

import sys
import time
from pathlib import Path

import msgspec
from dvclive import Live
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from contract.files import remove, write_atomic

PLAIN_EVERY = 5.0  # seconds between lines where no terminal is attached


class Log:
    """Metrics to `<run>/plots/metrics/**.tsv` and `<run>/metrics.json`; progress to standard error."""

    def __init__(self, run: Path, steps: int, step: int) -> None:
        _forget_after(run, step)
        self.live = Live(
            str(run), resume=step > 0, save_dvc_exp=False, dvcyaml=None, report=None, monitor_system=False
        )
        self.steps, self.spoke = steps, time.perf_counter()
        self.progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self.bar = self.progress.add_task("", total=steps, completed=step, text="")

    def __enter__(self) -> "Log":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()
        self.live.end()

    def step(self, step: int, metrics: dict[str, float], speed: dict[str, float]) -> None:
        """One row of every TSV, and the progress line. Speed is not kept: a run repeats byte for byte."""
        self.record(step, metrics)
        self._speak(step, describe(metrics | speed))

    def record(self, step: int, metrics: dict[str, float]) -> None:
        """One row of every TSV."""
        self.live.step = step
        for name, value in metrics.items():
            self.live.log_metric(name, value)
        self.live.make_summary()

    def say(self, text: str) -> None:
        """A line of its own."""
        self.progress.console.print(text, highlight=False, soft_wrap=True)

    def _speak(self, step: int, text: str) -> None:
        self.progress.update(self.bar, completed=step, text=text)
        due = step == self.steps or time.perf_counter() - self.spoke > PLAIN_EVERY
        if self.progress.disable and due:
            self.say(f"step {step}/{self.steps}  {text}")
            self.spoke = time.perf_counter()


def describe(values: dict[str, float]) -> str:
    """`loss 1.234  accuracy 0.51  12,345 texts/s  waiting 0.4 %`."""
    parts = []
    if "train/loss" in values:
        parts.append(f"loss {values['train/loss']:.3f}")
    parts += [
        f"{name.removeprefix('train/').replace('/', ' ')} {value:.3f}"
        for name, value in values.items()
        if name.endswith("accuracy")
    ]
    if "speed/texts_per_second" in values:
        parts.append(f"{values['speed/texts_per_second']:,.0f} texts/s")
    if "speed/waiting" in values:
        parts.append(f"waiting {100 * values['speed/waiting']:.1f} %")
        causes = [
            f"{name.removeprefix('spent/')} {100 * share:.0f} %"
            for name, share in values.items()
            if name.startswith("spent/") and share
        ]
        parts.append(f"(reading: {', '.join(causes)})")
    return "  ".join(parts)


def _forget_after(run: Path, step: int) -> None:
    """A run that was killed wrote rows beyond its checkpoint, the last perhaps by half: they come again."""
    for path in sorted((run / "plots" / "metrics").rglob("*.tsv")):
        header, *rows = path.read_text("utf8").split("\n")[:-1] or [""]  # what no line end follows is a half
        kept = [row for row in rows if 0 <= _step_of(row, header) <= step]
        if kept:
            write_atomic(path, "\n".join([header, *kept]) + "\n")
        else:
            remove(path)
    if step:  # DVCLive rewrites it in place, so a kill leaves it cut, and it is read on resuming
        write_atomic(run / "metrics.json", msgspec.json.encode({"step": step}))


def _step_of(row: str, header: str) -> int:
    """The step of a whole row of a TSV file; -1 where it is none."""
    cells = dict(zip(header.split("\t"), row.split("\t"), strict=False))
    whole = row.count("\t") == header.count("\t") and cells.get("step", "").isdecimal()
    return int(cells["step"]) if whole else -1
