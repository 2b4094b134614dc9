"""A run that is killed once its second checkpoint is written."""

from collections.abc import Sequence
from typing import Any

import pytest

from training import fit
from training.optimizing import checkpoint


def fit_and_kill(monkeypatch: pytest.MonkeyPatch, command: Sequence[str]) -> None:
    """`fit` until it has saved twice."""
    save, saved = checkpoint.save, list[None]()

    def killed(*arguments: Any, **options: Any) -> None:
        save(*arguments, **options)
        saved.append(None)
        if len(saved) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(checkpoint, "save", killed)
        fit.main(list(command))
