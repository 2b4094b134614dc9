"""Whether a sentence is true of a picture: True, False, or None where the annotations do not say.

What is not annotated is unknown, not false: "a blue car" stays unknown beside any number of red ones, unless
every car has a box. "The car" speaks of an annotated car if there is one, and "the red car" of one that may
be red; so what is said of it can be false. A phrase speaks of its region. A sentence is false where a claim
of it is, and true where all its claims are and it says nothing else.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from data_pipeline.negatives.claims import NUMBERS, Claims, Mention, Word
from data_pipeline.negatives.families import has, may_be_one
from data_pipeline.negatives.scene import SAME_PLACE, Box, Scene, Thing, overlap, stands


class Meant(NamedTuple):
    """Things that a mention may mean, and those that it surely fits."""

    possible: list[Thing]
    sure: list[Thing]
    closed: bool  # nothing that is not annotated can be meant
    holds: bool | None  # whether there is such a thing


def truth(claims: Claims, scene: Scene, about: Box | None = None) -> bool | None:
    """The verdict on all claims of a sentence. about: the box that a phrase describes."""
    if claims.doubtful or not claims.mentions:
        return None
    if about and _denies(claims, about, scene):
        return False
    meant = [_meant(mention, scene) for mention in claims.mentions]
    verdicts = [one.holds for one in meant]
    verdicts += [_side(meant[side.subject], side.relation, meant[side.anchor]) for side in claims.sides]
    return False if False in verdicts else True if claims.whole and all(verdicts) else None


def _meant(mention: Mention, scene: Scene) -> Meant:
    pool = [thing for thing in scene.things if may_be_one(thing.name, mention.name)]
    judged = [(thing, _fits(mention.values, thing)) for thing in pool]
    possible = [thing for thing, fits in judged if fits is not False]
    sure = [thing for thing, fits in judged if fits and thing.name == mention.name and not thing.crowd]
    boxed = mention.name in scene.exhaustive
    spoken_of = mention.definite and any(_fits(mention.restrictors, thing) is not False for thing in pool)
    counted = boxed and not any(thing.crowd for thing in pool)
    holds = _exists(mention, possible, sure, closed=boxed or spoken_of, counted=counted)
    return Meant(possible, sure, boxed or spoken_of, holds)


def _fits(values: Sequence[Word], thing: Thing) -> bool | None:
    return conjunction(has(value.text, thing.attributes) for value in values)


def conjunction(verdicts: Iterable[bool | None]) -> bool | None:
    """All of them: False if one is, True if all are."""
    found = list(verdicts)
    return False if False in found else True if all(found) else None


def _exists(
    mention: Mention, possible: Sequence[Thing], sure: Sequence[Thing], *, closed: bool, counted: bool
) -> bool | None:
    if not possible and closed:
        return False
    if mention.number is None:
        return True if sure else None
    return _enough(len(possible), len(sure), NUMBERS[mention.number.text]) if counted else None


def _enough(possible: int, sure: int, wanted: int) -> bool | None:
    """ "Two" is false of one thing; of three it is neither true nor false."""
    if possible < wanted:
        return False
    return True if possible == sure == wanted else None


def _side(subject: Meant, relation: str, anchor: Meant) -> bool | None:
    pairs = [(a, b) for a in subject.possible for b in anchor.possible if a is not b]
    verdicts = [stands(a, relation, b) for a, b in pairs]
    if any(_both_sure(pair, subject, anchor) for pair, yes in zip(pairs, verdicts, strict=True) if yes):
        return True
    closed = subject.closed and anchor.closed
    return False if closed and verdicts and all(verdict is False for verdict in verdicts) else None


def _both_sure(pair: tuple[Thing, Thing], subject: Meant, anchor: Meant) -> bool:
    return pair[0] in subject.sure and pair[1] in anchor.sure


def _denies(claims: Claims, about: Box, scene: Scene) -> bool:
    """Whether the region of a phrase of one thing shows that thing, and nothing there fits the words."""
    mention = claims.mentions[0]
    if len(claims.mentions) > 1 or mention.plural:
        return False
    shares = [
        (overlap(thing.box, about), _fits(mention.values, thing))
        for thing in scene.things
        if may_be_one(thing.name, mention.name)
    ]
    shown = any(share >= SAME_PLACE for share, _ in shares)
    return shown and all(fits is False for share, fits in shares if share)
