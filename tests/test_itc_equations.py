"""The contrast of itc as BLIP and MoCo write it: keys, a teacher, earlier vectors, one number at a time.

Legend: T texts, P pictures.
"""

import math
from collections.abc import Callable

import pytest
import torch
from msgspec import Struct
from naive import naive_mean, naive_row
from torch import Tensor
from torch.nn.functional import normalize

from training.config import Bank, Itc
from training.heads.itc import ItcHead
from training.objectives.contrast import Contrasted, Identity, Vectors

WIDTH, SLOTS, SCALE, ALPHA, BIAS = 6, 7, 8.0, 0.4, -2.5


class Text(Struct):
    """A key of a text: its vector, its picture's group, its words."""

    vector: Tensor
    group: int
    words: int


class Picture(Struct):
    """A key of a picture: its vector, its group, the words of its texts."""

    vector: Tensor
    group: int
    words: set[int]


def drawn(seed: int, texts: int, pictures: int) -> Contrasted:
    """Keys that are not the online vectors; copies of pictures, words said twice, pictures without a text."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(low: int, high: int, count: int) -> Tensor:
        return torch.randint(low, high, (count,), generator=generator)

    of = Identity(numbers(0, pictures, texts), numbers(1, 12, pictures), numbers(6, 18, texts))
    online, keys = (
        Vectors(*(normalize(torch.randn(n, WIDTH, generator=generator)) for n in (texts, pictures)), of)
        for _ in range(2)
    )
    return Contrasted(online, keys, torch.tensor(SCALE))


def texts_of(side: Vectors) -> list[Text]:
    of = side.identity
    return [
        Text(vector, int(of.group[owner]), words)
        for vector, owner, words in zip(
            side.text.double(), of.text_picture.tolist(), of.words.tolist(), strict=True
        )
    ]


def pictures_of(side: Vectors) -> list[Picture]:
    of = side.identity
    said = [set(of.words[of.text_picture == row].tolist()) for row in range(len(of.group))]
    return [Picture(*row) for row in zip(side.picture.double(), of.group.tolist(), said, strict=True)]


def softmax_row(asked: list[float], told: list[float], own: list[bool], left_out: list[bool]) -> float:
    """Of the target α · softmax(teacher's scores) + (1 − α) · even over the positives."""
    mass = sum(math.exp(s) for s, skip in zip(told, left_out, strict=True) if not skip)
    target = [
        0.0 if skip else ALPHA * math.exp(s) / mass + (1 - ALPHA) * hit / max(1, sum(own))
        for s, hit, skip in zip(told, own, left_out, strict=True)
    ]
    return naive_row(asked, target, left_out)


def sigmoid_row(asked: list[float], told: list[float], own: list[bool], left_out: list[bool]) -> float:
    """−Σ log σ(z · (score + bias)), z = 1 for a positive and −1 for any other (SigLIP)."""
    return sum(
        math.log(1 + math.exp(-(1 if hit else -1) * (score + BIAS)))
        for score, hit, skip in zip(asked, own, left_out, strict=True)
        if not skip
    )


def naive_side(asked, taught, columns, positive: Callable, true: Callable, of_row: Callable) -> float:
    """positive(row, column), true(row, column): by place; a true one that is no positive does not count.
    of_row: the loss of one that has a positive.
    """
    losses = []
    for row, (query, teacher) in enumerate(zip(asked, taught, strict=True)):
        own = [positive(row, column) for column in range(len(columns))]
        left_out = [true(row, column) and not own[column] for column in range(len(columns))]
        scores, told = ([SCALE * float(of.vector @ one.vector) for one in columns] for of in (query, teacher))
        losses.append(of_row(scores, told, own, left_out) if any(own) else None)
    return naive_mean(losses)


def naive_loss(
    found: Contrasted, earlier_texts: list[Text], earlier_pictures: list[Picture], of_row: Callable
) -> float:
    """½ (texts → pictures + pictures → texts) against the keys of the batch and of earlier ones."""
    owner = found.online.identity.text_picture.tolist()
    texts, pictures = texts_of(found.keys), pictures_of(found.keys)
    more_texts, more_pictures = texts + earlier_texts, pictures + earlier_pictures

    def names(text: Text, picture: Picture, copies: list[Picture]) -> bool:
        """It is of a copy of the picture, or its words are said of the picture or of one of these copies."""
        said = set().union(picture.words, *(copy.words for copy in copies if copy.group == picture.group))
        return text.group == picture.group or text.words in said

    there = naive_side(
        texts_of(found.online),
        texts,
        more_pictures,
        lambda t, p: owner[t] == p,
        lambda t, p: names(texts[t], more_pictures[p], earlier_pictures if p >= len(pictures) else []),
        of_row,
    )
    back = naive_side(
        pictures_of(found.online),
        pictures,
        more_texts,
        lambda p, t: t < len(texts) and owner[t] == p,
        lambda p, t: names(more_texts[t], pictures[p], []),
        of_row,
    )
    return (there + back) / 2


TAUGHT, APART = {"alpha": ALPHA, "alpha_ramp": 1}, {"loss": "sigmoid"}


@pytest.mark.parametrize(("options", "of_row"), [(TAUGHT, softmax_row), (APART, sigmoid_row)])
@pytest.mark.parametrize("seed", range(6))
def test_the_loss_is_the_naive_loop_over_keys_teacher_and_bank(seed, options, of_row):
    head = ItcHead(8, True, Itc(width=WIDTH, bank=Bank(SLOTS), momentum=0.9, **options))
    head.train().step = 1
    texts, pictures = list[Text](), list[Picture]()
    for step, (t, p) in enumerate([(3, 5), (6, 4), (4, 4), (5, 2)]):
        found = drawn(10 * seed + step, t, p)
        found.bias = None if head.bias is None else torch.tensor(BIAS)
        wanted = naive_loss(found, texts, pictures, of_row)
        assert head.contrast(found).loss.item() == pytest.approx(wanted, rel=1e-5)
        texts = (texts + texts_of(found.keys))[-SLOTS:]
        pictures = (pictures + [one for one in pictures_of(found.keys) if one.words])[-SLOTS:]


def test_one_text_a_picture_and_a_sigmoid_is_siglip():
    """−1/n ΣΣ log σ(z · (t·x + b)), with z = 1 on the diagonal."""
    generator = torch.Generator().manual_seed(0)
    x, y = (normalize(torch.randn(5, WIDTH, generator=generator)) for _ in range(2))
    rows = torch.arange(5)
    made = Vectors(x, y, Identity(rows, rows, rows))
    head = ItcHead(8, True, Itc(width=WIDTH, loss="sigmoid", bias=-10.0))
    signs = 2 * torch.eye(5) - 1
    wanted = -torch.nn.functional.logsigmoid(signs * (10 * x @ y.T + head.bias)).sum() / 5
    found = head.contrast(Contrasted(made, made, torch.tensor(10.0), head.bias)).loss
    torch.testing.assert_close(found, wanted)
    found.backward()
    assert head.bias.item() == -10 and head.bias.grad
