"""What excludes what: values of one attribute, and names of things that nothing bears together.

Only what leaves little doubt stands here: a swap is made where one entry gives way to another of its
family, and a word that is missing is never swapped.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache

# family → groups of values. Values of one group are not told apart; a thing that has a value of one group
# is taken not to have one of another.
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "colour": (
        "red maroon crimson",
        "pink purple violet magenta lavender",
        "blue navy cyan turquoise teal",
        "green olive",
        "yellow gold golden blond blonde",
        "orange",
        "brown tan beige",
        "black",
        "white cream",
        "gray grey silver",
    ),
    "size": ("small little tiny", "large big huge giant"),
    "length": ("long", "short"),
    "material": (
        "metal metallic steel iron aluminum",
        "wood wooden",
        "rubber",
        "plastic",
        "glass",
        "leather",
        "concrete cement stone",
        "paper cardboard",
    ),
    "surface": ("wet", "dry"),
    "contents": ("full", "empty"),
    "care": ("clean", "dirty"),
    "opening": ("open", "closed shut"),
    "age": ("young", "old elderly"),
    "pose": ("sitting seated", "standing", "lying"),
    "pattern": ("striped", "plaid checkered", "floral"),
}

# Names of one group may stand for one thing: "man" for what the annotator called a person. Two kinds of one
# hypernym are two groups.
KIN: tuple[str, ...] = (
    "person man woman boy girl child kid baby toddler lady guy gentleman people player skier surfer rider",
    "car vehicle automobile van taxi cab suv truck pickup jeep",
    "bus vehicle coach",
    "bicycle bike cycle vehicle",
    "motorcycle motorbike bike scooter moped vehicle",
    "airplane plane aeroplane aircraft jet airliner vehicle",
    "boat ship sailboat canoe kayak ferry yacht vessel vehicle",
    "train locomotive tram vehicle",
    "dog puppy animal",
    "cat kitten animal",
    "horse pony foal animal",
    "cow bull calf cattle ox animal",
    "sheep lamb goat animal",
    "bird duck goose pigeon parrot seagull chicken animal",
    "elephant animal",
    "zebra animal",
    "giraffe animal",
    "bear animal",
    "couch sofa loveseat furniture seat",
    "chair stool armchair furniture seat",
    "bench furniture seat",
    "table desk counter furniture",
    "bed furniture",
    "cup mug glass",
    "television tv monitor screen display",
    "laptop computer notebook screen",
    "phone cellphone telephone smartphone",
    "orange fruit",
    "apple fruit",
    "banana fruit",
    "pizza food",
    "sandwich food",
    "cake food",
    "donut food",
    "ball sphere football basketball",
    "tree bush plant palm pine",
    "sign board plate",
    "hat cap helmet",
    "shirt t-shirt jersey top blouse jacket coat sweater",
    "pants jeans trousers shorts",
)

# Names of one family that no thing bears together.
NAMES: tuple[str, ...] = (
    "dog cat horse cow sheep bird elephant zebra giraffe bear",
    "car bus train bicycle airplane boat motorcycle",
    "chair table bed couch bench",
    "cup bottle bowl plate fork knife spoon",
    "apple banana orange carrot broccoli",
    "pizza sandwich cake donut",
    "laptop television phone keyboard mouse",
    "shirt pants hat shoe glove",
    "tree building sign fence bridge",
    "cube ball cone star ring heart",
)


def _by_word(groups: Iterable[str]) -> dict[str, frozenset[int]]:
    """Word → numbers of the groups that hold it."""
    found: dict[str, frozenset[int]] = {}
    for number, group in enumerate(groups):
        for word in group.split():
            found[word] = found.get(word, frozenset()) | {number}
    return found


_KIN, _NAMES = _by_word(KIN), _by_word(NAMES)
_VALUES: Mapping[str, tuple[str, int]] = {
    value: (family, number)
    for family, groups in ATTRIBUTES.items()
    for number, group in enumerate(groups)
    for value in group.split()
}


def is_value(word: str) -> bool:
    """Whether it is an attribute's value."""
    return word in _VALUES


@lru_cache(maxsize=1 << 16)
def has(value: str, attributes: frozenset[str]) -> bool | None:
    """Whether a thing with these attributes has the value; None where they do not say."""
    family, group = _VALUES[value]
    groups = {_VALUES[known][1] for known in attributes if known in _VALUES and _VALUES[known][0] == family}
    if value in attributes:
        return True
    return False if groups and group not in groups else None


def other_values(value: str, known: Iterable[str]) -> list[str]:
    """Values among `known` of the same family and of another group."""
    family, group = _VALUES[value]
    return [word for word in known if word in _VALUES and _other(_VALUES[word], family, group)]


def _other(place: tuple[str, int], family: str, group: int) -> bool:
    return place[0] == family and place[1] != group


@lru_cache(maxsize=1 << 16)
def may_be_one(first: str, second: str) -> bool:
    """Whether two names may stand for one thing: equal, of one head ("fire truck", "truck"), or kin."""
    a, b = first.split()[-1], second.split()[-1]
    return a == b or bool(_KIN.get(a, frozenset()) & _KIN.get(b, frozenset()))


def other_names(name: str, known: Iterable[str]) -> list[str]:
    """Names among `known` that nothing bears together with this one."""
    families = _NAMES.get(name, frozenset())
    return [
        word
        for word in known
        if word != name and families & _NAMES.get(word, frozenset()) and not may_be_one(word, name)
    ]
