"""Augmentation: every change leaves the label true, and none is made outside of training."""

from pathlib import Path

import pytest
import synthetic
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from tokenizers import Tokenizer

from contract.errors import ParamsError
from contract.record import NegText, Record, Text
from data_pipeline.texts import object_names
from training.batching.synonyms import Synonyms, Thing, Vocabulary, change, load
from training.batching.tokenising import tokenised
from training.config import Augment
from training.modules.augmentation import FeatureNoise, TokenDropout
from training.shards import open_shards
from training.stream import Stream

ROOT = Path(__file__).parents[1]
VOCABULARY = ROOT / "data_pipeline/texts/objects.yaml"
TOKENIZER = Tokenizer.from_file(str(ROOT / "data_pipeline/demo/tokenizer.json"))
WORDS = Vocabulary(
    objects={"couch": Thing(kinds=["couch bed"]), "scab": Thing()},
    interchangeable=[["couch", "sofa", "settee"], ["cab", "taxi"], ["airplane", "plane"]],
)
OWN = load(VOCABULARY)  # of the project
masks = st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=6)


def question(text: str, *named: str, answer: str = "yes") -> Text:
    spans = [(text.index(name), text.index(name) + len(name)) for name in named]
    return Text(
        id="q",
        role="question",
        text=text,
        tokens=[],
        span_chars=spans,
        span_tokens=[(0, 1)] * len(spans),
        span_regions=[[number] for number in range(len(spans))],
        answer=answer,
    )


def shown(text: Text, share: float = 1.0, epochs: int = 20, known: Vocabulary = WORDS) -> list[Text]:
    words = Synonyms(known, share, seed=0)
    return [words.exchanged(text, "key", epoch) for epoch in range(epochs)]


def test_a_thing_gets_another_word_and_keeps_its_attribute():
    texts = {text.text for text in shown(question("Is the red couch big?", "red couch"))}
    assert texts == {"Is the red sofa big?", "Is the red settee big?"}


def test_every_span_still_covers_what_it_covered():
    asked = question("Is the red couch left of the old couch or the dog?", "red couch", "old couch", "dog")
    assert all(text.text != asked.text for text in shown(asked))
    for text in shown(asked):
        first, second, third = (text.text[start:end] for start, end in text.span_chars)
        assert (first[:4], second[:4], third) == ("red ", "old ", "dog")
        assert first[4:] == second[4:]  # a thing that is named twice gets one word
        assert text.span_regions == asked.span_regions


@pytest.mark.parametrize("answer", ["couch", "sofa", "Settee"])
def test_the_thing_that_is_the_answer_keeps_its_word(answer):
    asked = question("Is it the couch or the cab?", "couch", "cab", answer=answer)
    assert all("the couch or" in text.text for text in shown(asked))
    assert any("taxi" in text.text for text in shown(asked))


def test_an_article_still_fits():
    assert {text.text for text in shown(question("Is it an airplane?", "airplane"))} == {"Is it an airplane?"}
    assert any("a taxi" in text.text for text in shown(question("Is it a cab?", "cab")))


@pytest.mark.parametrize(
    "text, spans",
    [
        ("Is the couch-bed red?", ["couch-bed"]),
        ("Is the scab red?", ["scab"]),
        ("Is it a couch bed?", ["couch bed"]),  # a thing of its own in the vocabulary
        ("Is the sofa left of the couch?", ["sofa", "couch"]),  # which would become one wording
        ("What is the couch made of? Is the couch red?", ["couch"]),  # the second is in no span
    ],
)
def test_a_thing_keeps_its_word_where_another_would_say_something_else(text, spans):
    assert {found.text for found in shown(question(text, *spans))} == {text}


@pytest.mark.parametrize(
    "text, named, answer",
    [
        ("What kind of bike is it?", "bike", "motorcycle"),
        ("Is the bike a motorcycle?", "bike", "yes"),
        ("What color is the subway car?", "subway car", "red"),
        ("What color is the cable car?", "cable car", "red"),
        ("Is the first car of the train red?", "first car", "no"),
        ("Is the dust bunny gray?", "dust bunny", "yes"),
        ("Is there a red panda?", "red panda", "yes"),
        ("Is the phone a cell phone?", "phone", "yes"),
        ("Is the phone a cell phone?", "cell phone", "yes"),
        ("What is the phone?", "phone", "cell phone"),
        ("What is the sofa made of?", "sofa", "couches"),
        ("Is the sofa left of the couches?", "sofa", "yes"),
        ("Which vehicle is the taxi?", "taxi", "left one"),
    ],
)
def test_nothing_is_exchanged_that_would_change_what_is_said(text, named, answer):
    assert {found.text for found in shown(question(text, named, answer=answer), known=OWN)} == {text}


@pytest.mark.parametrize(
    "text, named, other",
    [
        ("Is the phone on the table?", "phone", "Is the telephone on the table?"),
        ("Is the couch left of the chair?", "couch", "Is the sofa left of the chair?"),
        ("Who holds the tennis racket?", "tennis racket", "Who holds the tennis racquet?"),
    ],
)
def test_what_says_the_same_is_exchanged_beside_other_things(text, named, other):
    assert {found.text for found in shown(question(text, named), known=OWN)} == {other}


@pytest.mark.parametrize("text", ["the red Couch", "the red sofa", "the red settee"])
def test_texts_that_differ_in_such_words_alone_are_one_plain_text(text):
    for named in ((), (text[4:],)):
        plain = Synonyms(WORDS, 1.0, seed=0).plain(question(text, *named))
        assert plain.text == "the red couch"
        assert [plain.text[start:end] for start, end in plain.span_chars] == ["red couch"] * len(named)


def test_of_a_word_that_a_span_cuts_nothing_becomes_plain():
    asked = question("the cell phones", "the cell")
    assert Synonyms(OWN, 1.0, seed=0).plain(asked) is asked
    cut = question("a mobile phone", "a mobile")
    assert Synonyms(OWN, 1.0, seed=0).plain(cut) is cut


def test_words_outside_of_spans_stay():
    assert {text.text for text in shown(question("Is the couch red?"))} == {"Is the couch red?"}


def test_no_share_changes_nothing_and_equal_parts_draw_equal_words():
    asked = question("Is the couch left of the cab?", "couch", "cab")
    assert all(text is asked for text in shown(asked, share=0.0))
    assert shown(asked, 0.5) == shown(asked, 0.5)


def test_the_vocabulary_of_the_project_is_read_and_another_file_is_named():
    vocabulary = load(VOCABULARY)
    assert ["couch", "sofa"] in vocabulary.interchangeable
    known = object_names.load()
    for group in vocabulary.interchangeable:
        assert len({known.forms[object_names.form(word)] for word in group}) == 1, group
    with pytest.raises(ParamsError, match="no such file"):
        load(Path("nowhere.yaml"))


def test_tokens_and_token_spans_are_those_of_the_new_characters():
    asked = question("Is the small cube yellow or cyan?", "small cube")
    made = tokenised(asked, TOKENIZER)
    encoding = TOKENIZER.encode(asked.text, add_special_tokens=False)
    assert made.tokens == encoding.ids
    ((start, end),) = made.span_tokens
    assert encoding.tokens[start:end] == ["small", "cube"]


@given(masks, st.floats(0, 0.99), st.integers(0, 99))
def test_dropout_hides_only_what_was_visible_and_never_all_of_a_picture(rows, share, seed):
    visible = torch.tensor(rows)
    torch.manual_seed(seed)
    kept = TokenDropout(share, cls=False)(visible)
    assert not (kept & ~visible).any()
    assert torch.equal(kept.any(1), visible.any(1))


@given(masks)
def test_dropout_spares_cls(rows):
    visible = torch.tensor(rows)
    assert torch.equal(TokenDropout(0.9, cls=True)(visible)[:, 0], visible[:, 0])


def test_dropout_and_noise_are_as_strong_as_they_say():
    torch.manual_seed(0)
    kept = TokenDropout(0.3, cls=False)(torch.ones(400, 50, dtype=torch.bool))
    assert abs(kept.float().mean() - 0.7) < 0.01
    noise = FeatureNoise(0.5)(torch.zeros(400, 50, 4))
    assert abs(noise.std() - 0.5) < 0.01


@pytest.mark.parametrize(
    "module, given",
    [(TokenDropout(0.9, cls=False), torch.ones(9, 9).bool()), (FeatureNoise(0.9), torch.ones(9, 9, 9))],
)
def test_outside_of_training_nothing_changes(module, given):
    assert module.eval()(given) is given


def test_a_stream_shows_the_other_words_from_any_start(tmp_path):
    synthetic.build(tmp_path, train=16, val=4, shards=2)
    vocabulary = tmp_path / "things.yaml"
    vocabulary.write_text("objects: {}\ninterchangeable: [[left, top]]")
    shards = open_shards([str(tmp_path / "data")], ["vit"])
    settings = Augment(synonyms=1.0, vocabulary=str(vocabulary))

    def words(position: int) -> list[tuple[str, str]]:
        stream = Stream(
            shards, ["vqa"], batch=4, change=change(settings, shards.tokenizer, 0), position=position, stop=16
        )
        return [
            (" ".join(synthetic.WORDS[token] for token in tokens), shards.answers[answer])
            for batch in stream
            for tokens, answer in zip(batch.tokens.tolist(), batch.answer.tolist(), strict=True)
        ]

    shown = set(words(0))
    assert ("top or right ?", "right") in shown and ("left or right ?", "left") in shown
    assert words(8) == words(0)[16:]


def test_a_text_with_false_ones_beside_it_keeps_its_words(tmp_path):
    """Else the word would tell the true text from its negatives."""

    def with_negative(_number: int, record: Record) -> Record:
        false = NegText("left", [synthetic.WORDS.index("left")], "given")
        texts = [structs.replace(text, negatives=[false]) for text in record.texts]
        return structs.replace(record, texts=texts)

    synthetic.build(tmp_path, train=8, val=4, shards=2, change=with_negative)
    vocabulary = tmp_path / "things.yaml"
    vocabulary.write_text("objects: {}\ninterchangeable: [[left, top]]")
    shards = open_shards([str(tmp_path / "data")], ["vit"])
    settings = Augment(synonyms=1.0, vocabulary=str(vocabulary))
    stream = Stream(shards, ["vqa"], batch=4, change=change(settings, shards.tokenizer, 0), stop=8)
    assert {synthetic.WORDS[row[0]] for batch in stream for row in batch.tokens.tolist()} == {"left", "top"}
    assert stream.planner.reworded == 0
