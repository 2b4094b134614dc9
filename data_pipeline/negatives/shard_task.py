"""One tar of negatives: what is left of the texts' neighbours in sight of the annotations, and the swaps."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from msgspec import Struct
from tokenizers import Tokenizer

from contract import codec
from contract.files import sha256_file
from contract.index import index_path
from contract.manifest import ShardFacts
from contract.params import TextSelection
from contract.record import Near, Negatives, NegText, TextNegatives
from data_pipeline.negatives.claims import read
from data_pipeline.negatives.neighbours import NONE, Rows
from data_pipeline.negatives.picture_column import as_near
from data_pipeline.negatives.scene import SAME_PLACE, Box, Scene, overlap, scene
from data_pipeline.negatives.statistics import Example, NearExample
from data_pipeline.negatives.swaps import ROLES, Words, swaps
from data_pipeline.negatives.text_neighbours import Candidates
from data_pipeline.negatives.truth import truth
from data_pipeline.shards.shard_writer import Sample, write_shard

SUFFIX = "neg.json"
Row = Mapping[str, Any]


class Task(Struct):
    """One shard to write.

    pictures: key → neighbours, keys ascending. anchors: its texts (text, key, role, content, marks, around,
    negatives). candidates: of each anchor, their rows those of `others`.
    drawn: [A] a row of `others` drawn at random, or NONE. regions: of its pictures, with `key`. edits: text
    id → (key, members). marks: the named boxes that a text is linked to. exhaustive: names of which every
    thing has a box, but in the pictures `incomplete`.
    """

    path: Path
    dataset: str
    split: str
    pictures: dict[str, Near]
    anchors: pl.DataFrame
    candidates: Candidates
    others: pl.DataFrame
    drawn: Rows
    regions: pl.DataFrame
    edits: dict[str, tuple[str, Near]]
    words: Words
    exhaustive: frozenset[str]
    incomplete: frozenset[str]
    settings: TextSelection
    seed: int
    tokenizer: Path
    shown: frozenset[str]  # texts that the report shows


class Others(Struct):
    """The columns of a task's `others`."""

    text: list[str]
    key: list[str]
    content: list[str]
    tokens: list[list[int]]
    marks: list[list[Row] | None]


class Done(Struct):
    """What became of it. counts: filters, ends of swaps and draws, by name."""

    shard: str
    facts: ShardFacts
    counts: Counter[str]
    scores: list[float]
    examples: list[Example]


def write(task: Task) -> Done:
    """Write the tar and its index."""
    scenes = _scenes(task)
    others, anchors = Others(**task.others.to_dict(as_series=False)), task.anchors.to_dicts()
    counts: Counter[str] = Counter()
    near = [
        _near(task, number, anchor, others, scenes[anchor["key"]], counts)
        for number, anchor in enumerate(anchors)
    ]
    changed = [_swapped(task, anchor, scenes[anchor["key"]], counts) for anchor in anchors]
    counts += _drawn_true(task, anchors, others, scenes)
    texts: dict[str, dict[str, TextNegatives]] = {key: {} for key in task.pictures}
    for anchor, those, swapped in zip(anchors, near, _tokenised(task.tokenizer, changed), strict=True):
        if those.key or swapped:
            texts[anchor["key"]][anchor["text"]] = TextNegatives(those, swapped)
    for text, (key, members) in task.edits.items():
        texts[key][text] = TextNegatives(members)
    facts = _write(task, texts)
    scores = [score for those in near for score in those.score]
    counts["short"] += sum(len(those.key) < task.settings.num_negatives for those in near)
    return Done(task.path.stem, facts, counts, scores, list(_examples(task, anchors, others, texts)))


def _scenes(task: Task) -> dict[str, Scene]:
    regions: dict[str, list[Row]] = {key: [] for key in task.pictures}
    for row in task.regions.iter_rows(named=True):
        regions[row["key"]].append(row)
    nothing: frozenset[str] = frozenset()
    return {
        key: scene(rows, nothing if key in task.incomplete else task.exhaustive)
        for key, rows in regions.items()
    }


def _near(task: Task, number: int, anchor: Row, others: Others, shown: Scene, counts: Counter[str]) -> Near:
    """The first candidates that nothing shows to be true, nearest first."""
    taken: list[int] = []
    for place in range(int(task.candidates.count[number])):
        if len(taken) == task.settings.num_negatives:
            break
        reason = _true_because(anchor, others, task.candidates.rows[number, place], shown, task.words)
        if reason:
            counts[reason] += 1
        else:
            taken.append(place)
    scores = task.candidates.scores[number, taken]
    best = (-scores).argsort(kind="stable")
    rows = task.candidates.rows[number, taken][best].tolist()
    near = as_near([others.key[row] for row in rows], [others.text[row] for row in rows], scores[best])
    near.content, near.tokens = [others.content[row] for row in rows], [others.tokens[row] for row in rows]
    return near


def _true_because(anchor: Row, others: Others, row: int, shown: Scene, words: Words) -> str | None:
    """The filter that takes the other text, if one does."""
    if anchor["role"] == "phrase" and _same_place(anchor["marks"], others.marks[row]):
        return "overlapping_box"
    return "true_of_picture" if truth(read(others.content[row], words.nouns), shown) else None


def _same_place(marks: Sequence[Row] | None, others: Sequence[Row] | None) -> bool:
    """Whether both texts are linked to a box of one name at one place."""
    return any(
        mark["name"] == other["name"] and overlap(mark["box"], other["box"]) >= SAME_PLACE
        for mark in marks or ()
        for other in others or ()
    )


def _swapped(task: Task, anchor: Row, shown: Scene, counts: Counter[str]) -> list[NegText]:
    if anchor["role"] not in ROLES:
        return []
    around: Box | None = tuple(anchor["around"]) if anchor["around"] else None
    found, ends = swaps(
        anchor["content"],
        shown,
        task.words,
        task.settings.swaps,
        about=around,
        seed=task.seed,
        name=anchor["text"],
    )
    counts.update(ends)
    return [NegText(swap.text, [], swap.kind) for swap in found]


def _tokenised(tokenizer: Path, changed: Sequence[list[NegText]]) -> Iterator[list[NegText]]:
    """The same with tokens, without specials; the tokenizer is read if there is anything for it."""
    texts = [negative.text for those in changed for negative in those]
    loaded = Tokenizer.from_file(str(tokenizer)) if texts else None
    encoded = iter(loaded.encode_batch_fast(texts, add_special_tokens=False) if loaded else ())
    for those in changed:
        yield [NegText(negative.text, next(encoded).ids, negative.kind) for negative in those]


def _drawn_true(
    task: Task, anchors: Sequence[Row], others: Others, scenes: Mapping[str, Scene]
) -> Counter[str]:
    """Random texts that the annotations verify of the anchor's picture."""
    verified = sum(
        truth(read(others.content[row], task.words.nouns), scenes[anchor["key"]]) is True
        for anchor, row in zip(anchors, task.drawn.tolist(), strict=True)
        if row != NONE
    )
    return Counter(drawn_true=verified)


def _write(task: Task, texts: Mapping[str, dict[str, TextNegatives]]) -> ShardFacts:
    samples = (
        Sample(key, [codec.encode(Negatives(near, dict(sorted(texts[key].items()))))])
        for key, near in task.pictures.items()
    )
    written = write_shard(task.path, [SUFFIX], samples)
    hashed = sha256_file(index_path(task.path))
    return ShardFacts(task.dataset, task.split, written.samples, written.bytes, written.sha256, index=hashed)


def _examples(
    task: Task,
    anchors: Sequence[Row],
    others: Others,
    texts: Mapping[str, Mapping[str, TextNegatives]],
) -> Iterator[Example]:
    for anchor in anchors:
        if anchor["text"] not in task.shown:
            continue
        mined = texts[anchor["key"]].get(anchor["text"], TextNegatives(Near()))
        of = mined.near
        near = [
            NearExample("text", key, text, content, score)
            for key, text, content, score in zip(of.key, of.text, of.content, of.score, strict=True)
        ]
        given = [NegText(**negative) for negative in anchor["negatives"]]
        about = {name: anchor[name] for name in ("key", "text", "role", "content")}
        yield Example(task.dataset, task.split, **about, near=near, swapped=mined.swapped, given=given)
