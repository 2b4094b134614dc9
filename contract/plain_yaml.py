"""YAML as plain data. Whatever a person or a stranger wrote, it is values or one ParamsError."""

import re
from pathlib import Path
from typing import Any

import yaml

from contract.errors import ParamsError, no_room


class RepeatedKeyError(yaml.MarkedYAMLError):
    """A mapping has a key twice, of which one would silently win."""


class EndlessError(yaml.MarkedYAMLError):
    """A value holds itself."""


class Loader(yaml.SafeLoader):
    """The safe loader, with the floats of YAML 1.2: `1e-3` is a number and not a text; a key stands once."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._open: list[str | None] = []  # anchors of what is being read

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        """An alias is of what has ended."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) and event.anchor in self._open:
            raise EndlessError(problem=f"*{event.anchor} stands inside what it names")
        if isinstance(event, yaml.AliasEvent):
            return super().compose_node(parent, index)
        self._open.append(event.anchor)
        node = super().compose_node(parent, index)
        self._open.pop()
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """The keys before `<<` brings others from elsewhere."""
        node = super().compose_mapping_node(anchor)
        seen = set[object]()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                name = self.construct_object(key)
                if name in seen:
                    raise RepeatedKeyError(problem=key.value, problem_mark=key.start_mark)
                seen.add(name)
        return node


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


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
        return yaml.load(text, Loader)  # noqa: S506 — Loader is a SafeLoader
    except RepeatedKeyError as error:
        problem = f"the key '{error.problem}' stands twice in one mapping"
        raise ParamsError(_line(where, text, error), problem, fix="leave one of them") from None
    except RecursionError:
        raise ParamsError(where, "is nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:  # PyYAML lets a date of a thirteenth month through as that
        raise ParamsError(where, f"is not YAML: {' '.join(str(error).split())}") from None


def _line(where: str, text: str, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark
    return f"{where}, line {mark.line + 1}" if mark and "\n" in text else where
