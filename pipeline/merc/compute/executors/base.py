"""What a stage hands over, and what runs it: parts that do not know of each other, done here or on many machines,
with byte-identical output.

    stage                          executor                        worker, one or many
    prepare ── work, parts ──►     map  ── work.open(share) ──►    loads what it works with
    for index, facts in …  ◄──          ── parts, one by one ──►   reads, computes, writes the part and its marker
    finish                              ◄── index, facts ──        says that it is done

A worker writes its parts itself; what comes back is small.
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
    """Where a worker takes its next part from. Not all need to be known, or ready, when it begins."""

    def take(self, *, wait: bool) -> int | None:
        """The next part.

        Args:
            wait: until there is one. Only a worker that has none in progress may wait: it might be its own results that
                are waited for.

        Returns:
            None if there is none now, or with ``wait`` if none will come.
        """


class Listed:
    """Parts that are all ready, in order."""

    def __init__(self, indices: Iterable[int]) -> None:
        self._left = deque(indices)

    def take(self, *, wait: bool) -> int | None:
        return self._left.popleft() if self._left else None


@dataclass(frozen=True)
class Share:
    """What a worker may use of its machine.

    Attributes:
        processes: how many it may start.
        device: ``cpu`` or ``cuda:N``; resolved.
    """

    processes: int
    device: str


@dataclass(frozen=True)
class Needs:
    """What a worker takes of a machine that it shares with others.

    Attributes:
        accelerated: a GPU, if there are any.
        cores: ``one``; ``threads``, as many as torch has threads here, on a CPU; or ``processes``, one for each of as
            many as the settings allow.
        memory_bytes: of the worker, or of each of its processes.
        parts_at_once: that it has in progress, so that it need not wait for the next one.
    """

    accelerated: bool
    cores: Literal["one", "threads", "processes"]
    memory_bytes: int
    parts_at_once: int


class Opened(Protocol[Facts_co]):
    """A worker that has loaded what it works with."""

    def __call__(self, parts: Parts, advance: Advance, /) -> Generator[tuple[int, Facts_co], None, None]:
        """Does part after part; gives the number of each that is done, its file and marker written, and what is to be
        known of it.
        """


class Work(Protocol[Facts_co]):
    """The work of a stage; can be pickled."""

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def home(self) -> Path:
        """A folder that is there, below which all is written."""

    @property
    def needs(self) -> Needs:
        """What each worker takes."""

    def is_done(self, index: int) -> bool:
        """Whether a part's file and marker are there."""

    def check(self) -> None:
        """Raises a :class:`merc.errors.PipelineError` if what it reads (raw files, a model) is not on this machine."""

    def open(self, share: Share) -> Opened[Facts_co]:
        """Loads what takes long, once for all parts of a worker.

        Raises:
            PipelineError: if it cannot be loaded.
        """


class Executor(Protocol):
    """Runs work."""

    def reach(self) -> None:
        """Makes sure that its machines answer, so that what is made before the first work is not made in vain.

        Raises:
            PipelineError: if they do not, in words for the user.
        """

    def map(self, work: Work[_Facts], parts: Parts, advance: Advance) -> Generator[tuple[int, _Facts], None, None]:
        """Does all parts, in any order.

        Args:
            work: what to do; opened before this returns, so that what is wrong with settings and models shows before
                anything is written.
            parts: whose parts to do.
            advance: called with progress.

        Returns:
            Gives the number and the facts of each part that is done. Closing it ends all workers; what they have
            finished stays.

        Raises:
            PipelineError: whatever the work raises.
        """


def choose(run: RunOptions) -> Executor:
    """The executor that ``run`` asks for."""
    if run.executor == "ray":
        from merc.compute.executors.ray import OnRay

        return OnRay(run.address, run.device, run.workers, run.cores_per_worker, run.gpus_per_worker)
    from merc.compute.executors.local import Local

    return Local(run.workers, run.device)
