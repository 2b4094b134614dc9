"""What is asked about a picture, in GQA's types.

Every answer is balanced given the question's words: attributes are uniform and independent of each other,
the answer is drawn by a fair coin before the words are chosen, and what is asked treats names and values
alike. So whoever does not look at the picture stays at chance.
"""

from collections.abc import Callable

from data_pipeline.demo.choices import choose_attribute, choose_relation
from data_pipeline.demo.open_questions import query_color, query_material, query_name, query_relation
from data_pipeline.demo.question import Question, Random
from data_pipeline.demo.scene import Scene
from data_pipeline.demo.yes_no import (
    compare,
    either_or_both,
    verify_attribute,
    verify_existence,
    verify_relation,
)

# How often each is tried, of all; one that the scene does not allow is passed over. Yes and no: a third.
WEIGHTS: dict[Callable[[Random, Scene], Question | None], int] = {
    query_color: 3,
    query_material: 2,
    query_name: 2,
    query_relation: 4,
    choose_attribute: 2,
    choose_relation: 3,
    verify_attribute: 1,
    verify_relation: 2,
    verify_existence: 1,
    either_or_both: 1,
    compare: 1,
}
RECIPE = tuple(question for question, weight in WEIGHTS.items() for _ in range(weight))


def ask(random: Random, scene: Scene, count: int) -> list[Question]:
    """Up to `count` questions with different words, spread over the types."""
    asked: dict[str, Question] = {}
    for _ in range(12):
        for number in random.permutation(len(RECIPE)).tolist():
            question = RECIPE[number](random, scene)
            if question is not None:
                asked.setdefault(question.text.text, question)
            if len(asked) == count:
                return list(asked.values())
    return list(asked.values())
