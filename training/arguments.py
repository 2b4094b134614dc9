"""What options of several commands may be."""

from argparse import ArgumentTypeError
from pathlib import Path


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"'{text}' is no number of 1 or more")
    return int(text)


def folder(text: str) -> Path:
    """A folder that is named. An empty name, as of an unset variable, would be the working folder."""
    if not text:
        raise ArgumentTypeError("is empty, and names no folder")
    return Path(text)
