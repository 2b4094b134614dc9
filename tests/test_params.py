"""params.yaml: typed and strict; a mistyped key is named at its depth, with the nearest name."""

from collections.abc import Iterable
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract import params
from contract.errors import ParamsError


def sound() -> dict[str, Any]:
    return {
        "datasets": {"gqa": {"format": "gqa", "folder": "raw", "raw": [{"shards": {"train": 1}}]}},
        "tokenizer": {"name": "t.json"},
        "encoders": {
            "vit": {"architecture": "vit", "model": "m", "weights": "random", "size": 32, "grid": 2}
        },
        "negatives": {"encoder": "vit"},
    }


def load(folder: Path, content: object) -> params.Params:
    path = folder / "params.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return params.load(path)


def part(content: Any, place: Iterable[Any]) -> Any:
    """What lies there, all the way down."""
    return reduce(getitem, place, content)


def test_defaults_fill_what_is_not_said(tmp_path: Path) -> None:
    settings = load(tmp_path, sound())
    assert (settings.seed, settings.shards.thumbnails, settings.boxes.max_overhang) == (0, 0, 2.0)
    assert settings.datasets["gqa"].raw[0].path == "."


@pytest.mark.parametrize(
    ("place", "wrong", "near"),
    [
        ((), "encodrs", "encoders"),
        (("tokenizer",), "nme", "name"),
        (("datasets", "gqa"), "foldr", "folder"),
        (("datasets", "gqa", "raw", 0), "shrads", "shards"),
        (("encoders", "vit"), "grids", "grid"),
        (("negatives",), "picture", "pictures"),
    ],
)
def test_an_unknown_key_is_named_at_its_depth(
    tmp_path: Path, place: tuple[Any, ...], wrong: str, near: str
) -> None:
    content = sound()
    part(content, place)[wrong] = 1
    with pytest.raises(ParamsError) as caught:
        load(tmp_path, content)
    dotted = ".".join(map(str, [*place, wrong])).replace(".0.", "[0].")
    assert caught.value.problem == f"unknown key '{dotted}'"
    assert caught.value.fix == f"did you mean '{near}'?"


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("tokenizer", "name", 7),
        ("boxes", "min_area", 1.5),
        ("boxes", "max_overhang", -1),
        ("shards", "thumbnails", -1),
        ("report", "examples", 0),
        ("negatives", "probes", "many"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, section: str, key: str, value: object) -> None:
    content = sound()
    content.setdefault(section, {})[key] = value
    with pytest.raises(ParamsError, match=rf"{section}\.{key}: Expected[\s\S]*found: +{value!r}"):
        load(tmp_path, content)


def test_free_options_are_the_business_of_their_readers(tmp_path: Path) -> None:
    content = sound()
    content["datasets"]["gqa"]["options"] = {"anything": {"goes": 1}}
    content["train"] = {"steps": 10}
    assert load(tmp_path, content).datasets["gqa"].options == {"anything": {"goes": 1}}


def test_shares_must_add_up(tmp_path: Path) -> None:
    content = sound()
    content["datasets"]["gqa"]["splits"] = {"train": 0.8, "val": 0.1}
    with pytest.raises(ParamsError, match="do not add up to 1"):
        load(tmp_path, content)


@pytest.mark.parametrize(
    ("place", "wrong", "said"),
    [
        (("datasets",), {}, "datasets is empty"),
        (("datasets", "a/b"), {"format": "gqa", "folder": "x", "raw": [{"shards": {}}]}, "'a/b' cannot"),
        (("encoders", "vit-s"), {"architecture": "v"}, "'vit-s' cannot be a name"),
        (("datasets", "gqa", "raw", 0, "shards"), {"train.1": 1}, "'train.1' cannot be a name"),
        (("datasets", "gqa", "splits"), {"": 1.0}, "'' cannot be a name"),
        (("datasets", "gqa", "raw", 0, "path"), "../other", "leaves the dataset's folder"),
        (("datasets", "gqa", "raw", 0, "path"), "/other", "leaves the dataset's folder"),
        (("datasets", "gqa", "raw"), [{"path": p, "shards": {}} for p in ("a", "./a/")], "two drops are one"),
        (("encoders", "vit", "weights"), "elsewhere/vit.safetensors", "under weights/"),
        (("encoders", "vit", "weights"), "weights/../vit.safetensors", "under weights/"),
        (("encoders", "vit", "weights"), "", "under weights/"),
    ],
)
def test_names_and_places_stay_inside(
    tmp_path: Path, place: tuple[Any, ...], wrong: object, said: str
) -> None:
    content = sound()
    *steps, last = place
    part(content, steps)[last] = content["encoders"]["vit"] if last == "vit-s" else wrong
    with pytest.raises(ParamsError, match=said):
        load(tmp_path, content)


def test_the_encoder_of_the_negatives_must_exist(tmp_path: Path) -> None:
    content = sound()
    content["negatives"]["encoder"] = "esam"
    with pytest.raises(ParamsError, match="names no encoder"):
        load(tmp_path, content)


def test_a_missing_dataset_or_encoder_lists_those_there_are(tmp_path: Path) -> None:
    settings = load(tmp_path, sound())
    with pytest.raises(ParamsError, match="one of gqa"):
        params.dataset(settings, "gqb")
    with pytest.raises(ParamsError, match="did you mean 'vit'"):
        params.encoder(settings, "vti")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("- a\n- b\n", "mapping"),
        ("a: [1", "not YAML"),
        ("!!python/object:os.system {}", "tag"),
        ("", "mapping"),
    ],
)
def test_a_file_that_is_no_params_is_said(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(ParamsError, match=said):
        load(tmp_path, content)


def test_a_missing_file_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="project's folder"):
        params.load(tmp_path / "none.yaml")


def test_a_folder_in_the_place_of_the_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="cannot be read: Is a directory"):
        params.load(tmp_path)


@pytest.mark.parametrize(
    ("place", "wrong", "said"),
    [
        (("encoders", "vit", "size"), -3, r"encoders\.vit\.size: Expected `int` >= 1\n +found: +-3"),
        (
            ("encoders", "vit", "dtype"),
            "half",
            r"dtype: Invalid[^\n]*\n +found: +'half'\n +expected: +one of float",
        ),
        (
            ("datasets", "gqa", "raw", 0, "shards"),
            {"val": 0},
            r"datasets\.gqa\.raw\[0\]\.shards\.val: [\s\S]*found: +0",
        ),
        (
            ("spans",),
            {"match": {"a": 3}},
            r"spans\.match: Expected `array`, got `object`\n +found: +\{'a': 3\}",
        ),
        (("encoders", "vit", "dtype"), ["half"], r"vit\.dtype: Expected `str`[^\n]*\n +found: +\['half'\]"),
        (("datasets", "gqa"), {"format": "gqa"}, r"datasets\.gqa: Object missing required field `folder`"),
    ],
)
def test_what_is_wrong_is_said_with_its_key_its_value_and_what_it_may_be(
    tmp_path: Path, place: tuple[Any, ...], wrong: object, said: str
) -> None:
    content = sound()
    *steps, last = place
    part(content, steps)[last] = wrong
    with pytest.raises(ParamsError, match=said):
        load(tmp_path, content)
