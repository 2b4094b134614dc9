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

MERGE, DATE = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:timestamp"
MOST = 1_000_000  # values, those counted again that `*` names again
BITS = 1000  # of a whole number: what is larger no float holds, and Python may not even print


class RefusedError(yaml.MarkedYAMLError):
    """What YAML allows and a file of settings is better without. note: the fix."""


class Loader(yaml.SafeLoader):
    """The safe loader, with the floats of YAML 1.2: `1e-3` and `-.5` are no texts; a key stands once."""

    yaml_implicit_resolvers = {  # noqa: RUF012 a copy, as PyYAML makes one
        first: [(tag, pattern) for tag, pattern in resolvers if tag != DATE]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._open: list[str | None] = []  # anchors of what is being read

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        """An alias is of what has ended, and nothing has a tag."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self._open:
                raise _refused(event, f"*{event.anchor} stands inside what it names", "write it out")
            return super().compose_node(parent, index)
        if event.tag is not None:
            raise _refused(event, f"the tag {event.tag} is not taken", "leave it out")
        self._open.append(event.anchor)
        node = super().compose_node(parent, index)
        self._open.pop()
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """What `<<` brings, each key once: PyYAML keeps all, twice as many with each that merges two."""
        super().flatten_mapping(node)
        last = {_name(key): (key, value) for key, value in node.value}
        node.value = list(last.values())

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """The keys before `<<` brings others from elsewhere."""
        node = super().compose_mapping_node(anchor)
        seen = set[object]()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
                name = self.construct_object(key)
                if name in seen:
                    problem = f"the key '{key.value}' stands twice in one mapping"
                    raise _refused(key, problem, "leave one of them")
                seen.add(name)
        return node


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^(?=.*[.eE])[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)


def _name(key: yaml.Node) -> object:
    """By which two keys of a mapping are the same."""
    return (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)


def _refused(where: Any, problem: str, fix: str) -> RefusedError:
    return RefusedError(problem=problem, problem_mark=where.start_mark, note=fix)


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
    try:
        return _apart(yaml.load(text, Loader), count(), where)  # noqa: S506 — Loader is a SafeLoader
    except RefusedError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        place = f"{where}, line {line}" if "\n" in text else where
        raise ParamsError(place, str(error.problem), fix=error.note) from None
    except RecursionError:
        raise ParamsError(where, "is nested too deeply") from None
    except (yaml.YAMLError, ValueError, ArithmeticError) as error:  # `0x_` looks like a number to PyYAML
        raise ParamsError(where, f"is not YAML: {' '.join(str(error).split())}") from None


def _apart(value: Any, seen: Iterator[int], where: str) -> Any:
    """The same without shared parts, so that to change one place changes no other."""
    if next(seen) > MOST:
        raise ParamsError(where, "holds too many values", expected=f"at most {MOST:,}")
    if isinstance(value, dict):
        return {_sound(key, where): _apart(inner, seen, where) for key, inner in value.items()}
    if isinstance(value, list):
        return [_apart(inner, seen, where) for inner in value]
    return _sound(value, where)


def _sound(value: Any, where: str) -> Any:
    """A value that can be written and printed."""
    if isinstance(value, int) and value.bit_length() > BITS:
        raise ParamsError(where, "holds too large a whole number", expected=f"at most 2^{BITS}")
    if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ParamsError(where, "holds half of a character", found=ascii(value), fix="write all of it")
    return value
