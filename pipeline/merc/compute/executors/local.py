"""The executor for one machine: the work is opened in this process, and starts further processes if it uses several."""

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
        workers: maximum number of processes.
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
    """Processes each part as one task of a worker process; even a single worker is a separate process, so that one and
    many compute under the same conditions.

    Args:
        function: a module-level function; it and the tasks must be picklable.
        task_of: the task of a part; its ``str`` names it in messages.
        parts: the parts to process.
        processes: number of processes, at least one.

    Raises:
        PipelineError: if a process dies (killed for its memory use, a crash in native code); the message names its
            task.
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
