"""The lines of a run, on a terminal and in a pipe, and where the output of everything else goes."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from hypsae_ray.console import Console, Pace


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        """What stands there: of each line what was written since it was cleared."""
        return [line.rpartition("\x1b[2K")[2] for line in self.getvalue().split("\n")]


def work(console: Console, clock: Clock, items: int, seconds: float) -> None:
    def slowly():
        for item in range(items):
            clock.now += seconds
            yield item

    with console.stage("embed (keywords)") as close:
        for item in console.track(slowly(), items, "shard"):
            if item == 1:
                console.say("two texts were cut")
                console.say("embed: so it was")
        close("4 texts")


def test_a_pipe_gets_plain_lines_with_the_time_left_now_and_then():
    clock, pipe = Clock(), io.StringIO()
    work(Console(pipe, clock=clock), clock, 8, 10)
    assert pipe.getvalue().splitlines() == [
        "embed (keywords) ...",
        "embed (keywords): 1/8 shards",
        "embed (keywords): 2/8 shards, 0.1 a second, 60 s left",
        "embed (keywords): two texts were cut",
        "embed (keywords): so it was",
        "embed (keywords): 5/8 shards, 0.1 a second, 30 s left",
        "embed (keywords): 80 s, 4 texts",
    ]


@pytest.mark.parametrize(
    ("comes_at", "each"),
    [
        ([10, 20, 30, 40], [None, 10, 10, 10]),
        ([40, 60, 80], [None, 20, 20]),  # of the first 40 s, 20 loaded a model
        ([40, 45, 50, 55, 60], [None, None, None, 5, 5]),  # 35 did
        ([10, 10, 20, 20], [None, None, 20 / 3, 5]),  # two replicas
        ([0, 0, 1], [None, None, 1 / 3]),  # done before
    ],
)
def test_the_time_left_follows_the_items_after_the_first_ones(comes_at: list[float], each: list):
    pace = Pace()
    assert [pace.seconds_each(*item) for item in enumerate(comes_at, 1)] == pytest.approx(each)


def test_a_short_stage_has_two_lines():
    clock, pipe = Clock(), io.StringIO()
    work(Console(pipe, clock=clock), clock, 1, 1)
    assert pipe.getvalue().splitlines() == ["embed (keywords) ...", "embed (keywords): 1.0 s, 4 texts"]


def test_a_terminal_shows_one_line_a_stage_and_remarks_above_it():
    clock, terminal = Clock(), Terminal()
    work(Console(terminal, clock=clock), clock, 8, 10)
    assert terminal.screen() == [
        "embed (keywords): two texts were cut",
        "embed (keywords): so it was",
        "embed (keywords): 80 s, 4 texts",
        "",
    ]


def test_a_stage_that_fails_leaves_how_far_it_was_on_the_terminal():
    clock, terminal = Clock(), Terminal()
    console = Console(terminal, clock=clock)
    with pytest.raises(KeyboardInterrupt), console.stage("annotate"):
        for _ in console.track(range(4), 4, "shard"):
            clock.now += 10
            if clock.now == 20:
                raise KeyboardInterrupt
    console.say("hypsae: interrupted")
    assert terminal.screen() == ["annotate: 2/4 shards, 0.2 a second, 10 s left", "hypsae: interrupted", ""]


NOISE = """
import logging, os, subprocess, sys, warnings
from hypsae_ray.store.artifacts import Folder
from hypsae_ray.run_log import own_console
with own_console(Folder.at(sys.argv[1])) as console:
    if "noise" in sys.argv:
        print("a library prints")
        warnings.warn("a library warns")
        logging.warning("a library logs")
        os.write(2, b"C++ writes\\n")
        subprocess.run([sys.executable, "-c", "print('a process prints')"])
    console.say("data: ours")
    console.show("a result")
    if "error" in sys.argv:
        raise RuntimeError("a fault")
print("the last line")
"""


def run_noise(*arguments: str | Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", NOISE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_what_libraries_print_is_in_the_log_alone(tmp_path: Path):
    for _ in range(2):
        done = run_noise(tmp_path / "run", "noise")
        assert (done.stdout, done.stderr) == ("a result\nthe last line\n", "data: ours\n")
    logged = (tmp_path / "run" / "run.log").read_text()
    for line in ("a library prints", "a library warns", "a library logs", "C++ writes", "a process prints"):
        assert logged.count(line) == 2


def test_an_error_is_shown_and_names_the_log(tmp_path: Path):
    told = run_noise(tmp_path / "run", "noise", "error").stderr.splitlines()
    assert told[:2] == ["data: ours", f"what libraries printed before this is in {tmp_path}/run/run.log"]
    assert told[-1] == "RuntimeError: a fault"


def test_where_nothing_was_printed_no_log_and_no_folder_is_left(tmp_path: Path):
    told = run_noise(tmp_path / "runs" / "run", "error").stderr.splitlines()
    assert told[:2] == ["data: ours", "Traceback (most recent call last):"]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_has_its_log_elsewhere(tmp_path: Path):
    (tmp_path / "file").write_text("")
    done = run_noise(tmp_path / "file" / "run", "noise", "error")
    place = Path(done.stderr.splitlines()[1].rpartition(" ")[2])
    assert "a process prints" in place.read_text()
    place.unlink()
