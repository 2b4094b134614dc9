"""Whether a sentence is true of a picture: True, False, or None where the annotations do not say.

What is not annotated is unknown, not false. A sentence is false where a claim of it is: every thing that
the words may mean is annotated, and with something that excludes the claim. It is true where all its
claims are, and it says nothing else.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from data_pipeline.negatives.claims import NUMBERS, Claims, Mention
from data_pipeline.negatives.families import has, may_be_one
from data_pipeline.negatives.scene import Scene, Thing, stands


class Meant(NamedTuple):
    """Things that a mention may mean, and those that it surely fits."""

    possible: list[Thing]
    sure: list[Thing]
    holds: bool | None  # whether there is such a thing


def truth(claims: Claims, scene: Scene) -> bool | None:
    """The verdict on all claims of a sentence."""
    if claims.doubtful or not claims.mentions:
        return None
    meant = [_meant(mention, scene) for mention in claims.mentions]
    verdicts = [one.holds for one in meant]
    verdicts += [_side(meant[side.subject], side.relation, meant[side.anchor]) for side in claims.sides]
    return False if False in verdicts else True if claims.whole and all(verdicts) else None


def _meant(mention: Mention, scene: Scene) -> Meant:
    pool = [thing for thing in scene.things if may_be_one(thing.name, mention.name)]
    judged = [(thing, _fits(mention, thing)) for thing in pool]
    possible = [thing for thing, fits in judged if fits is not False]
    sure = [thing for thing, fits in judged if fits and thing.name == mention.name and not thing.crowd]
    return Meant(possible, sure, _exists(mention, pool, possible, sure, scene))


def _fits(mention: Mention, thing: Thing) -> bool | None:
    return conjunction(has(value.text, thing.attributes) for value in mention.values)


def conjunction(verdicts: Iterable[bool | None]) -> bool | None:
    """All of them: False if one is, True if all are."""
    found = list(verdicts)
    return False if False in found else True if all(found) else None


def _exists(
    mention: Mention, pool: Sequence[Thing], possible: Sequence[Thing], sure: Sequence[Thing], scene: Scene
) -> bool | None:
    exhaustive = mention.name in scene.exhaustive
    if not possible and (pool or exhaustive):
        return False
    if mention.number is None:
        return True if sure else None
    counted = exhaustive and not any(thing.crowd for thing in pool)
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
    return False if verdicts and all(verdict is False for verdict in verdicts) else None


def _both_sure(pair: tuple[Thing, Thing], subject: Meant, anchor: Meant) -> bool:
    return pair[0] in subject.sure and pair[1] in anchor.sure
