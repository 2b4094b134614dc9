"""Clean texts → spans/<dataset>/{texts,entities,findings}.parquet: token ids and token spans.

Texts gain `tokens` (no specials), their negatives too; entities gain token_start and token_end.
A text or a span that the tokenizer cannot represent is a reject. tokenizer.json beside the tables is the
tokenizer that made the ids, whatever becomes of its source later.
"""

import argparse
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import polars as pl
from tokenizers import Encoding, Tokenizer

from contract import params
from contract.errors import MismatchError
from contract.files import atomic_path, sha256_file
from contract.spans import to_tokens
from data_pipeline.frames import read_table, reasons, rejected, write_findings, write_table
from data_pipeline.tables import Account
from data_pipeline.texts.tokenizer_file import load, to_bytes
from data_pipeline.validation.rules import Rule, Table, apply

DEMO_TOKENIZER = Path(__file__).parents[1] / "demo" / "tokenizer.json"
NEGATIVES = pl.List(pl.Struct({"text": pl.String, "tokens": pl.List(pl.Int32), "kind": pl.String}))
_TEXTS = Table("texts", pl.col("text"), ["text", "picture", "role", "content"])
_ENTITIES = Table("entities", pl.format("{}/{}", "text", "span"), ["text", "span", "start", "end", "regions"])


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", help="a name under datasets: in params.yaml")


def run(args: argparse.Namespace) -> None:
    settings = params.load(args.params)
    params.dataset(settings, args.dataset)
    check_tokenizer(settings.tokenizer, args.dataset, Path("images/catalogue.parquet"))
    clean = Path("validate", args.dataset)
    texts, entities = read_table(clean, "texts"), read_table(clean, "entities")
    tokenizer = load(settings.tokenizer.name)
    kept, findings = tokenize(texts, entities, tokenizer)
    account = Account()
    with atomic_path(Path("spans", args.dataset)) as folder:
        folder.mkdir()
        for (table, rows), read in zip(kept.items(), (texts, entities), strict=True):
            account.add(table, len(read), len(rows), rejected(findings, table))
            write_table(folder / f"{table}.parquet", rows)
        write_findings(folder, findings)
        (folder / "tokenizer.json").write_bytes(to_bytes(tokenizer))
        account.write(folder)
    print(f"spans {args.dataset}: {account.summary()} {reasons(findings)}")


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


def tokenize(
    texts: pl.DataFrame, entities: pl.DataFrame, tokenizer: Tokenizer
) -> tuple[dict[str, pl.DataFrame], pl.DataFrame]:
    """({"texts": with tokens, "entities": with token_start and token_end}, findings)."""
    encodings = _encode(tokenizer, texts["content"].to_list())
    tokens = pl.Series("tokens", [encoding.ids for encoding in encodings], pl.List(pl.Int32))
    with_tokens = texts.with_columns(tokens, _negatives(texts, tokenizer))
    empty = Rule("text_no_tokens", "reject", pl.col("tokens").list.len() == 0)
    sound, lost = apply(with_tokens, _TEXTS, [empty])
    rows = dict(zip(texts["text"].to_list(), encodings, strict=True))
    placed = _token_spans(entities, rows).with_columns(lost=pl.col("text").is_in(lost["id"].implode()))
    rules = [
        Rule("text_rejected", "reject", pl.col("lost")),
        Rule("span_no_tokens", "reject", pl.col("token_start").is_null()),
    ]
    kept, found = apply(placed, _ENTITIES, rules)
    return {"texts": sound, "entities": kept.drop("lost")}, pl.concat([lost, found])


def _encode(tokenizer: Tokenizer, texts: list[str]) -> list[Encoding]:
    return tokenizer.encode_batch(texts, add_special_tokens=False)


def _negatives(texts: pl.DataFrame, tokenizer: Tokenizer) -> pl.Series:
    """The texts that the dataset gives as false, with tokens."""
    numbered = texts.select("negatives").with_row_index("row")
    given = numbered.explode("negatives").drop_nulls().unnest("negatives")
    tokens = [encoding.ids for encoding in _encode(tokenizer, given["text"].to_list())]
    struct = pl.struct("text", pl.Series("tokens", tokens, pl.List(pl.Int32)), "kind")
    lists = given.select("row", negatives=struct).group_by("row", maintain_order=True).agg("negatives")
    every = numbered.select("row").join(lists, on="row", how="left", maintain_order="left")
    return every["negatives"].fill_null([]).cast(NEGATIVES)


def _token_spans(entities: pl.DataFrame, encodings: dict[str, Encoding]) -> pl.DataFrame:
    spans = _spans(entities.select("text", "start", "end").iter_rows(), encodings)
    starts, ends = zip(*spans, strict=True) if spans else ((), ())
    columns = {"token_start": starts, "token_end": ends}
    return entities.with_columns(pl.Series(name, values, pl.Int32) for name, values in columns.items())


def _spans(
    rows: Iterable[tuple[str, int, int]], encodings: dict[str, Encoding]
) -> list[tuple[int, int] | tuple[None, None]]:
    offsets_of = lru_cache(1)(lambda text: encodings[text].offsets)  # spans of a text follow each other
    return [to_tokens(offsets_of(text), start, end) or (None, None) for text, start, end in rows]
