"""The executor for many machines: Ray starts the workers (:mod:`merc.compute.executors.node`) and reports lost ones.

    driver: which parts are left ──► worker on a node, one per GPU or per N cores, some parts in progress in each
            small results        ◄── facts, progress, log
                                     parts and markers go straight to the output, which is on a file system that all
                                     nodes share

The parts of a worker that is lost with its node are redone by others. Ray is imported only here, and only on request.
"""

import glob
import math
import os
import pickle
import socket
import time
import uuid
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from merc import files
from merc.compute.executors import node
from merc.compute.executors.base import Advance, Needs, Parts, Share, Work
from merc.compute.executors.connection import connect
from merc.errors import BadCluster, BadSettings, PipelineError
from merc.interrupts import stoppable
from merc.log import logger

_Facts = TypeVar("_Facts")

_LOOK_SECONDS = 600.0  # importing torch from a slow disk takes minutes
_TICK_SECONDS = 1.0
_SILENT_SECONDS = 30.0
_FAREWELL_SECONDS = 10.0
# How long a part that a node has written may be invisible to this machine: an NFS client caches for up to a minute that
# a file does not exist.
_VISIBLE_SECONDS = 90.0
# How long the head, and this machine's own node, may be silent. Ray would end the process without a message, about 15 s
# after losing the node and 60 s after losing the head.
_HEAD_SECONDS, _OWN_NODE_SECONDS = 20.0, 4.0
# Number of workers that may be lost with the same part in progress: nodes may disappear at any time, but a part may
# also be too large for any of them.
_LOSSES = 4


@dataclass(frozen=True)
class OnRay:
    """Runs work on a cluster.

    Attributes:
        address: ``auto`` (the cluster that this machine belongs to, or RAY_ADDRESS), ``HOST:PORT`` of a cluster's head,
            or ``local`` (a cluster of only this machine, for the lifetime of this process).
        device: ``auto``, ``cpu`` or ``cuda``.
        workers: cores of the cluster, if it is ``local``.
        cores_per_worker: cores of a worker that computes in several processes; at most those of the largest node.
        gpus_per_worker: GPUs per worker; a fraction lets several encoders share a GPU.
    """

    address: str
    device: str
    workers: int
    cores_per_worker: int
    gpus_per_worker: float

    def reach(self) -> None:
        """See :meth:`merc.compute.executors.base.Executor.reach`."""
        connect(self.address, self.workers)

    def map(self, work: Work[_Facts], parts: Parts, advance: Advance) -> Generator[tuple[int, _Facts], None, None]:
        """See :meth:`merc.compute.executors.base.Executor.map`. All nodes with a worker are checked, and one worker has
        opened the work, before this returns.

        Raises:
            BadSettings: if Ray is not installed, or GPUs were requested and there are none.
            BadCluster: if nothing answers at the address, or a node cannot do the work; the message names it.
            ModelUnavailable, RawDataMissing: if a node does not have a model or the raw files.
        """
        ray = connect(self.address, self.workers)
        size = self._size(_nodes(ray), work.needs)
        order = _order(work, size)
        fleet = _Fleet(ray, work, size, order)
        try:
            _put_down(order)
            _look_at_all(ray, [one for one in _nodes(ray) if size.fit_into(one)], order)
            fleet.begin()
            results = _run(fleet, parts, advance)
            next(results)  # from now on, closing it stops the workers
        except BaseException:
            fleet.end()
            raise
        return results

    def _size(self, nodes: list["_Node"], needs: Needs) -> "_Size":
        """The resources that each worker takes on its node; never more than the largest node has."""
        most_cores, most_bytes = max(one.cores for one in nodes), max(one.memory_bytes for one in nodes)
        gpus = needs.accelerated and self.device != "cpu" and any(one.gpus for one in nodes)
        if needs.accelerated and self.device.startswith("cuda"):
            if ":" in self.device:
                raise BadSettings(
                    f"--device {self.device} with --executor ray: the cluster chooses the GPU; valid: auto, cpu, cuda"
                )
            if not gpus:
                raise BadSettings("--device cuda: no node of the cluster has a GPU; valid: auto, cpu")
        threads = _threads() if needs.cores == "threads" and not gpus else 0
        processes = needs.cores == "processes"
        cores = min(max(1, most_cores), self.cores_per_worker if processes else threads or 1)
        memory = min(most_bytes, needs.memory_bytes * (cores if processes else 1))
        return _Size(cores, self.gpus_per_worker if gpus else 0.0, memory, threads)


def _threads() -> int:
    import torch

    return torch.get_num_threads()


@dataclass(frozen=True)
class _Size:
    cores: int
    gpus: float
    memory_bytes: int
    threads: int

    def __str__(self) -> str:
        return f"{self.cores} cores, {self.gpus:g} GPUs, {self.memory_bytes / 1e9:.1f} GB each"

    def fit_into(self, one: "_Node") -> int:
        """The number of workers that fit on a node."""
        wanted = ((one.cores, self.cores), (one.gpus, self.gpus), (one.memory_bytes, self.memory_bytes))
        return int(min(there / each for there, each in wanted if each))


@dataclass(frozen=True)
class _Node:
    identifier: str
    name: str
    cores: int
    gpus: float
    memory_bytes: int


def _nodes(ray: Any, *, alive: bool = True) -> list[_Node]:
    found = []
    for one in ray.nodes():
        if one["Alive"] or not alive:
            given, host = one["Resources"], one["NodeManagerHostname"]
            name = one["NodeName"] if host in one["NodeName"] else f"{one['NodeName']} ({host})"
            found.append(
                _Node(one["NodeID"], name, int(given.get("CPU", 0)), given.get("GPU", 0.0), int(given.get("memory", 0)))
            )
    return found


def _order(work: Work[Any], size: _Size) -> node.Order:
    """The order for all workers."""
    word = uuid.uuid4().hex
    return node.Order(
        pickle.dumps(work),
        node.identity(),
        work.home.absolute() / f".ray-{work.name.replace('/', '-')}-{word}",
        word,
        Path.cwd(),
        Share(size.cores, "cuda:0" if size.gpus else "cpu"),
        size.threads,
    )


def _put_down(order: node.Order) -> None:
    """Writes the token of an order."""
    kind = order.token.name.removesuffix(order.word)
    # Of this work, and not of one whose name has the same beginning: the lock of the output admits one driver at a
    # time.
    for left in order.token.parent.glob(f"{glob.escape(kind)}{'[0-9a-f]' * len(order.word)}"):
        left.unlink(missing_ok=True)  # left by a killed driver
    with files.writing(order.token):
        order.token.write_text(order.word)


def _look_at_all(ray: Any, nodes: Sequence[_Node], order: node.Order) -> None:
    """Lets nodes check whether they can do the work, and raises the error of the first that cannot."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0, max_retries=0)(node.look)
    sent = ray.put(order)
    asked = [
        (one, look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(one.identifier, soft=False)).remote(sent))
        for one in nodes
    ]
    for one, answer in asked:
        try:
            found = ray.get(answer, timeout=_LOOK_SECONDS)
        except ray.exceptions.GetTimeoutError as error:
            raise BadCluster(f"node {one.name}: no process started there within {_LOOK_SECONDS:.0f} s") from error
        except ray.exceptions.RayTaskError as error:
            raise BadCluster(
                f"node {one.name}: it cannot load merc-pipeline as it is here: {str(error).strip().splitlines()[-1]}"
            ) from error
        except ray.exceptions.RayError as error:
            if one.identifier not in {there.identifier for there in _nodes(ray)}:
                continue  # it is gone
            raise BadCluster(f"node {one.name}: {str(error).strip().splitlines()[0]}") from error
        if found is not None:
            raise _named(found, one.name)


def _named(error: PipelineError, name: str) -> PipelineError:
    """The same error, with the name of the node."""
    error.args = (f"node {name}: {error}", *error.args[1:])
    return error


@dataclass(eq=False)
class _Hand:
    """A worker as seen from the driver.

    Attributes:
        actor: Ray's handle.
        node: node on which it has opened the work; empty until then.
        under_way: parts that it was given and has not answered yet.
    """

    actor: Any
    node: str = ""
    under_way: set[int] = field(default_factory=set)


class _Pulse:
    """Checks whether the cluster is still alive."""

    def __init__(self, ray: Any) -> None:
        context = ray.get_runtime_context()
        own = next(one for one in ray.nodes() if one["NodeID"] == context.get_node_id())
        self._asked = (
            ("its head", context.gcs_address, _HEAD_SECONDS),
            ("this machine's node", f"{own['NodeManagerAddress']}:{own['NodeManagerPort']}", _OWN_NODE_SECONDS),
        )
        self._heard = [time.monotonic()] * len(self._asked)
        self.lost = False

    def check(self) -> bool:
        """False if something does not answer at the moment. Raises ``BadCluster`` if that lasts too long."""
        beats = True
        for index, (what, address, patience_seconds) in enumerate(self._asked):
            host, _, port = address.rpartition(":")
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=_TICK_SECONDS).close()
            except OSError as error:
                beats = False
                if time.monotonic() - self._heard[index] > patience_seconds:
                    self.lost = True
                    raise BadCluster(
                        f"the Ray cluster was stopped: {what} at {address} no longer answers"
                        f" ({error.strerror or error}); what was finished is kept, run again when there is a cluster"
                    ) from error
            else:
                self._heard[index] = time.monotonic()
        return beats


class _Fleet:
    """The workers for one piece of work."""

    def __init__(self, ray: Any, work: Work[Any], size: _Size, order: node.Order) -> None:
        self._ray, self._size, self._order, self._pulse = ray, size, order, _Pulse(ray)
        self.work, self.needs = work, work.needs
        self._sent = ray.put(order)
        self._kind = ray.remote(node.Worker)
        self.hands: list[_Hand] = []
        self._asked: dict[Any, tuple[_Hand, int | None]] = {}
        self._lost: Counter[int] = Counter()
        self._stillborn = 0
        self._slots, self._counted = 1, -_TICK_SECONDS

    @property
    def under_way(self) -> int:
        return sum(len(hand.under_way) for hand in self.hands)

    def slots(self) -> int:
        """The number of workers that fit on the cluster, at least one: nodes may still be starting."""
        if time.monotonic() - self._counted > _TICK_SECONDS and self._pulse.check():
            self._slots, self._counted = max(1, sum(map(self._size.fit_into, _nodes(self._ray)))), time.monotonic()
        return self._slots

    def grow(self, parts: int) -> None:
        """Starts workers until there are as many as this many parts can use."""
        while len(self.hands) < min(self.slots(), parts):
            actor = self._kind.options(
                num_cpus=self._size.cores, num_gpus=self._size.gpus, memory=self._size.memory_bytes,
                max_restarts=0, max_task_retries=0, max_concurrency=self.needs.parts_at_once + 2,
                scheduling_strategy="SPREAD",
            ).remote(self._sent, _node)  # fmt: skip
            hand = _Hand(actor)
            self.hands.append(hand)
            self._asked[actor.begin.remote()] = hand, None

    def begin(self) -> None:
        """Waits until a worker has opened the work."""
        since = time.monotonic()
        while not any(hand.node for hand in self.hands):
            if since and time.monotonic() - since > _SILENT_SECONDS:
                logger.info(
                    "%s: waiting for a worker (%s)", self.work.name, self._size, extra={"stage": self.work.name}
                )
                since = 0.0
            self.grow(1)
            for _ in self.hear(deque()):
                pass

    def give(self, todo: deque[int]) -> None:
        """Hands out parts, the next one to the worker with the fewest; the last parts are shared evenly."""
        most = min(self.needs.parts_at_once, math.ceil((len(todo) + self.under_way) / max(1, len(self.hands))))
        while todo and (free := [hand for hand in self.hands if hand.node and len(hand.under_way) < most]):
            hand, index = min(free, key=lambda one: len(one.under_way)), todo.popleft()
            hand.under_way.add(index)
            self._asked[hand.actor.do.remote(index)] = hand, index

    def hear(self, todo: deque[int]) -> Iterator[tuple[int, node.Answer]]:
        """Waits for answers; the parts of workers that are lost are put back."""
        answers, _ = self._ray.wait(list(self._asked), timeout=_TICK_SECONDS)
        for answer in answers:
            if answer not in self._asked:  # of a worker that was lost in the meantime
                continue
            hand, index = self._asked.pop(answer)
            try:
                told: node.Answer = self._ray.get(answer)
            except self._ray.exceptions.RayError as error:
                self._lose(hand, error, todo)
                continue
            _tell(told, self._ray)
            if index is None:
                hand.node, self._stillborn = told.node, 0
            else:
                hand.under_way.discard(index)
                yield index, told

    def _lose(self, hand: _Hand, error: Exception, todo: deque[int]) -> None:
        self.hands.remove(hand)
        self._ray.kill(hand.actor)  # an unreachable one would keep its cores
        self._asked = {answer: asked for answer, asked in self._asked.items() if asked[0] is not hand}
        again = sorted(hand.under_way)
        self._lost.update(again)
        self._stillborn += not hand.node
        where = _name_of(hand.node, self._ray) if hand.node else "a node where it could not start"
        logger.warning(
            "%s: a worker was lost on %s; %d parts are redone",
            self.work.name,
            where,
            len(again),
            extra={"stage": self.work.name},
        )
        if max(self._stillborn, *(self._lost[one] for one in again), 0) >= _LOSSES:
            what = (
                "as they started"
                if self._stillborn >= _LOSSES
                else f"with part {max(again, key=lambda one: self._lost[one])} in progress"
            )
            raise BadCluster(
                f"{self.work.name}: {_LOSSES} workers were lost {what} (memory ran out, a crash inside a library, or"
                f" nodes and driver differ in RAY_AUTH_MODE), the last one so:\n{error}"
            )
        todo.extendleft(reversed(again))

    def finish(self) -> None:
        """Collects the last messages of every worker."""
        farewells = [hand.actor.finish.remote() for hand in self.hands if hand.node]
        if farewells:
            for one in self._ray.wait(farewells, num_returns=len(farewells), timeout=_FAREWELL_SECONDS)[0]:
                with suppress(self._ray.exceptions.RayError):  # lost, but everything is done
                    _tell(self._ray.get(one), self._ray)

    def end(self) -> None:
        """Stops all workers at once."""
        self._order.token.unlink(missing_ok=True)
        for hand in self.hands if not self._pulse.lost else ():  # without a head, this would wait for it
            self._ray.kill(hand.actor)


def _node() -> str:
    """Of this worker."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


def _name_of(identifier: str, ray: Any) -> str:
    return next((one.name for one in _nodes(ray, alive=False) if one.identifier == identifier), identifier)


def _tell(answer: node.Answer, ray: Any) -> None:
    """Copies a worker's log to this process's, and raises what it raised."""
    for record in answer.records:
        logger.handle(record)
    if isinstance(answer.error, PipelineError):
        raise _named(answer.error, _name_of(answer.node, ray))
    if answer.error is not None:
        raise answer.error from RuntimeError(f"on node {_name_of(answer.node, ray)}:\n{answer.words}")


def _run(fleet: _Fleet, parts: Parts, advance: Advance) -> Generator[tuple[int, Any], None, None]:
    """Yields a placeholder first, then the number and the facts of each finished part."""
    todo: deque[int] = deque()
    with stoppable():
        try:
            yield -1, None
            while _fill(todo, parts, fleet):
                fleet.grow(len(todo) + fleet.under_way)
                fleet.give(todo)
                for index, answer in fleet.hear(todo):
                    advance(answer.advanced)
                    _await_visible(fleet.work, index)
                    yield index, answer.facts
            fleet.finish()
        finally:
            fleet.end()


def _fill(todo: deque[int], parts: Parts, fleet: _Fleet) -> bool:
    """Takes as many parts as may be in progress; False when all are done."""
    while len(todo) < fleet.slots() * fleet.needs.parts_at_once:
        index = parts.take(wait=not todo and not fleet.under_way)
        if index is None:
            break
        todo.append(index)
    return bool(todo or fleet.under_way)


def _await_visible(work: Work[Any], index: int) -> None:
    deadline = time.monotonic() + _VISIBLE_SECONDS
    while not work.is_done(index):
        if time.monotonic() > deadline:
            raise BadCluster(f"{work.name}: part {index} was written by a node, but is not visible here in {work.home}")
        for _ in os.walk(work.home):  # listing a folder queries its server again
            pass
        time.sleep(0.5)
