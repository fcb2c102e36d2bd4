"""The pool's replicas as Ray actors: started, waited for, ended."""

import pickle
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray import cloudpickle
from ray.exceptions import RayError, RayTaskError
from ray.util.placement_group import PlacementGroup, remove_placement_group

from hypsae_ray.cluster.attempts import CALLS_AT_ONCE, Attempt
from hypsae_ray.cluster.placement import Reservation, describe_nodes, in_group, reservation_of_replica
from hypsae_ray.cluster.pool import Died, Done, Event, Loaded, Member, Placed, ReplicaPool
from hypsae_ray.cluster.ray_private import draining_nodes
from hypsae_ray.cluster.replica import Replica
from hypsae_ray.config import Replicas
from hypsae_ray.errors import StageError
from hypsae_ray.models.pool import Model


@dataclass(frozen=True)
class Handle:
    """An actor, its placement group if it has one, and its calls under way, each with the event it ends in."""

    actor: Any
    group: PlacementGroup | None
    calls: dict[Any, Callable[[Any], Event]]


class RayActors:
    """Makes replicas in Ray, which must be initialised.

    Ray starts none of them again, and repeats no task: all that is the pool's to decide.

    Args:
        factory: picklable, makes the model inside an actor.
        reservation: of each replica.
    """

    def __init__(self, factory: Callable[[], Any], reservation: Reservation) -> None:
        self._factory = cloudpickle.dumps(factory)  # type: ignore[reportPrivateImportUsage]  # may be a script's
        self._reservation = reservation
        self._class: Any = ray.remote(max_restarts=0, max_task_retries=0, max_concurrency=CALLS_AT_ONCE)(
            Replica
        )

    def prepare(self, work: Callable[[Any, Any], Any]) -> Any:
        """Put the work of a call where all replicas find it, on the driver's node."""
        return ray.put(pickle.dumps(work))

    def start(self) -> Handle:
        """Ask Ray for an actor, which loads its model as soon as it has found room."""
        group = self._reservation.group() if self._reservation.count > 1 else None
        options = in_group(group) if group else self._reservation.actor_options()
        actor = self._class.options(**options).remote()
        loaded = actor.load.remote(self._factory)
        return Handle(actor, group, {actor.node.remote(): Placed, loaded: lambda found: Loaded(*found)})

    def begin(self, handle: Handle, work: Any, attempt: Attempt) -> None:
        """Send a task to an actor."""
        call = handle.actor.do.remote(work, pickle.dumps(attempt.task))
        handle.calls[call] = lambda packed: Done(attempt, *pickle.loads(packed))

    def wait(self, members: Sequence[Member], timeout_s: float) -> tuple[Member, Event] | None:
        """Return the next call that ends, as an event; None: none within the timeout.

        Raises:
            StageError: a replica cannot take a task in, or hand its result out.
        """
        calls = {call: member for member in members for call in member.handle.calls}
        ended, _ = ray.wait(list(calls), timeout=timeout_s)
        if not ended:
            return None
        member = calls[ended[0]]
        event_of = member.handle.calls.pop(ended[0])
        try:
            return member, event_of(ray.get(ended[0]))
        except RayTaskError as error:
            raise StageError(f"a task failed:\n{error}") from error
        except RayError as error:
            return member, Died(str(error))

    def end(self, handle: Handle) -> None:
        """Kill an actor, and free what it reserves."""
        ray.kill(handle.actor)
        if handle.group is not None:
            remove_placement_group(handle.group)

    def leaving_nodes(self) -> Collection[str]:
        """Return the nodes that are told to go."""
        return draining_nodes()

    def describe_wait(self) -> str:
        """Return what each replica reserves, and what the nodes have."""
        return (
            f"waits for room for a replica, which reserves {self._reservation}; the nodes have "
            f"{describe_nodes()}; `ray status` tells what can be launched"
        )


class RayPool(ReplicaPool[Model]):
    """A pool in Ray, which must be initialised.

    Args:
        factory: picklable, makes the model inside an actor.
        replicas: how many actors.
        reservation: of each one; None: what `replicas` says, for a model that is not split.
        say: is given what the models remark and why the pool waits, each line once.
    """

    def __init__(
        self,
        factory: Callable[[], Model],
        replicas: Replicas,
        reservation: Reservation | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        actors = RayActors(factory, reservation or reservation_of_replica(replicas))
        super().__init__(actors, replicas, say)
