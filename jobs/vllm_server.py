"""`vllm serve` with the engine arguments of ours, for benchmarks that compare with what asks a server."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any
from urllib.error import URLError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from hypsae_ray.config import Llm
from hypsae_ray.models.vllm.model import engine_arguments, set_environment

SERVER_STARTS_WITHIN_S = 300
SERVED = ("vllm:prompt_tokens", "vllm:prefix_cache_hits", "vllm:generation_tokens")


def served(url: str) -> dict[str, float]:
    """Return what a server has counted so far, by the names in SERVED."""
    with urlopen(f"{url}/metrics") as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    samples = [sample for family in families for sample in family.samples]
    return {name: sum(s.value for s in samples if s.name == f"{name}_total") for name in SERVED}


@contextmanager
def serve(llm: Llm) -> Iterator[str]:
    """Run `vllm serve` with the engine arguments of ours; yield its URL."""
    set_environment(llm)  # the room of its cache among others, which is that of ours
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # What `vllm serve` starts; the command itself asks for the version of a package that is called otherwise
    # where vLLM was built for the CPU.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *_as_flags(engine_arguments(llm))]
    command += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", llm.model]
    # As for ours, save that a server keeps its engine in a process of its own.
    environment = {**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            _wait_for(server, f"http://127.0.0.1:{port}", log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait()


def _as_flags(arguments: dict[str, Any]) -> list[str]:
    flags: list[str] = []
    for name, value in arguments.items():
        flag = f"--{name.replace('_', '-')}"
        if value is not None and value is not False:
            flags += [flag] if value is True else [flag, str(value)]
    return flags


def _wait_for(server: subprocess.Popen[Any], url: str, log: IO[bytes]) -> None:
    for _ in range(SERVER_STARTS_WITHIN_S):
        with suppress(URLError, ConnectionError), urlopen(f"{url}/health"):
            return
        if server.poll() is not None:
            break
        time.sleep(1)
    log.seek(0)
    sys.exit(f"vllm serve does not start:\n{log.read().decode()[-20_000:]}")
