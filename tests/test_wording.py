"""What says the same is no negative of each other, whatever words it is shown in."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import statements
import synthetic
import torch
from msgspec import structs
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from contract.record import Record
from training.batch import Batch
from training.batching.synonyms import change
from training.batching.wording import ids, word_ids
from training.config import Augment
from training.heads.region_pairs import phrases
from training.objectives.contrast import Vectors, identify, unjudged
from training.objectives.memory_bank import MemoryBank
from training.shards import open_shards
from training.stream import Stream

PICTURES = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The statements of synthetic pictures, whose spans are linked to a box."""
    folder = tmp_path_factory.mktemp("wording")
    synthetic.build(folder, train=PICTURES, val=4, shards=2, change=with_span)
    return folder


def with_span(number: int, record: Record) -> Record:
    record = statements.stated(number, record)
    *asked, text = record.texts
    word = text.text.partition(" ")[0]
    named = structs.replace(text, span_chars=[(0, len(word))], span_tokens=[(0, 1)], span_regions=[[0]])
    return structs.replace(record, texts=[*asked, named])


def stored() -> dict[str, str]:
    """What the statements say, by id."""
    return {f"{number}-where": statements.said(synthetic.picture(number)) for number in range(PICTURES)}


def other_numbers(folder: Path) -> Tokenizer:
    """The tokenizer of the shards, with another number for each word."""
    known = Tokenizer.from_file(str(folder / "data/tokenizer.json"))
    words = sorted(known.get_vocab(), key=known.token_to_id)
    other = Tokenizer(
        WordLevel({word: len(words) - place for place, word in enumerate(words)}, unk_token="[UNK]")
    )
    other.pre_tokenizer = Whitespace()
    return other


def batches(
    folder: Path, vocabulary: str | None, epochs: int = 6, tokenizer: Tokenizer | None = None
) -> Iterator[Batch]:
    shards = open_shards([str(folder / "data")], ["vit"])
    changed = None
    if vocabulary:
        (folder / "things.yaml").write_text(vocabulary)
        changed = change(Augment(synonyms=0.5, vocabulary=str(folder / "things.yaml")), shards.tokenizer, 0)
    yield from Stream(
        shards, ["itc", "region"], batch=8, change=changed, tokenizer=tokenizer, stop=epochs * PICTURES
    )


# "links" is no word of the tokenizer, which reads it as [UNK].
OTHER_WORDS = "objects: {}\ninterchangeable: [[left, links], [right, rechts]]"


def shown(batch: Batch, rows: torch.Tensor) -> list[tuple[int, ...]]:
    return [tuple(batch.tokens[row][batch.token_mask[row]].tolist()) for row in rows.tolist()]


@pytest.mark.parametrize("others", [False, True])
def test_statements_of_the_same_words_are_never_judged_whatever_they_are_shown_as(folder, others):
    """others: a text encoder of transformers, which brings its own tokenizer."""
    wordings: dict[str, set[tuple[int, ...]]] = {}
    for batch in batches(folder, OTHER_WORDS, tokenizer=other_numbers(folder) if others else None):
        rows = batch.rows["itc"]
        said = [stored()[batch.text_id[row]] for row in rows.tolist()]
        of = identify(batch, rows)
        for words, tokens in zip(said, shown(batch, rows), strict=True):
            wordings.setdefault(words, set()).add(tokens)
        owners = {picture: said[row] for row, picture in enumerate(of.text_picture.tolist())}
        same = [[owners.get(picture) == words for picture in range(len(batch.keys))] for words in said]
        assert torch.equal(unjudged(of), torch.tensor(same) | (of.text_group[:, None] == of.group))
    assert max(map(len, wordings.values())) > 1  # they were shown in several


def test_phrases_of_the_same_words_are_told_by_these(folder):
    numbers: dict[str, set[int]] = {}
    unknown = 0
    for batch in batches(folder, OTHER_WORDS):
        found = phrases(batch)
        for text, word in zip(found.text.tolist(), found.words.tolist(), strict=True):
            if batch.text_id[text] in stored():
                numbers.setdefault(stored()[batch.text_id[text]].split()[0], set()).add(word)
                unknown += int(batch.tokens[text, 0]) == synthetic.WORDS.index("[UNK]")
    assert unknown and len(numbers) > 1
    assert all(len(found) == 1 for found in numbers.values())
    assert len(set.union(*numbers.values())) == len(numbers)


def test_what_the_bank_holds_in_other_words_is_not_judged(folder):
    first, second = batches(folder, OTHER_WORDS, epochs=1)
    held, asked = (
        [stored()[batch.text_id[row]] for row in batch.rows["itc"].tolist()] for batch in (first, second)
    )
    bank, kept = MemoryBank(len(held), 2), identify(first, first.rows["itc"])
    bank.enqueue(Vectors(torch.randn(len(held), 2), torch.randn(len(first.keys), 2), kept))
    ignored = bank.more_pictures(identify(second, second.rows["itc"])).ignored
    assert ignored.tolist() == [[words == other for other in held] for words in asked]
    assert ignored.any()


def test_words_that_the_data_has_for_one_thing_are_one(folder):
    (batch, *_) = batches(folder, "objects: {}\ninterchangeable: [[left, right]]")
    said = {stored()[batch.text_id[row]].replace("right", "left") for row in batch.rows["itc"].tolist()}
    assert len(batch.words[batch.rows["itc"]].unique()) == len(said)


def test_without_other_words_a_text_and_a_span_are_known_by_their_tokens(folder):
    for batch in batches(folder, None, epochs=1):
        assert torch.equal(batch.words, word_ids(batch.tokens, batch.token_mask))
        spans = zip(batch.span_text.tolist(), batch.spans.tolist(), strict=True)
        assert torch.equal(
            batch.span_words, ids([batch.tokens[text, start:end].tolist() for text, (start, end) in spans])
        )


def test_a_number_hangs_on_the_tokens_alone():
    alone, beside, turned = ids([[3, 4]]), ids([[3, 4], [1, 2, 3], []]), ids([[4, 3]])
    assert alone == beside[0] != turned and len(beside.unique()) == 3 and len(ids([])) == 0
