"""Worker processes: results in order, few of them in memory, and no worker left behind however the run ends."""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import TypeVar

from pipeline.errors import PipelineError

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

# Tasks begun ahead of the one whose result is next: enough that a long dialogue at the head keeps no worker idle, few
# enough that finished results (about 1 MB a dialogue) stay small beside the libraries of the workers.
_AHEAD_PER_WORKER = 8
# Read by OpenMP, OpenBLAS and MKL when a process starts. Workers are the parallelism; threads on top would fight for the
# same cores, and sums over another number of threads differ in their last bits.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def in_order(function: Callable[[_Task], _Result], tasks: Sequence[_Task], workers: int, *, apart: bool = False) -> Generator[_Result, None, None]:
    """Computes ``function`` of every task in worker processes and yields the results in the tasks' order.

    Workers are new processes and never forks of this one, whose threads and locks they would inherit half alive. Each has
    one thread for linear algebra. They end with this process, also when it is killed.

    Args:
        function: a module's function; it and the tasks can be pickled. A task's ``str`` names it in messages.
        tasks: in order.
        workers: how many processes, at least one.
        apart: a single worker is a process of its own, too, so that one worker and many compute under the same conditions;
            otherwise it is this process.

    Raises:
        PipelineError: if a worker died (killed for its memory, or a crash inside a library), naming what it may have been at.
    """
    if not apart and (workers <= 1 or len(tasks) <= 1):
        yield from map(function, tasks)
        return
    context = get_context("spawn")
    workers = max(1, min(workers, len(tasks)))
    receiver, lifeline = context.Pipe(duplex=False)
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(receiver,))
    begun: deque[tuple[_Task, Future[_Result]]] = deque()
    rest = iter(tasks)
    finished = False
    try:
        while True:
            for task in rest:
                with _single_threaded_children():
                    begun.append((task, executor.submit(function, task)))
                if len(begun) >= workers * _AHEAD_PER_WORKER:
                    break
            if not begun:
                break
            result = begun[0][1].result()
            begun.popleft()
            yield result
        finished = True
    except BrokenProcessPool as error:
        # Tasks are begun in order, so those that were being worked on are the first that have no result.
        lost = [str(task) for task, future in begun if future.done() and isinstance(future.exception(), BrokenProcessPool)] or [str(begun[0][0])]
        raise PipelineError(
            "a worker process died (out of memory, or a crash inside a library) while these were being done:\n  "
            + "\n  ".join(lost[:workers])
            + "\nWhat was finished is kept; with fewer --workers or more memory the same command goes on from there."
        ) from error
    finally:
        if finished:
            executor.shutdown()
        lifeline.close()  # whoever still works ends at once
        executor.shutdown(cancel_futures=True)
        receiver.close()


def _begin(lifeline: Connection) -> None:
    """Runs first in each worker: Ctrl-C is for the parent to handle, and the worker ends when the parent lets go of the lifeline."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()


def _end_with(lifeline: Connection) -> None:
    wait([lifeline])  # nothing is ever sent: it becomes readable when its other end is closed, also by the death of the parent
    os._exit(1)


@contextmanager
def _single_threaded_children() -> Iterator[None]:
    """Processes that are started inside have one thread for linear algebra; this one keeps its own."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def stoppable() -> Iterator[None]:
    """Makes SIGTERM end the block as Ctrl-C does, so that workers are ended and finished parts stay; main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
