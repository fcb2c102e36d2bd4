"""Answers of models that a benchmark keeps, so that the same command goes on where it stopped."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


class Kept:
    """Answers by group and item, in a JSON file that is written after each new one, until time is up."""

    def __init__(self, path: Path, ends: float) -> None:
        self._path, self._ends = path, ends
        self._answers: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}

    def get(self, group: str, items: list[str], ask: Callable[[list[str]], Sequence[Any]]) -> dict[str, Any]:
        """Return the answers to items: what is kept, and what is answered now to the others.

        Raises:
            TimeoutError: time is up.
        """
        known = self._answers.setdefault(group, {})
        if missing := [item for item in items if item not in known]:
            self.check_time()
            known.update(zip(missing, ask(missing), strict=True))
            draft = self._path.with_suffix(".part")
            draft.write_text(json.dumps(self._answers))
            draft.replace(self._path)  # whole, whenever the process ends
        return {item: known[item] for item in items}

    def check_time(self) -> None:
        """Raise TimeoutError if time is up."""
        if time.monotonic() > self._ends:
            raise TimeoutError
