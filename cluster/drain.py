"""Tell Ray that this node goes, so that it finishes what it holds and is given nothing new.

    python cluster/drain.py --seconds 100 --wait     # a hook that runs before the node is stopped
    python cluster/drain.py --watch aws              # beside a spot worker: waits for the cloud's notice

A node that drains is known to all of Ray: actors of ours end after the shard at hand, Ray Train moves on, and
the autoscaler launches another node. Needs the standard library and the `ray` that runs here, and starts no
worker.
"""

import argparse
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.error import HTTPError

METADATA = {"aws": "http://169.254.169.254", "gcp": "http://metadata.google.internal"}
GCP_SECONDS = 25  # Google gives 30 s from the notice on
POLL_S = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Drain this node, at once or when its cloud says that it goes; return the exit code."""
    options = _parser().parse_args(argv)
    seconds = wait_for_notice(options) if options.watch else options.seconds
    deadline = time.monotonic() + seconds
    nodes = {options.node_id} if options.node_id else local_nodes()
    code = max((drain(options.command, node, seconds) for node in nodes), default=0)
    while options.wait and nodes & local_nodes() and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Tell Ray that this node goes.")
    parser.add_argument("--seconds", type=int, default=100, help="time that is left (default: 100)")
    parser.add_argument("--wait", action="store_true", help="return when the node is idle, or out of time")
    parser.add_argument("--watch", choices=METADATA, help="wait for the notice of a spot instance first")
    parser.add_argument("--every", type=float, default=5, help="seconds between looks (default: 5)")
    parser.add_argument("--metadata", help="address of the metadata server (default: the cloud's own)")
    parser.add_argument("--node-id", help="Ray's id of the node (default: of the raylets on this machine)")
    ray = str(Path(sys.executable).with_name("ray"))
    parser.add_argument("--command", default=ray, help="the ray command (default: that of this Python)")
    return parser


def local_nodes() -> set[str]:
    """Return the ids of Ray's nodes on this machine, as their processes tell."""
    from ray._private.services import find_node_ids

    return set(find_node_ids())


def drain(command: str, node: str, seconds: int) -> int:
    """Mark a node as draining; no new work goes to it."""
    words = ["drain-node", "--node-id", node, "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
    rest = ["--reason-message", "the machine goes", "--deadline-remaining-seconds", str(seconds)]
    return subprocess.run([command, *words, *rest], check=False).returncode


def wait_for_notice(options: argparse.Namespace) -> int:
    """Return the seconds that are left, once the cloud has said that the machine goes."""
    base = options.metadata or METADATA[options.watch]
    look = {"aws": _aws_seconds, "gcp": _gcp_seconds}[options.watch]
    while (seconds := look(base)) is None:
        time.sleep(options.every)
    return seconds


def _aws_seconds(base: str) -> int | None:
    lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    token = _ask(f"{base}/latest/api/token", lifetime, "PUT")
    notice = token and _ask(
        f"{base}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token}
    )
    if not notice:
        return None
    end = datetime.fromisoformat(json.loads(notice)["time"])
    return max(0, int((end - datetime.now(UTC)).total_seconds()))


def _gcp_seconds(base: str) -> int | None:
    url = f"{base}/computeMetadata/v1/instance/preempted"
    return GCP_SECONDS if _ask(url, {"Metadata-Flavor": "Google"}) == "TRUE" else None


def _ask(url: str, headers: Mapping[str, str], method: str = "GET") -> str | None:
    """Return an answer of the metadata server; None where there is none yet (404), or none this time."""
    request = urllib.request.Request(url, headers=dict(headers), method=method)
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:
            return answer.read().decode().strip()
    except OSError as error:
        if not (isinstance(error, HTTPError) and error.code == 404):
            print(f"drain: {url}: {error}", file=sys.stderr)
        return None


if __name__ == "__main__":
    sys.exit(main())
