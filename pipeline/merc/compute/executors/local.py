"""The executor of one machine: the work is opened in this process, and starts processes of its own where it computes in
several.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

from merc.compute import device, pool
from merc.compute.executors.base import Advance, Opened, Parts, Share, Work
from merc.interrupts import stoppable

_Facts = TypeVar("_Facts")
_Task = TypeVar("_Task")


@dataclass(frozen=True)
class Local:
    """Runs work here.

    Attributes:
        workers: processes at most.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; for work that needs one.
    """

    workers: int
    device: str

    def reach(self) -> None:
        """See :meth:`merc.compute.executors.base.Executor.reach`; this machine answers."""

    def map(self, work: Work[_Facts], parts: Parts, advance: Advance) -> Generator[tuple[int, _Facts], None, None]:
        """See :meth:`merc.compute.executors.base.Executor.map`."""
        opened = work.open(Share(self.workers, device.resolve(self.device) if work.needs.accelerated else "cpu"))
        return _run(opened, parts, advance)


def _run(opened: Opened[_Facts], parts: Parts, advance: Advance) -> Generator[tuple[int, _Facts], None, None]:
    with stoppable():
        yield from opened(parts, advance)


def in_processes(
    function: Callable[[_Task], _Facts], task_of: Callable[[int], _Task], parts: Parts, processes: int
) -> Generator[tuple[int, _Facts], None, None]:
    """Does each part as one task of a worker process; also a single one is a process of its own, so that one and many
    compute under the same conditions.

    Args:
        function: a module's function; it and the tasks can be pickled.
        task_of: the task of a part; its ``str`` names it in messages.
        parts: whose parts to do.
        processes: how many, at least one.

    Raises:
        PipelineError: if a process dies (killed for its memory, a crash in native code), naming what it was at.
    """
    tasks: dict[int, _Task] = {}
    with pool.Crew(function, processes) as crew:
        while True:
            while len(tasks) < processes * pool.AHEAD_PER_WORKER and (index := parts.take(wait=not tasks)) is not None:
                tasks[index] = task_of(index)
                crew.submit(index, tasks[index])
            if not tasks:
                return
            index, outcome = crew.next_outcome()
            yield index, pool.result_of(outcome, tasks.pop(index))
