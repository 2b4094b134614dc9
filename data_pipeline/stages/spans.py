"""Clean texts → spans/<dataset>/{texts,entities,findings}.parquet: token ids and token spans.

Texts gain `tokens` (no specials), their negatives too; entities gain token_start and token_end. A text of
`spans.match`'s roles that has no entity gets those that its words name: so entities read are the annotated
and the matched ones. A text or a span that the tokenizer cannot represent is a reject; audit.json counts
what else it did to them. tokenizer.json beside the tables is the tokenizer that made the ids, whatever
becomes of its source later.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl
from tokenizers import Tokenizer

from contract import params
from contract.errors import MismatchError
from contract.files import atomic_path, sha256_file
from data_pipeline.frames import (
    FrameWriter,
    findings_frame,
    read_table,
    reasons,
    rejected,
    write_findings,
)
from data_pipeline.tables import Account
from data_pipeline.texts import object_names
from data_pipeline.texts.alignment import align, encode
from data_pipeline.texts.audit import (
    SPAN_RULES,
    TEXT_RULES,
    Model,
    counts,
    marked_spans,
    marked_texts,
    model_of,
)
from data_pipeline.texts.matching import matched
from data_pipeline.texts.tokenizer_file import load, to_bytes
from data_pipeline.validation import budgets
from data_pipeline.validation.rules import Table, apply

BLOCK = 1 << 16  # texts tokenized and written at once
DEMO_TOKENIZER = Path(__file__).parents[1] / "demo" / "tokenizer.json"
NEGATIVES = pl.List(pl.Struct({"text": pl.String, "tokens": pl.List(pl.Int32), "kind": pl.String}))
_TEXTS = Table("texts", pl.col("text"), ["text", "picture", "role", "content"])
_ENTITIES = Table("entities", pl.format("{}/{}", "text", "span"), ["text", "span", "start", "end", "regions"])


class Tokenized(NamedTuple):
    """Kept rows: texts with `tokens`, entities with `token_start` and `token_end`. audit: name → count."""

    texts: pl.DataFrame
    entities: pl.DataFrame
    findings: pl.DataFrame
    audit: dict[str, int]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", help="a name under datasets: in params.yaml")


def run(args: argparse.Namespace) -> None:
    settings = params.load(args.params)
    params.dataset(settings, args.dataset)
    check_tokenizer(settings.tokenizer, args.dataset, Path("images/catalogue.parquet"))
    clean = Path("validate", args.dataset)
    texts = read_table(clean, "texts")
    entities = with_matches(texts, clean, settings.spans.match)
    tokenizer = load(settings.tokenizer.name)
    model = model_of(tokenizer, settings.tokenizer.length)
    account = Account()
    with atomic_path(Path("spans", args.dataset)) as folder:
        folder.mkdir()
        done = (tokenize(*block, tokenizer, model) for block in blocks(texts, entities))
        findings, audit = write(folder, done)
        account.add("texts", len(texts), audit["texts"], rejected(findings, "texts"))
        account.add("entities", len(entities), audit["spans"], rejected(findings, "entities"))
        account.state_added("entities", len(entities.filter(source="matched")))
        write_findings(folder, findings)
        (folder / "audit.json").write_text(json.dumps(audit, indent=1) + "\n")
        (folder / "tokenizer.json").write_bytes(to_bytes(tokenizer))
        account.write(folder)
        budgets.check(settings.budgets.spans, folder, "spans", args.dataset)
    print(f"spans {args.dataset}: {account.summary()} {reasons(findings)}")


def write(folder: Path, done: Iterable[Tokenized]) -> tuple[pl.DataFrame, dict[str, int]]:
    """The tables, a block at a time → (all findings, the sums of all audits)."""
    findings, audit = [], Counter[str]()
    with FrameWriter(folder / "texts.parquet") as texts, FrameWriter(folder / "entities.parquet") as entities:
        for block in done:
            texts.add(block.texts)
            entities.add(block.entities)
            findings.append(block.findings)
            audit.update(block.audit)
    return findings_frame(findings), dict(audit)


def blocks(texts: pl.DataFrame, entities: pl.DataFrame) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """The texts in their order, BLOCK at a time, each time with their entities; at least one, if empty."""
    rows = texts.select("text").with_row_index("row")
    row_S = entities.select("text").join(rows, on="text", how="left", maintain_order="left")["row"]
    order, ordered = row_S.arg_sort(), row_S.sort()
    for begin in range(0, max(1, len(texts)), BLOCK):
        low, high = (ordered.search_sorted(edge, "left") for edge in (begin, begin + BLOCK))
        yield texts[begin : begin + BLOCK], entities[order[low:high]]


def check_tokenizer(settings: params.Tokenizer, dataset: str, catalogue: Path) -> None:
    """The demo's tokenizer knows only the demo's words: MismatchError for other pictures' texts."""
    path = Path(settings.name)
    if settings.allow_demo or not path.is_file() or sha256_file(path) != sha256_file(DEMO_TOKENIZER):
        return
    pictures = pl.read_parquet(catalogue, columns=["dataset", "generated"]).filter(dataset=dataset)
    if not pictures["generated"].all():
        raise MismatchError(
            "params.yaml: tokenizer.name",
            f"the demo's tokenizer does not know the words of {dataset}",
            expected="another tokenizers JSON file",
            fix="python -m data_pipeline tokenizer makes or fetches one; tokenizer.allow_demo takes this one",
        )


def with_matches(texts: pl.DataFrame, clean: Path, roles: Sequence[str]) -> pl.DataFrame:
    """The entities in folder `clean`, then those found in texts of these roles that have none."""
    annotated = read_table(clean, "entities")
    asked = texts.filter(pl.col("role").is_in(roles))
    if asked.is_empty():
        return annotated
    regions = pl.read_parquet(clean / "regions.parquet", columns=["picture", "region", "name", "crowd"])
    return pl.concat([annotated, matched(asked, annotated, regions, object_names.load())])


def tokenize(texts: pl.DataFrame, entities: pl.DataFrame, tokenizer: Tokenizer, model: Model) -> Tokenized:
    """Token ids of texts and their negatives, token spans of entities."""
    rows = texts.select("text").with_row_index("row")
    numbered = entities.join(rows, on="text", how="left", maintain_order="left")
    tokens, aligned = align(tokenizer, texts["content"], numbered)
    with_tokens = texts.with_columns(tokens, _negatives(texts, tokenizer))
    sound, lost = apply(marked_texts(with_tokens, model), _TEXTS, TEXT_RULES)
    no_text = pl.col("text").is_in(lost.filter(outcome="reject")["id"].implode())
    judged = marked_spans(aligned, with_tokens, model).with_columns(lost=no_text)
    kept, found = apply(judged, _ENTITIES, SPAN_RULES)
    findings = pl.concat([lost, found])
    return Tokenized(
        sound.select(with_tokens.columns),
        kept.select(*entities.columns, "token_start", "token_end"),
        findings,
        counts(sound, kept, findings),
    )


def _negatives(texts: pl.DataFrame, tokenizer: Tokenizer) -> pl.Series:
    """The texts that the dataset gives as false, with tokens."""
    numbered = texts.select("negatives").with_row_index("row")
    given = numbered.explode("negatives").drop_nulls().unnest("negatives")
    struct = pl.struct("text", encode(tokenizer, given["text"]), "kind")
    lists = given.select("row", negatives=struct).group_by("row", maintain_order=True).agg("negatives")
    every = numbered.select("row").join(lists, on="row", how="left", maintain_order="left")
    return every["negatives"].fill_null([]).cast(NEGATIVES)
