"""Command show: what a shard holds, in words and as a picture."""

import argparse
from pathlib import Path

import by_hand
import numpy as np
import pytest
from drawn import records
from hypothesis import given, settings
from PIL import Image

from contract import codec
from contract.errors import ShardError
from contract.quantise import quantise
from contract.record import Record, Regions, Text
from data_pipeline.pictures import drawing
from data_pipeline.shards.shard_writer import Sample, write_shard
from data_pipeline.stages import negatives, shards, show

ARGS = argparse.Namespace(params=Path("params.yaml"))
SHARD = Path("data/gqa-000.tar")


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    by_hand.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    shards.run(ARGS)
    negatives.run(ARGS)
    return tmp_path


def shown(capsys: pytest.CaptureFixture[str], key: str | None = None, save: Path | None = None) -> str:
    capsys.readouterr()
    show.run(argparse.Namespace(shard=SHARD, key=key, save=save))
    return capsys.readouterr().out


def test_without_a_key_the_keys_are_listed(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = shown(capsys)
    assert "data/gqa-000.tar: 3 pictures" in said and "48 × 32" in said
    assert "features/vit/gqa-000.tar, negatives/gqa-000.tar" in said
    assert "2 question, 1 statement" in said and "none" in said
    assert "\x1b" not in said  # plain where there is no terminal


def test_long_lists_say_how_many_more(
    built: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show, "MOST_KEYS", 1)
    assert "… and 2 more" in shown(capsys)


def test_a_key_shows_record_features_and_neighbours(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = shown(capsys, "1")
    assert "What color is [the cube]0?  → red  query/attr" in said
    assert "[The cube]0,1 is red." in said
    assert "vit  5 × 4 float16, token norms: mean" in said
    assert "negatives  10 0.99" in said
    assert "drawn to 1.png (raw/0.jpg)" in said and Path("1.png").is_file()


def test_the_drawing_goes_where_it_is_asked_to(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown(capsys, "1", Path("out/here.png"))
    assert Image.open("out/here.png").width > drawing.NARROWEST and not Path("1.png").exists()


def test_an_absent_picture_is_said(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokens = {name: by_hand.vector(number) for number, (_, _, name, *_) in enumerate(by_hand.PLACES)}
    by_hand.features(built, tokens | {"10": np.zeros((0, 4), np.float16)})
    assert "vit  absent" in shown(capsys, "10")


def test_norms_of_int8_tokens_take_their_scales(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = quantise(np.full((5, 4), 3, np.float32))
    keys = sorted(key for _, _, key, _, place, _ in by_hand.PLACES if place == "gqa-000")
    samples = [Sample(key, [codec.encode_array(array) for array in arrays]) for key in keys]
    write_shard(Path("features/vit/gqa-000.tar"), ["vit.npy", "vit.scale.npy"], samples)
    assert "5 × 4 int8, token norms: mean 6.00, min 6.00, max 6.00" in shown(capsys, "1")


def test_a_wrong_key_offers_the_nearest(built: Path) -> None:
    with pytest.raises(ShardError, match="no key '11'") as caught:
        show.run(argparse.Namespace(shard=SHARD, key="11", save=None))
    assert caught.value.fix == "did you mean 1 or 10?"


def test_a_missing_shard_is_said(built: Path) -> None:
    with pytest.raises(ShardError, match="no such shard"):
        show.run(argparse.Namespace(shard=Path("data/none.tar"), key=None, save=None))


def test_without_picture_the_canvas_is_blank_and_it_says_so(
    built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("raw/0.jpg").unlink()
    assert "no such picture file; boxes on a blank canvas" in shown(capsys, "1")
    Path("images/catalogue.parquet").unlink()
    assert "no images/catalogue.parquet: boxes on a blank canvas" in shown(capsys, "1")


def test_a_thumbnail_needs_no_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    by_hand.build(tmp_path, thumbnails=16)
    monkeypatch.chdir(tmp_path)
    shards.run(ARGS)
    Path("images/catalogue.parquet").unlink()
    assert "thumbnail of the shard" in shown(capsys, "1")


def test_an_empty_shard_is_shown(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    show.run(argparse.Namespace(shard=Path("data/gqa-001.tar"), key=None, save=None))
    assert "0 pictures" in capsys.readouterr().out


def example(**fields: object) -> Text:
    return Text(**{"id": "t", "role": "phrase", "text": "a red cube", "tokens": [1], **fields})  # type: ignore[arg-type]


@given(records())
def test_runs_join_to_the_text(record: Record) -> None:
    for text in record.texts:
        assert "".join(run.text for run in drawing.runs(text)) == text.text


def test_words_have_the_colour_of_their_box() -> None:
    text = example(span_chars=[(2, 5)], span_tokens=[(0, 1)], span_regions=[[3]])
    assert drawing.runs(text) == [("a ", None), ("red", drawing.colour(3)), (" cube", None)]
    assert drawing.runs(example(about=[1])) == [("a red cube", drawing.colour(1))]


@settings(max_examples=25)
@given(records())
def test_any_sound_record_can_be_drawn(record: Record) -> None:
    sheet = drawing.draw(record, None)
    assert sheet.width >= drawing.NARROWEST and sheet.height > 2 * drawing.MARGIN


def test_a_box_is_drawn_at_its_place_in_its_colour() -> None:
    record = Record(1, "1", 400, 400, "0", "g", Regions(["r"], [(0.25, 0.5, 0.75, 0.9)], ["cube"]), [])
    sheet = drawing.draw(record, Image.new("RGB", (400, 400), "#808080"))
    side = drawing.LONGEST - 1
    left = drawing.MARGIN + round(0.25 * side)
    middle = drawing.MARGIN + round(0.7 * side)
    wanted = tuple(int(drawing.colour(0)[at : at + 2], 16) for at in (1, 3, 5))
    assert sheet.getpixel((left + 1, middle)) == wanted
    assert sheet.getpixel((left + 20, middle)) == (128, 128, 128)
