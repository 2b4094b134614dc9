"""The ablation: its plan, its numbers and its page; a row is trained and scored with every seed."""

import json
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
import synthetic
import yaml

from contract.errors import FuselineError, MismatchError, ParamsError
from contract.seeds import rng
from training import ablate, compare
from training.ablation import chart, plan, scores, table
from training.ablation.scores import Line, Scores
from training.ablation.significance import least_difference, t_quantile
from training.model import task_checks
from training.settings import load

ROOT = Path(__file__).parents[1]
PLAN = {
    "seeds": [0, 1],
    "split": "val",
    "bases": {"vqa": {"measures": ["vqa.accuracy"], "set": {"optim.epochs": 1, "optim.batch": 8}}},
    "rows": {"gated": {"base": "vqa"}, "none": {"base": "vqa", "set": {"fusion.kind": "none"}}},
    "factors": {"fusion": {"title": "Fusion", "rows": {"gated": "gated", "none": "none"}}},
}


@pytest.fixture
def world(tmp_path, monkeypatch) -> Path:
    synthetic.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    write(PLAN)
    return tmp_path


def write(content: object) -> None:
    Path("plan.yaml").write_text(yaml.safe_dump(content))


def row(name: str) -> dict:
    ablate.main([name, "--plan", "plan.yaml"])
    return json.loads(Path(f"reports/ablation/{name}.json").read_bytes())


def test_a_row_is_trained_and_scored_once_a_seed_and_repeats(world):
    first = row("none")
    assert first["seeds"] == [0, 1] and len(first["scores"]["vqa.accuracy"]) == 2
    assert row("none") == first
    assert not list(world.glob("runs/*"))


def test_rows_differ_from_their_base_by_what_they_set_alone():
    ablation = plan.load(ROOT / "ablation/params.yaml")
    for name, known in ablation.rows.items():
        base, settings = ablation.base(name).set, ablation.settings(name)
        assert {place for place in settings if settings[place] != base.get(place)} == known.set.keys()


def test_every_row_of_the_project_is_a_setting_of_the_project_and_stands_in_a_factor():
    ablation = plan.load(ROOT / "ablation/params.yaml")
    for name in ablation.rows:
        given = ablate.fit_arguments(ablation, name, 0, ["data"], Path("run"))
        overrides = given[given.index("--set") + 1 :] if "--set" in given else []
        settings, _ = load(ROOT / "params.yaml", overrides)
        task_checks.check(settings)
    assert {row for factor in ablation.factors.values() for row in factor.rows.values()} == set(ablation.rows)


def test_the_comparison_holds_every_score_and_its_page_and_plot_show_them(world):
    rows = {name: row(name) for name in PLAN["rows"]}
    compare.main(["--plan", "plan.yaml"])
    lines = json.loads(Path("reports/ablation.json").read_bytes())
    assert [line["scores"] for line in lines] == [
        rows[line["row"]]["scores"]["vqa.accuracy"] for line in lines
    ]
    page = Path("reports/ablation.md").read_text()
    assert all(f"{100 * line['mean']:.1f} ±" in page for line in lines)
    drawn = ElementTree.parse("reports/ablation.svg").getroot()
    dots = drawn.findall("{http://www.w3.org/2000/svg}circle")
    assert len(dots) == sum(len(line["scores"]) for line in lines)


def test_mean_spread_and_gain_are_those_of_the_definition():
    rows = {
        "a": Scores("a", {}, "val", [0, 1, 2], {"m": [0.1, 0.2, 0.6]}),
        "b": Scores("b", {}, "val", [0, 1, 2], {"m": [0.4] * 3}),
    }
    first, second = scores.lines("f", rows, "m")
    assert (first.mean, first.gain) == pytest.approx((0.3, 0.0))
    assert first.spread == pytest.approx((((-0.2) ** 2 + (-0.1) ** 2 + 0.3**2) / 2) ** 0.5)
    assert (second.mean, second.spread, second.gain) == pytest.approx((0.4, 0.0, 0.1))


@pytest.mark.parametrize(
    ("both", "said"),
    [
        ([0.89, 0.90, 0.91], "better than `vit` (-39.0), `esam` (-60.0)."),
        ([0.59, 0.60, 0.61], "better than `esam` (-30.0); no different from `vit` (-9.0)."),
        ([0.29, 0.30, 0.31], "worse than `vit` (+21.0); no different from `esam` (+0.0)."),
        ([0.40, 0.41, 0.42], "better than `esam` (-11.0); no different from `vit` (+10.0)."),
    ],
)
def test_the_first_value_is_held_against_each_other_and_what_seeds_do(both, said):
    """The variance that they share is (1 + 4 + 49) / 3 points², and t of 6 degrees at 2.5 % is 2.969."""
    given = {"both": both, "vit": [0.49, 0.51, 0.53], "esam": [0.23, 0.30, 0.37]}
    rows = {name: Scores(name, {}, "val", [0, 1, 2], {"m": values}) for name, values in given.items()}
    least = 2.969 * (2 / 3 * (1 + 4 + 49) / 3) ** 0.5
    page = table.markdown("Encoders", scores.lines("inputs", rows, "m"), 3)
    counts = f"A difference counts from {least:.1f} points on (95% sure of all rows together)."
    assert f"\n\nBy m, `both` is {said} {counts}\n" in page


@pytest.mark.parametrize("rows", [2, 5])
def test_of_rows_that_are_alike_a_difference_is_hardly_ever_told(rows):
    """In at most one of twenty comparisons of a factor, by its level, up to what 2,000 draws vary."""
    drawn = rng(0, "ablation", rows).normal(size=(2000, rows, 3))
    called = [
        any(abs(row.mean() - of[0].mean()) > least_difference(of.tolist()) for row in of[1:]) for of in drawn
    ]
    assert 0.02 < sum(called) / len(called) < 0.065


@pytest.mark.parametrize(
    ("freedom", "t"), [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (7, 2.365), (30, 2.042)]
)
def test_quantiles_are_those_of_the_tables(freedom, t):
    assert t_quantile(0.05, freedom) == pytest.approx(t, abs=0.001)


def test_the_stored_comparison_says_what_its_numbers_say():
    stored = ROOT / "benchmarks/results/ablation"
    ablation = plan.load(ROOT / "ablation/params.yaml")
    lines = msgspec.json.decode(stored.with_suffix(".json").read_bytes(), type=list[Line])
    of_factors = {name: [line for line in lines if line.factor == name] for name in ablation.factors}
    page = [table.markdown(ablation.factors[name].title, of, 3) for name, of in of_factors.items()]
    assert stored.with_suffix(".md").read_text() == "\n".join(page)


def test_one_seed_has_no_spread_and_equal_scores_are_drawn_in_the_middle():
    rows = {"a<b": Scores("a", {}, "val", [0], {"m": [0.5]})}
    lines = scores.lines("f", rows, "m")
    assert lines[0].spread == 0
    (dot,) = ElementTree.fromstring(chart.svg({"x & y": lines})).findall("{http://www.w3.org/2000/svg}circle")
    assert float(dot.attrib["cx"]) == pytest.approx((chart.LEFT + chart.WIDTH - chart.RIGHT) / 2)
    page = table.markdown("x", lines, 1)
    assert "50.0 ± 0.0" in page and "stands alone" in page
    assert "one seed tells no difference" in table.markdown(
        "x", scores.lines("f", rows | {"b": rows["a<b"]}, "m"), 1
    )


def test_a_factor_over_two_bases_is_refused(world):
    content = PLAN | {"bases": {**PLAN["bases"], "itm": {"measures": ["itm.own"]}}}
    write(content | {"rows": {**PLAN["rows"], "none": {"base": "itm"}}})
    with pytest.raises(ParamsError, match=r"factors\.fusion[\s\S]*itm, vqa"):
        row("none")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rows": {"gated": {"base": "vqaa"}}}, "vqaa"),
        ({"factors": {"fusion": {"title": "", "rows": {"a": "gatedd"}}}}, "gatedd"),
        ({"seeds": []}, "seeds"),
        ({"colour": 1}, "colour"),
    ],
)
def test_a_mistake_in_the_plan_is_named(world, change, said):
    write(PLAN | change)
    with pytest.raises(FuselineError, match=said):
        row("gated")


def test_an_unknown_row_lists_the_known(world):
    with pytest.raises(FuselineError, match="gated"):
        ablate.main(["gatd", "--plan", "plan.yaml"])


def test_a_measure_that_no_evaluation_gives_names_what_there_is(world):
    with pytest.raises(ParamsError, match="no 'accurate'[\\s\\S]*accuracy"):
        scores.find({"vqa": {"accuracy": 0.5}}, "vqa.accurate")
    with pytest.raises(ParamsError, match="is no number"):
        scores.find({"vqa": {"accuracy": None}}, "vqa.accuracy")


def stored(name: str, **change: object) -> Path:
    """A row's result as the plan asks for it, but for the change."""
    settings = plan.load(Path("plan.yaml")).settings(name)
    content = {"row": name, "set": settings, "split": "val", "seeds": [0, 1]}
    path = Path(f"reports/ablation/{name}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content | {"scores": {"vqa.accuracy": [0.25, 0.5]}} | change))
    return path


def test_a_missing_row_is_said_with_its_command(world):
    with pytest.raises(ParamsError, match=r"training\.ablate gated"):
        compare.main(["--plan", "plan.yaml"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"row": "none"}, "row none"),
        ({"seeds": [0, 2]}, r"seeds \[0, 2\]"),
        ({"split": "test"}, "split test"),
        ({"set": {"optim.epochs": 2, "optim.batch": 8}}, "'optim.epochs': 2"),
        ({"scores": {"vqa.accuracy": [0.5]}}, "'vqa.accuracy': 1"),
        ({"scores": {"itm.own": [0.5, 0.5]}}, "itm.own"),
    ],
)
def test_a_row_of_another_plan_is_refused(world, change, said):
    stored("none")
    stored("gated", **change)
    with pytest.raises(MismatchError, match=rf"gated\.json: was made by another plan\s+found: .*{said}"):
        compare.main(["--plan", "plan.yaml"])


@pytest.mark.parametrize("content", [b'{"row": "ga', b'{"row": "\xff"}', b"[]", b'{"row": "gated"}', b""])
def test_a_result_that_is_cut_or_something_else_is_said(world, content):
    stored("none")
    stored("gated").write_bytes(content)
    with pytest.raises(MismatchError, match=r"gated\.json: is not the result of a row"):
        compare.main(["--plan", "plan.yaml"])
