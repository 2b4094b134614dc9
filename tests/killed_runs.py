"""A run that is killed some steps after so many of its checkpoints are written."""

from collections.abc import Sequence
from typing import Any

import pytest

from training import fit
from training.optimizing import checkpoint


def fit_and_kill(monkeypatch: pytest.MonkeyPatch, command: Sequence[str], after: int = 2) -> None:
    """`fit` until it would save once more."""
    save, saved = checkpoint.save, list[None]()

    def killed(*arguments: Any, **options: Any) -> None:
        if len(saved) == after:
            raise KeyboardInterrupt
        save(*arguments, **options)
        saved.append(None)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(checkpoint, "save", killed)
        fit.main(list(command))
