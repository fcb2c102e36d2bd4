"""What calls of models took."""

from dataclasses import dataclass


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
        return Usage(
            self.prompt + other.prompt,
            self.cached + other.cached,
            self.generated + other.generated,
            self.seconds + other.seconds,
        )
