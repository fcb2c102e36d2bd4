"""All that this package takes from inside Ray, since Ray 2.60 has no public call for it.

- Nodes that are about to go: `ray.nodes()` calls them alive, and the state API needs a dashboard.
- Where a cluster is: `ray.init` looks for it itself, and waits minutes for one that is dead.
"""

from collections.abc import Collection

import ray
from ray._private import services


def draining_nodes() -> Collection[str]:
    """Return the ids of nodes that are being drained, as on a spot notice."""
    return ray._private.state.state.get_draining_nodes()  # type: ignore


def named_address(name: str) -> str | None:
    """Return the cluster that RAY_ADDRESS, or the last `ray start` on this machine, names; None: none.

    Raises:
        ConnectionError: `name` means a cluster of this machine, and there is none.
    """
    address: str | None = services.get_ray_address_from_environment(name or None, None)  # type: ignore[arg-type]
    return address
