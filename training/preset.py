"""Named settings: a file of training/presets each, "tasks" or "optim.batch" → value, laid over `train`."""

from pathlib import Path
from typing import Any

from contract import plain_yaml
from contract.errors import unknown_name

FOLDER = Path(__file__).parent / "presets"


def names() -> list[str]:
    """The presets that there are."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> dict[str, Any]:
    """Place → value. The error for an unknown name lists the known ones."""
    if name not in names():
        raise unknown_name("--preset", "preset", name, names())
    return plain_yaml.read(FOLDER / f"{name}.yaml")
