"""YAML as plain data: texts, numbers, true and false, nothing, lists and mappings.

Whatever a person or a stranger wrote, it is such values or one ParamsError. Tags are refused (a value is of
the kind that it looks like), a date is the text that it was written as, and what `*` names is a copy.
"""

import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from contract.errors import ParamsError, no_room

TAGS = "tag:yaml.org,2002:"
TEXT, BOOL, NULL, INT, FLOAT, MERGE = (
    TAGS + kind for kind in ("str", "bool", "null", "int", "float", "merge")
)
CORE = {  # schema of YAML 1.2, with `_` after a digit and `0b`, as DVC: what is no text, by first letters
    BOOL: (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    INT: (
        r"[-+]?([0-9][0-9_]*|0b[01][01_]*|0o[0-7][0-7_]*|0x[0-9a-fA-F][0-9a-fA-F_]*)",
        "-+0123456789",
    ),
    FLOAT: (
        r"(?=.*[.eE])[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
}
BASES = {"0b": 2, "0o": 8, "0x": 16}
LONGEST = 4_000_000  # characters
MOST = 1_000_000  # values, those counted again that `*` names again
DEEPEST = 100  # lists and mappings in each other
BITS = 1000  # of a whole number: what is larger no float holds, and Python may not even print
SHOWN = 40  # characters of a number that an error names
MERGING = "write '<<: *name' to take the keys of a mapping; put a text into quotes"


class Loader(yaml.SafeLoader):
    """The safe loader, by YAML 1.2: `1e-3` is a number, `on`, `1:30` and a date are texts; a key stands once.

    where: what an error names, with the line if there are several.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 a copy, as PyYAML makes one
        first: [(tag, pattern) for tag, pattern in resolvers if tag in (NULL, MERGE)]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str, where: str) -> None:
        super().__init__(text)
        self._where, self._has_lines = where, "\n" in text
        self._open: list[str | None] = []  # anchors of what is being read
        self._merged = 0  # keys that were brought from elsewhere

    def refusal(self, at: Any, problem: str, fix: str, **more: object) -> ParamsError:
        """Of what YAML allows and a file of settings is better without. at: a node or an event."""
        place = f"{self._where}, line {at.start_mark.line + 1}" if self._has_lines else self._where
        return ParamsError(place, problem, fix=fix, **more)

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        """A key is one value, and `<<` stands nowhere else."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        alias = isinstance(event, yaml.AliasEvent)
        node = self._named(event, parent, index) if alias else self._untagged(event, parent, index)
        is_key = isinstance(parent, yaml.MappingNode) and index is None
        if is_key and not isinstance(node, yaml.ScalarNode):
            fix = "write a text or a number; put one with braces into quotes"
            raise self.refusal(event, "a list or a mapping is a key", fix)
        if not is_key and isinstance(node, yaml.ScalarNode) and node.tag == MERGE:
            raise self.refusal(event, "'<<' stands in the place of a value", MERGING)
        return node

    def _named(self, event: Any, parent: Any, index: Any) -> yaml.Node | None:
        """An alias is of what has ended. A value stands where it is named, so that errors name this line."""
        if event.anchor in self._open:
            raise self.refusal(event, f"*{event.anchor} stands inside what it names", "take it out")
        node = super().compose_node(parent, index)
        if isinstance(node, yaml.ScalarNode):
            return yaml.ScalarNode(node.tag, node.value, event.start_mark, event.end_mark)
        return node

    def _untagged(self, event: Any, parent: Any, index: Any) -> yaml.Node | None:
        """Anything else, without a tag."""
        if event.tag is not None:
            fix = "put the text into quotes" if event.tag in (TEXT, "!") else "leave it out"
            raise self.refusal(event, f"the tag {event.tag.replace(TAGS, '!!')} is not taken", fix)
        self._open.append(event.anchor)
        node = super().compose_node(parent, index)
        self._open.pop()
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """The keys before `<<` brings others from elsewhere."""
        node = super().compose_mapping_node(anchor)
        seen = dict[object, str]()
        for key, value in node.value:
            if key.tag == MERGE:
                self._check_merge(key, value)
                continue
            name = self.construct_object(key)
            if name in seen:
                raise self._repeated(seen[name], key)
            seen[name] = key.value
        return node

    def _check_merge(self, key: yaml.ScalarNode, value: yaml.Node) -> None:
        of = value.value if isinstance(value, yaml.SequenceNode) else [value]
        if not all(isinstance(one, yaml.MappingNode) for one in of):
            raise self.refusal(key, "'<<' is given no mapping", MERGING)

    def _repeated(self, before: str, key: yaml.ScalarNode) -> ParamsError:
        if before == key.value:
            return self.refusal(key, f"the key '{before}' stands twice in one mapping", "leave one of them")
        problem = f"the keys '{before}' and '{key.value}' are one to Python, and stand in one mapping"
        return self.refusal(key, problem, "leave one of them, or put one into quotes")

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """What `<<` brings, each key once: PyYAML keeps all, twice as many with each that merges two."""
        own = sum(key.tag != MERGE for key, _ in node.value)
        super().flatten_mapping(node)
        self._merged += len(node.value) - own
        if self._merged > MOST:
            raise _too_many(self._where)
        node.value = list({(key.tag, key.value): (key, value) for key, value in node.value}.values())

    def whole_number(self, node: yaml.ScalarNode) -> int:
        """Python does not read thousands of digits."""
        try:
            digits = node.value.replace("_", "")
            number = int(digits, BASES.get(digits.lstrip("+-")[:2], 10))
        except ValueError:
            number = 1 << BITS
        if number.bit_length() > BITS:
            raise self.refusal(
                node,
                "holds a whole number that cannot be used",
                found=node.value if len(node.value) <= SHOWN else f"{node.value[:SHOWN]}…",
                expected=f"at most {BITS} bits",
                fix="a smaller number; put a text into quotes",
            )
        return number


Loader.add_constructor(INT, Loader.whole_number)
for kind, (pattern, begins) in CORE.items():
    Loader.add_implicit_resolver(kind, re.compile(f"^(?:{pattern})$"), list(begins))


def read(path: Path) -> dict[str, Any]:
    """The mapping that a file holds."""
    try:
        content = parse(path.read_text("utf8"), str(path))
    except FileNotFoundError:
        raise ParamsError(
            path, "no such file", fix="run from the project's folder, or name it by --params"
        ) from None
    except OSError as error:
        raise no_room(path, error) or ParamsError(path, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ParamsError(path, f"is not YAML: {error}") from None
    if not isinstance(content, dict):
        raise ParamsError(path, "does not hold a mapping", found=type(content).__name__)
    return content


def parse(text: str, where: str) -> Any:
    """Values of plain kinds. where: what an error names."""
    if len(text) > LONGEST:
        raise ParamsError(
            where,
            "is too long",
            found=f"{len(text):,} characters",
            expected=f"at most {LONGEST:,}",
            fix="write less, or name another file",
        )
    try:
        return _apart(Loader(text, where).get_single_data(), count(1), where)
    except RecursionError:
        raise _too_deep(where) from None
    except (yaml.YAMLError, ValueError, ArithmeticError) as error:  # `"\UFFFFFFFF"` is no letter to Python
        raise _no_yaml(error, where, several="\n" in text) from None


def _no_yaml(error: Exception, where: str, several: bool) -> ParamsError:
    """several: lines, of which one is named."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return ParamsError(where, f"is not YAML: {' '.join(str(error).split())}")
    at, fix = error.problem_mark, "close what is open; put a text with signs such as : @ , into quotes"
    place, began = f"{where}, line {at.line + 1}" if several else where, error.context_mark
    since = f"; what is open began in line {began.line + 1}" if began and began.line != at.line else ""
    return ParamsError(place, f"is not YAML: {error.problem}, at column {at.column + 1}{since}", fix=fix)


def _apart(value: Any, seen: Iterator[int], where: str, depth: int = 1) -> Any:
    """The same without shared parts, so that to change one place changes no other."""
    if next(seen) > MOST:
        raise _too_many(where)
    if isinstance(value, dict | list) and depth > DEEPEST:
        raise _too_deep(where)
    if isinstance(value, dict):
        return {_sound(key, where): _apart(inner, seen, where, depth + 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [_apart(inner, seen, where, depth + 1) for inner in value]
    return _sound(value, where)


def _sound(value: Any, where: str) -> Any:
    """A value that can be written."""
    if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ParamsError(where, "holds half of a character", found=ascii(value), fix="write all of it")
    return value


def _too_many(where: str) -> ParamsError:
    expected = f"at most {MOST:,}, those that `*` names counted each time"
    return ParamsError(
        where, "holds too many values", expected=expected, fix="name less again, or write less"
    )


def _too_deep(where: str) -> ParamsError:
    expected = f"at most {DEEPEST} lists and mappings in each other"
    return ParamsError(where, "is nested too deeply", expected=expected, fix="write it in fewer levels")
