"""The annotation half of the pipeline, run in this process."""

from contextlib import chdir
from pathlib import Path

from data_pipeline.__main__ import main

DATASETS = ("gqa", "cirr", "visual_genome")


def run_chain(project: Path) -> None:
    """The annotation half of the pipeline, in this process, with `project` as working directory."""
    with chdir(project):
        for name in DATASETS:
            main(["read", name])
            main(["scan", name])
        main(["images"])
        for name in DATASETS:
            main(["validate", name])
            main(["spans", name])
