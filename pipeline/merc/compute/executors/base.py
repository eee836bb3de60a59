"""The interface between stages and executors: independent parts, processed here or on many machines, with
byte-identical output.

    stage                          executor                        worker, one or many
    prepare ── work, parts ──►     map  ── work.open(share) ──►    loads what it needs
    for index, facts in …  ◄──          ── parts, one by one ──►   reads, computes, writes the part and its marker
    finish                              ◄── index, facts ──        reports that it is done

A worker writes its parts itself; only small results are sent back.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from merc.job import RunOptions

Facts_co = TypeVar("Facts_co", covariant=True)
_Facts = TypeVar("_Facts")
Advance = Callable[[int], object]
"""Receives progress, in the unit of the stage."""


class Parts(Protocol):
    """Source of a worker's parts. Not all need to be known, or ready, when the worker starts."""

    def take(self, *, wait: bool) -> int | None:
        """The next part.

        Args:
            wait: block until there is one. Only a worker with none in progress may wait, since the next part may depend
                on its own results.

        Returns:
            None if there is none at the moment or, with ``wait``, if there will be no more.
        """


class Listed:
    """Parts that are all ready, in order."""

    def __init__(self, indices: Iterable[int]) -> None:
        self._left = deque(indices)

    def take(self, *, wait: bool) -> int | None:
        return self._left.popleft() if self._left else None


@dataclass(frozen=True)
class Share:
    """The resources of a machine that a worker may use.

    Attributes:
        processes: number of processes that it may start.
        device: ``cpu`` or ``cuda:N``; resolved.
    """

    processes: int
    device: str


@dataclass(frozen=True)
class Needs:
    """The resources that a worker takes on a shared machine.

    Attributes:
        accelerated: whether it uses a GPU, if there is one.
        cores: ``one``; ``threads``, as many as torch uses here, on a CPU; or ``processes``, one for each process that
            the settings allow.
        memory_bytes: memory of the worker, or of each of its processes.
        parts_at_once: number of parts in progress, so that it need not wait for the next one.
    """

    accelerated: bool
    cores: Literal["one", "threads", "processes"]
    memory_bytes: int
    parts_at_once: int


class Opened(Protocol[Facts_co]):
    """A worker that has loaded what it needs."""

    def __call__(self, parts: Parts, advance: Advance, /) -> Generator[tuple[int, Facts_co], None, None]:
        """Processes part after part; yields the number of each finished part, with its file and marker written, and
        facts about it.
        """


class Work(Protocol[Facts_co]):
    """The work of a stage; picklable."""

    @property
    def name(self) -> str:
        """Name for messages."""

    @property
    def home(self) -> Path:
        """An existing folder, below which everything is written."""

    @property
    def needs(self) -> Needs:
        """The resources that each worker takes."""

    def is_done(self, index: int) -> bool:
        """Whether a part's file and marker exist."""

    def check(self) -> None:
        """Raises a :class:`merc.errors.PipelineError` if what it reads (raw files, a model) is not on this machine."""

    def open(self, share: Share) -> Opened[Facts_co]:
        """Loads what takes long to load, once for all parts of a worker.

        Raises:
            PipelineError: if it cannot be loaded.
        """


class Executor(Protocol):
    """Runs work."""

    def reach(self) -> None:
        """Makes sure that its machines answer, so that preparations for the first work are not in vain.

        Raises:
            PipelineError: if they do not; the message is meant for the user.
        """

    def map(self, work: Work[_Facts], parts: Parts, advance: Advance) -> Generator[tuple[int, _Facts], None, None]:
        """Processes all parts, in any order.

        Args:
            work: what to do; opened before this returns, so that errors in settings and models show before anything is
                written.
            parts: the parts to process.
            advance: called with progress.

        Returns:
            A generator of the number and the facts of each finished part. Closing it stops all workers; what they have
            finished is kept.

        Raises:
            PipelineError: whatever the work raises.
        """


def choose(run: RunOptions) -> Executor:
    """The executor requested by ``run``."""
    if run.executor == "ray":
        from merc.compute.executors.ray import OnRay

        return OnRay(run.address, run.device, run.workers, run.cores_per_worker, run.gpus_per_worker)
    from merc.compute.executors.local import Local

    return Local(run.workers, run.device)
