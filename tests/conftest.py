"""Shared by the tests: real samples where they are, and a small generated world run through the pipeline."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from chain import run_chain
from hypothesis import settings

from contract import params, plain_yaml

settings.register_profile("shared", deadline=None)  # a machine shared with other work is slow at times
settings.load_profile("shared")

ROOT = Path(__file__).parents[1]
SMALL = {
    "gqa": {"train": 60, "val": 20, "testdev": 4},
    "questions": 4,
    "cirr": {"train": 30, "val": 18, "test1": 12},
    "visual_genome": 40,
    "coco": 12,
}


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Samples of the official files; not part of the project."""
    folder = ROOT / "../shared/real-data"
    if not folder.is_dir():
        pytest.skip("the real samples are not here")
    return folder.resolve()


@pytest.fixture(scope="session")
def small_params() -> dict[str, object]:
    """params.yaml of the project with a small world, few shards and one process."""
    settings = plain_yaml.read(ROOT / "params.yaml")
    settings["demo"] = {"demo": SMALL}
    settings["workers"] = 1
    settings["tokenizer"]["name"] = str(ROOT / "data_pipeline/demo/tokenizer.json")
    for dataset in settings["datasets"].values():
        for drop in dataset["raw"]:
            drop["shards"] = {split: min(number, 4) for split, number in drop["shards"].items()}
    return settings


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, small_params: dict[str, object]) -> Path:
    """A project folder with params.yaml and raw/demo. Read only."""
    from data_pipeline.demo.world import build

    project = tmp_path_factory.mktemp("world")
    (project / "params.yaml").write_text(yaml.safe_dump(small_params, sort_keys=False))
    settings = params.load(project / "params.yaml")
    (project / "raw/demo").mkdir(parents=True)
    build(project / "raw/demo", settings.demo["demo"], settings.seed, lambda done, total: None, 1)
    return project


@pytest.fixture(scope="session")
def annotated(world: Path) -> Iterator[Path]:
    """The world after read, scan, images, validate and spans. Read only."""
    run_chain(world)
    return world
