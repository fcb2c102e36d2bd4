"""Why a request to a server was not answered."""


class FaultError(Exception):
    """A request failed; `alone` says that no other request was answered meanwhile."""

    alone = True


class RefusalError(FaultError):
    """The server will not answer this one request: it does not fit, or holds something it cannot take."""

    def __init__(self, words: str, *, status: int = 0, too_long: bool = False, said: str = "") -> None:
        super().__init__(f"{status or ''} {words}".strip())
        self.words, self.status, self.too_long, self.said = words, status, too_long, said


class TroubleError(FaultError):
    """Why a try failed that may succeed next time.

    Attributes:
        pause: seconds that the server asks to wait; None: it does not say.
        silent: there was no answer in time.
        crowded: the server takes no more requests for now, whatever is in them.
    """

    def __init__(
        self, what: str, pause: float | None = None, *, silent: bool = False, crowded: bool = False
    ) -> None:
        super().__init__(what)
        self.pause, self.silent, self.crowded = pause, silent, crowded


class NoAnswerError(Exception):
    """The server answers others, but not this one request, each time for a reason that may pass."""
