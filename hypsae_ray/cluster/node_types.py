"""The kinds of nodes that an autoscaler may launch, which Ray 2.60 tells no driver: its config is looked for.

A driver that `ray job submit` started stands on the head. There the autoscaler is a process whose arguments
name its config file; on Kubernetes it is a container beside, which reads the RayCluster from the API server,
as any container of the head's pod may. Where neither is found, what may be launched is not known.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import ray
import yaml

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
CONFIG = "--autoscaling-config="


def node_types() -> Mapping[str, Any] | None:
    """Return what the autoscaler may launch, by name: each one's resources, labels and max_workers.

    Returns:
        Nothing if there is no autoscaler; None if that is not known.
    """
    config = _of_raycluster() if SERVICE_ACCOUNT.exists() else _of_monitor()
    if not config:
        return config
    types = config["available_node_types"]
    return {name: kind for name, kind in types.items() if name != config["head_node_type"]}


def _of_monitor() -> dict[str, Any] | None:
    """Read the config of the autoscaler of this cluster, a process on this machine; empty if it has none."""
    address = f"--gcs-address={ray.get_runtime_context().gcs_address}"
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if address in words and any(word.endswith("monitor.py") for word in words):
            paths = [word.removeprefix(CONFIG) for word in words if word.startswith(CONFIG)]
            return _read(paths[0]) if paths else {}
    return None


def _read(path: str) -> dict[str, Any] | None:
    try:
        return yaml.safe_load(Path(path).expanduser().read_text())
    except OSError:
        return None


def _of_raycluster() -> dict[str, Any] | None:
    """Read the RayCluster that this pod belongs to; None if the pod may not."""
    import requests
    from ray.autoscaler._private.kuberay.autoscaling_config import AutoscalingConfigProducer

    try:
        return AutoscalingConfigProducer(
            os.environ["RAY_CLUSTER_NAME"], SERVICE_ACCOUNT.read_text().strip()
        )()
    except (KeyError, OSError, requests.RequestException):
        return None
