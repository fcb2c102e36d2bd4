"""Every error that this package raises on purpose.

    HypsaeError            exit code 1
    |-- UsageError         exit code 2: the user can mend it; a retry without a change fails again
    |   |-- ConfigError    a config file, key, value or combination of values
    |   `-- InputError     a data file: names the file, the column and the first bad rows
    |       `-- RefusedTextError  a text that a server refuses to embed
    |-- ModelError         a model could not be found, loaded or called
    |   |-- EngineDiedError  a loaded model broke down; one that is loaded anew may work
    |   `-- TransientError a call failed for now: a server that is busy, silent or talks nonsense
    `-- StageError         a stage could not produce its result; a retry may help, finished shards are kept
        `-- PartialResultError  exit code 3: all is done and written, but part of it has no value: shards that
                                failed each time, or each hypothesis for want of labels

Each one carries a single message, so each survives pickling between Ray processes. What is secret in a URI is
left out of it, whoever wrote the URI into it: a user, pyarrow, or a server.
"""

from typing import Any, Self

from hypsae_ray.secrets import without_secrets


class HypsaeError(Exception):
    """Base of all errors of this package; `exit_code` is what the command line ends with."""

    exit_code = 1

    def __init__(self, message: object = "") -> None:
        super().__init__(without_secrets(str(message)))


class UsageError(HypsaeError):
    """Something that the user wrote must change before another try can succeed."""

    exit_code = 2


class ConfigError(UsageError):
    """A config file cannot be read, or holds an unknown key, a bad value or an impossible combination."""


class InputError(UsageError):
    """A data file cannot be read, or rows of it cannot be used."""


class RefusedTextError(InputError):
    """A server refuses to embed a text; `position` is that among the texts of a call."""

    position = 0

    def at(self, position: int) -> Self:
        """Return this error for a text at another position."""
        error = type(self)(*self.args)
        error.position = position
        return error


class ModelError(HypsaeError):
    """A model is missing, does not load, or fails on every call.

    `answered` holds the `models.protocols.Annotations` that a call had before it failed; None: none.
    """

    answered: Any = None

    def after(self, answered: Any) -> Self:
        """Return this error with what was answered before it."""
        error = type(self)(*self.args)
        error.answered = answered
        return error


class EngineDiedError(ModelError):
    """A model that had loaded cannot answer any more; its process must end, a new one may go on."""


class TransientError(ModelError):
    """A call failed after all its tries, for a reason that may pass."""


class StageError(HypsaeError):
    """A stage stopped without a result; what it had finished is kept for the next run."""


class PartialResultError(StageError):
    """All was tried and what there is is written, but shards failed each time, or nothing was measured."""

    exit_code = 3
