"""What calls of models took."""

from dataclasses import astuple, dataclass
from operator import add


@dataclass(frozen=True)
class Usage:
    """What calls took: prompt tokens in all, those read from the prefix cache, new ones, and engine seconds.

    Seconds in which two calls share an engine are counted once.
    """

    prompt: int = 0
    cached: int = 0
    generated: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(*map(add, astuple(self), astuple(other)))
