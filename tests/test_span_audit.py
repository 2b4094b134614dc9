"""Stage spans on small tables: what is kept, what is flagged, what is counted."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tokenizers import Tokenizer
from tokenizers_by_hand import TOKENIZERS

from contract import params
from contract.errors import MismatchError, ParamsError
from data_pipeline.stages import spans as stage
from data_pipeline.stages.spans import (
    DEMO_TOKENIZER,
    blocks,
    check_tokenizer,
    tokenize,
    with_matches,
    write,
)
from data_pipeline.texts.audit import model_of
from data_pipeline.texts.tokenizer_file import build

NEGATIVES = pl.List(pl.Struct({"text": pl.String, "kind": pl.String}))
TEXT = dict.fromkeys(("text", "picture", "role", "content", "source_file", "position"), pl.String)
ENTITY = {
    **dict.fromkeys(("text", "span", "name", "source", "source_file", "position"), pl.String),
    **dict.fromkeys(("start", "end"), pl.Int32),
    "regions": pl.List(pl.String),
}
REGION = {**dict.fromkeys(("picture", "region", "name"), pl.String), "crowd": pl.Boolean}
BERT = TOKENIZERS["WordPiece"]
MODEL = model_of(BERT, 77)


def text(name: str, content: str, role: str = "caption", **more: Any) -> dict[str, Any]:
    own = {"text": name, "picture": "p", "role": role, "content": content, "negatives": []}
    return {**own, "source_file": "f.json", "position": f"/{name}", **more}


def entity(name: str, start: int, end: int, **more: Any) -> dict[str, Any]:
    own = {"text": name, "start": start, "end": end, "span": f"{start}:{end}", "name": None, "regions": []}
    return {**own, "source": "annotated", "source_file": "f.json", "position": f"/{name}", **more}


def texts(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), {**TEXT, "negatives": NEGATIVES})


def entities(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), ENTITY)


def phrases(content: str, *words: str) -> list[dict[str, Any]]:
    return [entity("1", content.index(word), content.index(word) + len(word)) for word in words]


def audit(tokenizer: Tokenizer, content: str, *words: str) -> dict[str, int]:
    """The counts of one text and its phrases that are not 0."""
    spans = entities(*phrases(content, *words))
    found = tokenize(texts(text("1", content)), spans, tokenizer, model_of(tokenizer, 77)).audit
    apart = ("texts", "spans", "span_annotated")
    return {name: count for name, count in found.items() if count and name not in apart}


def test_what_the_tokenizer_cannot_represent_is_rejected() -> None:
    rows = texts(text("1", "a cat"), text("2", "\u200b"), text("3", "cat", role="phrase"))
    spans = entities(entity("1", 2, 5), entity("1", 1, 2), entity("2", 0, 1))
    done = tokenize(rows, spans, BERT, MODEL)
    assert done.texts["text"].to_list() == ["1", "3"]
    assert done.entities.select("token_start", "token_end").rows() == [(1, 2)]
    assert sorted(done.findings.select("table", "id", "outcome", "reason").rows()) == [
        ("entities", "1/1:2", "reject", "span_no_tokens"),
        ("entities", "2/0:1", "reject", "text_rejected"),
        ("texts", "2", "reject", "text_no_tokens"),
    ]
    assert (done.audit["texts"], done.audit["spans"]) == (2, 1)
    assert (done.audit["text_no_tokens"], done.audit["span_no_tokens"]) == (1, 1)


def test_beyond_the_models_length_is_flagged_and_kept_whole() -> None:
    """Length 5 is three tokens and two specials."""
    rows = texts(text("1", "a red cat"), text("2", "a red cat near it"))
    spans = entities(entity("1", 6, 9), entity("2", 2, 9), entity("2", 6, 14))
    done = tokenize(rows, spans, BERT, model_of(BERT, 5))
    assert done.texts["tokens"].list.len().to_list() == [3, 5]
    assert len(done.entities) == 3
    assert done.findings.select("id", "outcome", "reason", "detail").rows() == [
        ("2", "flag", "text_truncated", "5 tokens"),
        ("2/6:14", "flag", "span_truncated", "ends at token 4"),
    ]
    assert (done.audit["text_truncated"], done.audit["span_truncated"]) == (1, 1)


def test_a_token_across_the_end_of_a_span_is_flagged() -> None:
    rows, spans = texts(text("1", "two cats")), entities(entity("1", 4, 7), entity("1", 4, 8))
    whole_words = build(["two cats"], 400)
    done = tokenize(rows, spans, whole_words, model_of(whole_words, 77))
    assert done.findings.select("id", "outcome", "reason", "detail").rows() == [
        ("1/4:7", "flag", "span_straddles", "reaches 4 to 8")
    ]


@pytest.mark.parametrize(
    ("kind", "content", "words", "counted"),
    [
        ("WordPiece", "a red cat", ["red cat"], {}),
        ("WordPiece", "a Red cat", ["Red", "cat"], {"span_case_folded": 1}),
        ("WordPiece", "a 日 cat", ["日", "cat"], {"text_unknown": 1, "span_unknown": 1}),
        ("byte-level, trimmed", "a Red dog", ["Red", "dog"], {"span_leading_space": 1}),
        ("byte-level, with spaces", "a Red dog", ["Red", "dog"], {"span_leading_space": 1}),
        ("byte-level, with spaces", "a  dog", [" dog"], {"span_leading_space": 1}),
        ("CLIP", "a Red dog", ["Red", "dog"], {"span_case_folded": 1}),
    ],
)
def test_the_audit_counts(kind: str, content: str, words: list[str], counted: dict[str, int]) -> None:
    assert audit(TOKENIZERS[kind], content, *words) == counted


def test_the_audit_knows_each_vocabulary() -> None:
    byte_level, clip = TOKENIZERS["byte-level, trimmed"], TOKENIZERS["CLIP"]
    spaced = model_of(byte_level, 77).spaced
    assert BERT.id_to_token(MODEL.unknown or 0) == "[UNK]" and not MODEL.spaced
    assert clip.id_to_token(model_of(clip, 77).unknown or 0) == "<|endoftext|>"
    assert model_of(byte_level, 77).unknown is None
    assert {byte_level.id_to_token(token) for token in spaced} >= {"Ġdog", "Ġa", "Ġ"}
    assert [model_of(each, 77).folds_case for each in (BERT, byte_level, clip)] == [True, False, True]


def test_given_negatives_get_tokens_of_their_own() -> None:
    negatives = [{"text": "a dog", "kind": "given"}, {"text": "cat", "kind": "given"}]
    rows = texts(text("1", "a cat"), text("2", "a cat", negatives=negatives))
    tokenizer = build(["a cat", "a dog"], 400)
    found = tokenize(rows, entities(), tokenizer, model_of(tokenizer, 77)).texts["negatives"].to_list()
    assert found[0] == [] and [negative["text"] for negative in found[1]] == ["a dog", "cat"]
    assert [tokenizer.decode(negative["tokens"]) for negative in found[1]] == ["a dog", "cat"]


def clean(folder: Path) -> pl.DataFrame:
    """A folder of stage validate: a caption with an entity, and one text per role without; → the texts."""
    entities(entity("own", 0, 3)).write_parquet(folder / "entities.parquet")
    boxes = [{"picture": "p", "region": "r", "name": "cat", "crowd": False}]
    pl.DataFrame(boxes, REGION).write_parquet(folder / "regions.parquet")
    roles = ("caption", "edit", "question", "phrase")
    return texts(text("own", "cat"), *(text(role, "The cat", role=role) for role in roles))


def test_things_are_found_in_texts_of_the_roles_asked_for(tmp_path: Path) -> None:
    rows = clean(tmp_path)
    found = with_matches(rows, tmp_path, ("caption", "edit"))
    assert found.select("text", "start", "end", "regions", "source").rows() == [
        ("own", 0, 3, [], "annotated"),
        ("caption", 4, 7, ["r"], "matched"),
        ("edit", 4, 7, ["r"], "matched"),
    ]
    done = tokenize(rows, found, BERT, MODEL)
    assert (done.audit["spans"], done.audit["span_annotated"], done.audit["span_matched"]) == (3, 1, 2)
    assert with_matches(rows, tmp_path, ())["text"].to_list() == ["own"]


def test_every_span_of_the_world_is_counted_once(annotated: Path) -> None:
    """audit.json and counts.json agree; CIRR's edits have matched spans, GQA's annotated ones."""
    for dataset, sources in (("gqa", {"annotated"}), ("cirr", {"matched"})):
        folder = annotated / "spans" / dataset
        counted = json.loads((folder / "audit.json").read_text())
        accounts = json.loads((folder / "counts.json").read_text())
        spans = pl.read_parquet(folder / "entities.parquet")
        assert set(spans["source"]) == sources
        assert counted["spans"] == len(spans) == counted["span_annotated"] + counted["span_matched"]
        assert accounts["entities"]["read"] == counted["spans"] + accounts["entities"]["rejected"]
        assert counted["texts"] == accounts["texts"]["kept"]
        assert counted["span_straddles"] == counted["span_unknown"] == counted["text_truncated"] == 0


@pytest.mark.parametrize("block", [1, 2, 3])
def test_blocks_change_nothing(block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entities need not stand in the order of their texts."""
    rows = texts(text("1", "a red cat"), text("2", "\u200b"), text("3", "cat"), text("4", "two cats near it"))
    spans = entities(entity("4", 4, 8), entity("1", 6, 9), entity("2", 0, 1), entity("1", 2, 5))
    whole = tokenize(rows, spans, BERT, MODEL)
    monkeypatch.setattr(stage, "BLOCK", block)
    parts = list(blocks(rows, spans))
    findings, audit = write(tmp_path, (tokenize(*part, BERT, MODEL) for part in parts))
    assert len(parts) == -(-4 // block)
    assert pl.read_parquet(tmp_path / "texts.parquet").equals(whole.texts)
    order = ["text", "start"]
    assert pl.read_parquet(tmp_path / "entities.parquet").sort(order).equals(whole.entities.sort(order))
    assert findings.sort(pl.all()).equals(whole.findings.sort(pl.all()))
    assert audit == whole.audit


def test_a_dataset_without_texts_has_tables_too(tmp_path: Path) -> None:
    _, audit = write(tmp_path, (tokenize(*part, BERT, MODEL) for part in blocks(texts(), entities())))
    assert not any(audit.values())
    assert pl.read_parquet(tmp_path / "texts.parquet").schema["tokens"] == pl.List(pl.Int32)
    assert pl.read_parquet(tmp_path / "entities.parquet").schema["token_start"] == pl.Int32


def test_a_role_that_there_is_not_is_a_params_error() -> None:
    with pytest.raises(ParamsError, match=r"match"):
        params.convert({"match": ["captions"]}, params.Spans, "params.yaml")


def test_the_demo_tokenizer_is_refused_for_other_pictures(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.parquet"
    pl.DataFrame({"dataset": ["gqa", "own"], "generated": [True, False]}).write_parquet(path)
    demo = params.Tokenizer(name=str(DEMO_TOKENIZER))
    check_tokenizer(demo, "gqa", path)
    with pytest.raises(MismatchError, match="own"):
        check_tokenizer(demo, "own", path)
    check_tokenizer(params.Tokenizer(name=str(DEMO_TOKENIZER), allow_demo=True), "own", path)
    check_tokenizer(params.Tokenizer(name="other.json"), "own", path)
