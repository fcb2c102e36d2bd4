"""Replicas as Ray actors: started, waited for, ended.

Ray starts none of them again, and repeats no call: how many there are, and what they do, the pool decides.
"""

import pickle
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import cloudpickle
from ray.exceptions import RayError, RayTaskError
from ray.util.placement_group import PlacementGroup, remove_placement_group

from hypsae_ray.cluster.attempts import CALLS_AT_ONCE, Attempt
from hypsae_ray.cluster.placement import Reservation, describe_nodes, in_group
from hypsae_ray.cluster.ray_private import draining_nodes
from hypsae_ray.cluster.replica import Replica
from hypsae_ray.errors import StageError

Call = str | Attempt
NODE, LOAD = "node", "load"


@dataclass(eq=False)
class Actor:
    """A replica, as the driver sees it.

    Attributes:
        handle: Ray's.
        group: its placement group, if it has one.
        calls: what it is asked, by the reference of the answer: `NODE`, `LOAD`, or an attempt.
        node: where it runs; "" until it has found room.
        is_loaded: it can do tasks.
        is_leaving: its node is being drained, as on a spot notice.
        held: attempts that it works on.
        idle_since: when it held any last, or was loaded.
    """

    handle: Any
    group: PlacementGroup | None = None
    calls: dict[Any, Call] = field(default_factory=dict)
    node: str = ""
    is_loaded: bool = False
    is_leaving: bool = False
    held: list[Attempt] = field(default_factory=list)
    idle_since: float = 0.0


class RayActors:
    """Makes replicas in Ray, which must be initialised; a picklable factory makes the model in each."""

    def __init__(self, factory: Callable[[], Any], reservation: Reservation) -> None:
        self._factory = cloudpickle.dumps(factory)  # type: ignore[reportPrivateImportUsage]  # may be a script's
        self._reservation = reservation
        self._class: Any = ray.remote(Replica)

    def prepare(self, work: Callable[[Any, Any], Any]) -> Any:
        """Put the work of a call where all replicas find it, on the driver's node."""
        return ray.put(pickle.dumps(work))

    def start(self) -> Actor:
        """Ask Ray for an actor, which loads its model as soon as it has found room."""
        group = self._reservation.group() if self._reservation.count > 1 else None
        options = in_group(group) if group else self._reservation.actor_options()
        own = {"max_restarts": 0, "max_task_retries": 0, "max_concurrency": CALLS_AT_ONCE}
        handle = self._class.options(**options, **own).remote()
        calls: dict[Any, Call] = {handle.node.remote(): NODE, handle.load.remote(self._factory): LOAD}
        return Actor(handle, group, calls)

    def begin(self, actor: Actor, work: Any, attempt: Attempt) -> None:
        """Send a task to an actor."""
        actor.calls[actor.handle.do.remote(work, pickle.dumps(attempt.task))] = attempt

    def wait(self, actors: Sequence[Actor], timeout_s: float) -> tuple[Actor, Call, Any] | None:
        """Return a call that has ended, and its value, or a RayError if the actor died; None: none has ended.

        Raises:
            StageError: a replica cannot take a task in, or hand its result out.
        """
        asked = {ref: actor for actor in actors for ref in actor.calls}
        ended, _ = ray.wait(list(asked), timeout=timeout_s)
        if not ended:
            return None
        actor = asked[ended[0]]
        call = actor.calls.pop(ended[0])
        try:
            value: Any = ray.get(ended[0])
        except RayTaskError as error:
            raise StageError(f"a task failed:\n{error}") from error
        except RayError as error:
            return actor, call, error
        return actor, call, pickle.loads(value) if isinstance(call, Attempt) else value

    def end(self, actor: Actor) -> None:
        """Kill an actor, and free what it reserves."""
        ray.kill(actor.handle)
        if actor.group is not None:
            remove_placement_group(actor.group)

    def leaving_nodes(self) -> Collection[str]:
        """Return the nodes that are being drained."""
        return draining_nodes()

    def describe_wait(self) -> str:
        """Return what each replica reserves, and what the nodes have."""
        return (
            f"waits for room for a replica, which reserves {self._reservation}; the nodes have "
            f"{describe_nodes()}; `ray status` tells what can be launched"
        )
