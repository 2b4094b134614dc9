"""A reason may take so much of a table and no more; what it took can be looked at after the failure."""

from collections.abc import Mapping
from pathlib import Path

import by_hand
import column_project
import msgspec
import polars as pl
import pytest
import yaml

from contract import params, plain_yaml
from contract.errors import BudgetError, ParamsError
from data_pipeline import reasons
from data_pipeline.__main__ import main
from data_pipeline.validation import budgets

BLANK = [by_hand.finding("texts", f"t{number}", "reject", "blank_text", {}) for number in range(3)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stage's folder before it is published: 3 blank texts of 100, and a flagged one."""
    monkeypatch.chdir(tmp_path)
    flagged = by_hand.finding("texts", "t9", "flag", "duplicate_text", {})
    by_hand.table(Path("out/findings.parquet"), [*BLANK, flagged], by_hand.FINDING)
    by_hand.write_json(Path("out/counts.json"), dict([by_hand.account(("texts", 100, 97))]))
    return Path("out")


@pytest.mark.parametrize("limits", [{}, {"blank_text": 0.03}, {"blank_text": 1.0}, {"mojibake": 0.0}])
def test_a_budget_that_is_kept_says_nothing(folder: Path, limits: Mapping[str, float]) -> None:
    budgets.check(limits, folder, "validate", "gqa")
    assert not budgets.REJECTS.exists()


@pytest.mark.parametrize("limits", [{"blank_text": 0.0299}, {"blank_text": 0.0}, {"duplicate_text": 0.0}])
def test_a_budget_that_is_exceeded_fails(folder: Path, limits: Mapping[str, float]) -> None:
    with pytest.raises(BudgetError, match=f"budgets.validate.{next(iter(limits))}"):
        budgets.check(limits, folder, "validate", "gqa")


def test_the_error_says_how_many_where_and_what_to_do(folder: Path) -> None:
    with pytest.raises(BudgetError) as error:
        budgets.check({"blank_text": 0.01}, folder, "validate", "gqa")
    said = error.value.text()
    assert "3 of 100 (3 %)" in said and "at most 1 %" in said and "x.json /0" in said
    assert error.value.status == 2
    kept = pl.read_parquet(".work/rejects/validate-gqa.parquet")
    assert ".work/rejects/validate-gqa.parquet" in said and len(kept) == 4


def test_a_mistyped_reason_is_an_error_even_where_nothing_was_found(folder: Path) -> None:
    with pytest.raises(ParamsError, match="did you mean 'blank_text'"):
        budgets.check({"blank_txt": 0.5}, folder, "validate", "gqa")


@pytest.mark.parametrize(
    ("reason", "home"), [("malformed", "read"), ("picture_damaged", "scan or budgets.features")]
)
def test_a_reason_of_another_stage_is_an_error(folder: Path, reason: str, home: str) -> None:
    """Such a budget could never be exceeded."""
    with pytest.raises(
        ParamsError, match=f"budgets.validate: stage validate never finds '{reason}'"
    ) as error:
        budgets.check({reason: 0.0}, folder, "validate", "gqa")
    assert f"it belongs to budgets.{home}" in error.value.text()


def test_every_stage_with_a_budget_has_its_reasons(annotated: Path) -> None:
    assert list(reasons.OF_STAGE) == [field.name for field in msgspec.structs.fields(params.Budgets)]
    for stage, known in reasons.OF_STAGE.items():
        for path in (annotated / stage).rglob("findings.parquet"):
            assert set(pl.read_parquet(path)["reason"]) <= known.keys()


def test_a_mistyped_stage_is_an_error(tmp_path: Path) -> None:
    by_hand.build(tmp_path)
    path = tmp_path / "params.yaml"
    path.write_text(path.read_text() + "budgets: {valdate: {blank_text: 0.1}}\n")
    with pytest.raises(ParamsError, match="did you mean 'validate'"):
        params.load(path)


SPENT = [
    ("read", "gqa", "malformed"),
    ("scan", "gqa", "picture_missing"),
    ("images", "", "in_evaluation_split"),
    ("validate", "cirr", "blank_text"),
    ("spans", "gqa", "span_truncated"),
]


@pytest.mark.parametrize(("stage", "dataset", "reason"), SPENT)
def test_a_stage_that_exceeds_a_budget_publishes_nothing(
    annotated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, dataset: str, reason: str
) -> None:
    for folder in annotated.iterdir():  # only what the stage writes is replaced
        if folder.is_dir() and folder.name not in (stage, ".work"):
            (tmp_path / folder.name).symlink_to(folder)
    settings = plain_yaml.read(annotated / "params.yaml")
    settings["budgets"] = {stage: {reason: 0.0}}
    settings["tokenizer"]["length"] = 6  # so that spans lie beyond it
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BudgetError, match=f"budgets.{stage}.{reason}"):
        main([part for part in (stage, dataset) if part])
    assert not Path(stage, dataset, "counts.json").exists()
    kept = budgets.REJECTS / f"{'-'.join(part for part in (stage, dataset) if part)}.parquet"
    assert len(pl.read_parquet(kept).filter(reason=reason))


def test_a_column_that_exceeds_a_budget_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    column_project.build(tmp_path)
    picture, settings = tmp_path / "pictures/3.png", tmp_path / "params.yaml"
    picture.write_bytes(picture.read_bytes()[:200])
    column_project.write_catalogue(tmp_path)
    settings.write_text(settings.read_text() + "budgets: {features: {picture_damaged: 0.05}}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BudgetError, match="1 of 11"):
        main(["features", "esam"])
    assert not Path("features/esam").exists()
    assert pl.read_parquet(budgets.REJECTS / "features-esam.parquet")["id"].to_list() == ["p03"]
