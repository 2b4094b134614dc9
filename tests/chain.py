"""The annotation half of the pipeline, run in this process."""

from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path

from data_pipeline.__main__ import main

DATASETS = ("gqa", "cirr", "visual_genome", "coco")


def run_chain(project: Path, datasets: Sequence[str] = DATASETS) -> None:
    """The annotation half of the pipeline, in this process, with `project` as working directory."""
    with chdir(project):
        for name in datasets:
            main(["read", name])
            main(["scan", name])
        main(["images"])
        for name in datasets:
            main(["validate", name])
            main(["spans", name])
