"""Where an evaluation writes: checked before the model is asked anything, which can take long."""

from collections.abc import Sequence
from pathlib import Path

from contract.errors import ParamsError
from contract.files import check_folder


def check(written: Sequence[Path], read: Sequence[Path]) -> None:
    """ParamsError for a file that cannot be written, or whose name another file of the command has."""
    places = [path.resolve() for path in (*written, *read)]
    for path, place in zip(written, places, strict=False):
        _check_place(path)
        if sum(other in (place, *place.parents) for other in places) > 1:
            raise ParamsError(
                path, "has the name of another file of this command, or lies in one", fix="name another"
            )


def _check_place(path: Path) -> None:
    if path.is_dir():
        raise ParamsError(path, "is a folder", expected="a file to write")
    check_folder(path.parent)
