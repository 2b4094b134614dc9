"""ablation/params.yaml, typed and strict: which runs are compared, and by what."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from contract import params, plain_yaml
from contract.errors import ParamsError, unknown_name


class Strict(Struct, forbid_unknown_fields=True, frozen=True):
    """A section in which an unknown key is an error."""


class Base(Strict, frozen=True):
    """What the rows of a factor have in common. set: place in `train` → value; measures: places in the result
    file of `evaluate`, of which the first is drawn.
    """

    measures: Annotated[list[str], Meta(min_length=1)]
    set: dict[str, Any] = {}


class Row(Strict, frozen=True):
    """A base with something changed: trained and scored once a seed."""

    base: str
    set: dict[str, Any] = {}


class Factor(Strict, frozen=True):
    """What is varied. rows: value → the row that has it; a row can stand in several factors."""

    title: str
    rows: dict[str, str]


class Ablation(Strict, frozen=True):
    """All of it. split: of the pictures that every run is scored on."""

    seeds: Annotated[list[int], Meta(min_length=1)]
    split: str
    bases: dict[str, Base]
    rows: dict[str, Row]
    factors: dict[str, Factor]

    def base(self, row: str) -> Base:
        """The base of a row."""
        return self.bases[self.rows[row].base]

    def settings(self, row: str) -> dict[str, Any]:
        """Place in `train` → value: the base's, the row's over them."""
        return self.base(row).set | self.rows[row].set


def load(path: Path) -> Ablation:
    """Read and check the file. A name that nothing has, and a factor over two bases, are ParamsErrors."""
    plan = params.convert(plain_yaml.read(path), Ablation, str(path))
    for name, known in plan.rows.items():
        _check_known(f"{path}: rows.{name}.base", "base", known.base, plan.bases)
    for name, factor in plan.factors.items():
        for value, row in factor.rows.items():
            _check_known(f"{path}: factors.{name}.rows.{value}", "row", row, plan.rows)
        bases = sorted({plan.rows[row].base for row in factor.rows.values()})
        if len(bases) != 1:
            raise ParamsError(
                f"{path}: factors.{name}",
                "compares rows of different bases",
                found=", ".join(bases) or "no row",
                expected="rows of one base, which have its measures in common",
            )
    return plan


def _check_known(place: str, what: str, name: str, known: Mapping[str, object]) -> None:
    if name not in known:
        raise unknown_name(place, what, name, known)
