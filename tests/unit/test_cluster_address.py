"""A cluster that is not there is reported in one line, before Ray waits for it."""

import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from ray._private import services, utils

from hypsae_ray.cli import main
from hypsae_ray.cluster import address
from hypsae_ray.cluster.address import check_address, silent
from hypsae_ray.errors import ConfigError

Name = Callable[[str], None]


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A socket that takes connections, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def address_of(server: socket.socket) -> str:
    return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def closed() -> str:
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return address_of(server)


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Name:
    return lambda address: monkeypatch.setenv("RAY_ADDRESS", address)


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_dead_address_is_named_with_what_to_do(named: Name, closed: str, scheme: str):
    named(f"{scheme}{closed}")
    with pytest.raises(ConfigError, match="Connection refused; start it, or unset RAY_ADDRESS") as caught:
        check_address()
    assert str(caught.value).startswith(f"no Ray cluster at RAY_ADDRESS ({scheme}{closed}): ")


def test_a_job_at_a_dead_address_ends_with_one_line_and_exit_code_2(
    named: Name, closed: str, tmp_path: Path, capsys: pytest.CaptureFixture
):
    (tmp_path / "h.csv").write_text("hypothesis\nmentions rain\n")
    (tmp_path / "t.csv").write_text("text\nrain\n")
    named(closed)
    files = ["--hypotheses", str(tmp_path / "h.csv"), "--data", str(tmp_path / "t.csv")]
    assert main(["annotate", *files, "--out", str(tmp_path / "out"), "--llm.engine", "keywords"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"hypsae: no Ray cluster at RAY_ADDRESS ({closed}): ")


def test_a_port_that_never_answers_is_told(named: Name, listening: socket.socket, monkeypatch):
    monkeypatch.setattr(address, "ANSWER_S", 0.3)
    named(address_of(listening))
    with pytest.raises(ConfigError, match=r"something listens there, but does not answer within 0\.3 s"):
        check_address()


def test_another_server_is_no_ray(named: Name):
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert silent(f"127.0.0.1:{server.server_port}") == "what listens there is no Ray"
    finally:
        server.shutdown()
        server.server_close()


def test_the_address_of_the_dashboard_is_told_from_that_of_ray(named: Name):
    named("http://127.0.0.1:8265")
    with pytest.raises(ConfigError, match=r"where jobs are submitted to.*<head>:6379: unset RAY_ADDRESS"):
        check_address()


@pytest.mark.parametrize(
    ("address", "reason"),
    [("no-such-host.invalid:6379", "not known|resolution"), ("host:port", "no host:port")],
)
def test_an_address_that_leads_nowhere_is_told(named: Name, address: str, reason: str):
    named(address)
    with pytest.raises(ConfigError, match=reason):
        check_address()


def test_a_cluster_that_this_machine_still_remembers_is_told(
    monkeypatch: pytest.MonkeyPatch, closed: str, tmp_path: Path
):
    (tmp_path / "ray_current_cluster").write_text(closed)
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setattr(
        services, "find_gcs_addresses", set
    )  # what runs beside this test is none of its matter
    monkeypatch.setattr(utils, "get_ray_address_file", lambda _: str(tmp_path / "ray_current_cluster"))
    with pytest.raises(
        ConfigError, match=rf"no Ray cluster at {closed}, where `ray start`.*RAY_ADDRESS=local"
    ):
        check_address()


def test_ray_of_its_own_needs_no_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    check_address()  # RAY_ADDRESS=local, as all tests have it
    monkeypatch.setenv("RAY_ADDRESS", "")
    monkeypatch.setattr(services, "find_gcs_addresses", set)
    monkeypatch.setattr(utils, "get_ray_address_file", lambda _: str(tmp_path / "none"))
    check_address()
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with pytest.raises(ConfigError, match="RAY_ADDRESS is auto, but no Ray runs on this machine"):
        check_address()
