"""How the command line ends when it is stopped, whatever the signal meets."""

import signal
import threading

import pytest

from hypsae_ray import cli
from hypsae_ray.errors import StageError


def unlock_twice(error: BaseException) -> None:
    """Raise an error under a lock that the code has let go of, as it may be in queue.get of Python 3.11."""
    lock = threading.Lock()
    with lock:
        lock.release()
        raise error


def stopped(error: BaseException) -> None:
    raise error


def wrapped(error: BaseException) -> None:
    try:
        raise error
    except BaseException as caught:
        raise StageError("the pool is gone") from caught


@pytest.mark.parametrize("how", [stopped, unlock_twice, wrapped])
@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, f"hypsae: interrupted; {cli.GOES_ON}\n"),
        (SystemExit(signal.SIGTERM), 143, f"hypsae: terminated; {cli.GOES_ON}\n"),
    ],
)
def test_a_signal_ends_in_one_line_and_its_exit_code(
    how, error: BaseException, code: int, said: str, monkeypatch, capsys
):
    monkeypatch.setattr("hypsae_ray.commands.annotation.status", lambda _: how(error))
    assert cli.main(["status", "nowhere"]) == code
    assert capsys.readouterr().err == said


def test_errors_without_a_signal_stay_what_they_are(monkeypatch, capsys):
    for error in (RuntimeError("release unlocked lock"), SystemExit(3)):
        monkeypatch.setattr("hypsae_ray.commands.annotation.status", lambda _, one=error: stopped(one))
        with pytest.raises(type(error)):
            cli.main(["status", "nowhere"])
    monkeypatch.setattr("hypsae_ray.commands.annotation.status", lambda _: stopped(StageError("it is full")))
    assert cli.main(["status", "nowhere"]) == 1
    assert capsys.readouterr().err == "hypsae: it is full\n"


def test_what_follows_ctrl_c_is_ctrl_c(monkeypatch, capsys):
    monkeypatch.setattr(
        "hypsae_ray.commands.annotation.status", lambda _: stopped(StageError("the actors died"))
    )
    assert cli.main(["status", "nowhere"], interrupts=[signal.SIGINT]) == cli.INTERRUPTED
    assert capsys.readouterr().err == f"hypsae: interrupted; {cli.GOES_ON}\n"
