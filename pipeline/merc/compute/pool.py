"""Worker processes: each has one task at a time, so that a task that crashes or hangs is known, and no other is lost.

    this process                              worker (a new process, never a fork)
    queue ── the heaviest first ──► task ───► function(task)
      ▲                             answer ◄──┘
      └── once more, in a new worker ◄── died, or over its time limit

No worker is left behind however the run ends: each ends with this process, even if that is killed.
"""

import heapq
import math
import os
import pickle
import signal
import threading
import time
import traceback
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar

from merc.errors import PipelineError

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

# Tasks started ahead of the one whose result is next: enough that a long dialogue at the head keeps no worker idle, few
# enough that finished results (about 1 MB per dialogue) stay small compared to the libraries of the workers.
AHEAD_PER_WORKER = 8
# Read by OpenMP, OpenBLAS and MKL when a process starts. Parallelism comes from the workers; additional threads would
# compete for the same cores, and sums over another number of threads differ in their last bits.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

# Time is counted in ticks, and a tick counts no more than this, however long it really took: after a suspended machine
# or a run stopped with Ctrl-Z, no task counts as late.
_TICK_SECONDS = 1.0
# Importing torch from a slow disk takes minutes; a worker that needs longer will never start.
_START_SECONDS = 600.0
# Number of consecutive workers that may end before they are ready until this counts as a permanent fault.
_STARTS = 3
_FAREWELL_SECONDS = 5.0
_LOOK_SECONDS = 0.005
# An answer: these bytes, its length, its checksum, its pickle. A runaway decoder may write to any file of its process,
# including this pipe, and what it writes must be neither trusted nor waited for.
_MAGIC = b"merc"
_HEADER_BYTES = len(_MAGIC) + 8 + 4
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Lost:
    """The outcome of a failed task.

    Attributes:
        why: ``crashed`` (its process died, or cut the connection), ``timeout``, or ``raised``.
        words: message; always the same for the same failure.
        error: the exception that was raised.
    """

    why: Literal["crashed", "timeout", "raised"]
    words: str
    error: Exception | None = None


@dataclass(order=True)
class _Order(Generic[_Task]):
    """A task in the queue: heaviest first, otherwise in order of arrival."""

    rank: tuple[float, int]
    key: int = field(compare=False)
    task: _Task = field(compare=False)
    limit_seconds: float = field(compare=False)
    failed: int = field(default=0, compare=False)


class Crew(Generic[_Task, _Result]):
    """Worker processes that take tasks from a queue. A context manager: at its end they are gone.

    A worker has one thread for linear algebra and leaves Ctrl-C to this process. One that dies, hangs or breaks its
    connection only loses its own task, and is replaced.

    Args:
        function: a module-level function; it, the tasks and the results must be picklable.
        workers: maximum number of processes; they are started when there is work.
        attempts: how often a task is tried if its worker dies or is killed for taking too long. The second attempt is
            in a new process: the system may have killed the first one because of another's memory use, or an earlier
            clip may have corrupted the decoder.
    """

    def __init__(self, function: Callable[[_Task], _Result], workers: int, attempts: int = 1) -> None:
        self._function = function
        self._most = max(1, workers)
        self._attempts = attempts
        self._context = get_context("spawn")
        self._queue: list[_Order[_Task]] = []
        self._count = 0
        self._workers: list[_Worker[_Task]] = []
        self._outcomes: deque[tuple[int, _Result | Lost]] = deque()
        self._stillborn = 0
        self._receiver, self._lifeline = self._context.Pipe(duplex=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.dismiss(at_once=kind is not None)
        for worker in self._workers:
            worker.end()
        self._lifeline.close()
        self._receiver.close()

    def submit(self, key: int, task: _Task, *, weight: float = 0.0, limit_seconds: float = float("inf")) -> None:
        """Puts a task into the queue.

        Args:
            key: identifies the outcome.
            task: the function's argument.
            weight: the heaviest task in the queue is started first.
            limit_seconds: a worker that takes longer is killed.
        """
        heapq.heappush(self._queue, _Order((-weight, self._count), key, task, limit_seconds))
        self._count += 1

    def next_outcome(self) -> tuple[int, "_Result | Lost"]:
        """Waits until any task is done: its key, and its result or failure.

        Raises:
            PipelineError: if workers cannot even start.
            IndexError: if there is no task.
        """
        while not self._outcomes:
            self._hand_out()
            if not self._workers:
                raise IndexError("no task is left to wait for")
            before = time.monotonic()
            ready = wait([worker.answers for worker in self._workers], timeout=_TICK_SECONDS)
            passed = min(time.monotonic() - before, _TICK_SECONDS)
            for worker in [one for one in self._workers if one.answers in ready]:
                self._hear(worker)
            for worker in [one for one in self._workers if one.grows_too_old(passed)]:
                self._give_up(worker, "timeout")
        return self._outcomes.popleft()

    def _hand_out(self) -> None:
        """Gives work to idle workers, and starts workers while there is more work than workers."""
        for worker in [one for one in self._workers if one.idle]:
            order = worker.first or (heapq.heappop(self._queue) if self._queue else None)
            if order is not None and not worker.give(order):
                self._give_up(worker, "crashed")
        starting = sum(not worker.began and worker.first is None for worker in self._workers)
        while len(self._workers) < self._most and starting < len(self._queue):
            self._start()
            starting += 1

    def _start(self, first: "_Order[_Task] | None" = None) -> None:
        self._workers.append(_Worker(self._context, self._function, self._receiver, first))

    def _hear(self, worker: "_Worker[_Task]") -> None:
        try:
            answer = worker.read()
        except ConnectionError as error:
            self._give_up(worker, "crashed", str(error))
            return
        if answer is None:
            return
        if not worker.began:
            worker.began = True
            self._stillborn = 0
            return
        order, worker.order = worker.order, None
        if order is None:  # it had no task
            self._give_up(worker, "crashed", "it sent an unexpected answer")
            return
        failed, value, words = answer
        self._outcomes.append((order.key, Lost("raised", words, value) if failed else value))

    def _give_up(self, worker: "_Worker[_Task]", why: Literal["crashed", "timeout"], words: str = "") -> None:
        """Ends a worker; its task goes to a new one, or is lost."""
        ended = worker.kill()
        how = words or ended or "its process closed the connection"
        self._workers.remove(worker)
        order = worker.order
        if order is None:
            if not worker.began:
                self._try_again(worker, how)
            return
        order.failed += 1
        if order.failed < self._attempts:
            self._start(order)
            return
        times = "" if self._attempts == 1 else f", {self._attempts} times"
        words = f"not done within {order.limit_seconds:.0f} s{times}" if why == "timeout" else f"{how}{times}"
        self._outcomes.append((order.key, Lost(why, words)))

    def _try_again(self, worker: "_Worker[_Task]", how: str) -> None:
        """Replaces a worker that could not start: the system may have killed it because of another's memory use."""
        self._stillborn += 1
        if self._stillborn >= _STARTS:
            raise PipelineError(
                f"{_STARTS} worker processes in a row could not start ({how}); their output, if any, is above"
            )
        self._start(worker.first)


class _Worker(Generic[_Task]):
    """A worker process as seen from outside.

    Attributes:
        answers: becomes readable when the worker has sent something, or died.
        began: whether it has reported that it is ready.
        first: the task that it was started for; None: any task.
        order: its current task.
    """

    def __init__(
        self, context: Any, function: Callable[[_Task], Any], lifeline: Connection, first: _Order[_Task] | None
    ) -> None:
        tasks, self._tasks = context.Pipe(duplex=False)
        self.answers, answers = context.Pipe(duplex=False)
        self._process: SpawnProcess = context.Process(
            target=_serve, args=(function, tasks, answers, lifeline), daemon=True
        )
        with _single_threaded_children():
            self._process.start()
        # The worker has the only copies now, so that its death is the end of both pipes.
        tasks.close()
        answers.close()
        self.began = False
        self.first = first
        self.order: _Order[_Task] | None = None
        self._age_seconds = 0.0
        self._heard = bytearray()

    @property
    def idle(self) -> bool:
        return self.began and self.order is None

    def give(self, order: _Order[_Task]) -> bool:
        """Sends a task; False if the worker is no longer there."""
        self.first, self.order, self._age_seconds = None, order, 0.0
        try:
            self._tasks.send(order.task)
        except OSError:
            return False
        return True

    def grows_too_old(self, passed_seconds: float) -> bool:
        """Counts time; True once the worker has taken too long."""
        self._age_seconds += passed_seconds
        if not self.began:
            return self._age_seconds > _START_SECONDS
        return self.order is not None and self._age_seconds > self.order.limit_seconds

    def read(self) -> Any:
        """Reads what has arrived, without waiting for more: an answer, or None if it is not complete yet.

        Raises:
            ConnectionError: if the worker died, closed the pipe, or what came is not an answer.
        """
        chunk = os.read(self.answers.fileno(), _READ_BYTES)
        if not chunk:
            raise ConnectionError("")
        self._heard += chunk
        if not self._heard.startswith(_MAGIC[: len(self._heard)]):
            raise ConnectionError("it wrote something other than an answer")
        if len(self._heard) < _HEADER_BYTES:
            return None
        length, checksum = int.from_bytes(self._heard[4:12]), int.from_bytes(self._heard[12:16])
        if len(self._heard) < _HEADER_BYTES + length:
            return None
        content = bytes(self._heard[_HEADER_BYTES : _HEADER_BYTES + length])
        if zlib.crc32(content) != checksum or len(self._heard) > _HEADER_BYTES + length:
            raise ConnectionError("it wrote something other than an answer")
        self._heard.clear()
        return pickle.loads(content)  # noqa: S301  (our own process wrote it, and the checksum matches)

    def dismiss(self, *, at_once: bool) -> None:
        """Tells an idle worker that there is nothing more to do; ``at_once``: it abandons its current task."""
        self._tasks.close()
        if at_once:
            self._process.kill()

    def kill(self) -> str:
        """Ends the worker at once.

        Returns:
            How it had already ended before; empty if it had not.
        """
        if not self._ended_within(0.1):  # one that has just died gets time to report its exit code
            self._process.kill()
            self.end()
            return ""
        code = self.end()
        if code is not None and code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            return (
                "its process was killed by"
                f" {name}{' (as the system does when memory runs out)' if -code == signal.SIGKILL else ''}"
            )
        return f"its process ended with exit code {code}"

    def end(self) -> int | None:
        """Waits for the end, kills the process after a while, and closes the pipes; returns the exit code."""
        if not self._ended_within(_FAREWELL_SECONDS):
            self._process.kill()
            self._ended_within(
                _FAREWELL_SECONDS
            )  # one stuck in the kernel, such as in a read from a dead disk, cannot be waited for
        code = self._process.exitcode
        self._tasks.close()
        self.answers.close()
        return code

    def _ended_within(self, seconds: float) -> bool:
        # Not join(seconds): it checks whether a pipe is closed and then waits without limit, and a decoder may close
        # every pipe.
        for _ in range(math.ceil(seconds / _LOOK_SECONDS)):
            if not self._process.is_alive():
                return True
            time.sleep(_LOOK_SECONDS)
        return not self._process.is_alive()


def _serve(function: Callable[[Any], Any], tasks: Connection, answers: Connection, lifeline: Connection) -> None:
    """The main function of a worker: reports that it is ready, then answers task after task until there are no more."""
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # sent to all processes of a terminal or a service; the parent handles them
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    _answer(answers, (False, None, ""))
    while True:
        try:
            task = tasks.recv()
        except EOFError:
            return
        try:
            answer = (False, function(task), "")
        except Exception as error:  # the parent decides what to do about it
            answer = (True, portable(error), traceback.format_exc())
        _answer(answers, answer)
        del task, answer  # free the memory while waiting for the next one


def _end_with(lifeline: Connection) -> None:
    wait(
        [lifeline]
    )  # nothing is ever sent: it becomes readable when its other end is closed, even by the parent's death
    os._exit(1)


def _answer(answers: Connection, answer: tuple[bool, Any, str]) -> None:
    try:
        content = pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # an unpicklable result raises whatever its own pickling code raises
        content = pickle.dumps((True, portable(error), traceback.format_exc()))
    message = memoryview(_MAGIC + len(content).to_bytes(8) + zlib.crc32(content).to_bytes(4) + content)
    while message:
        message = message[os.write(answers.fileno(), message) :]


def portable(error: Exception) -> Exception:
    """The error or, if it cannot be sent, another one with the same message."""
    try:
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:  # whatever an exception's own pickling code raises
        return RuntimeError(f"{type(error).__name__}: {error}")
    return copy if type(copy) is type(error) else RuntimeError(f"{type(error).__name__}: {error}")


def in_order(
    function: Callable[[_Task], _Result], tasks: Sequence[_Task], workers: int, *, apart: bool = False
) -> Generator[_Result, None, None]:
    """Computes ``function`` of every task in worker processes and yields the results in the tasks' order.

    Args:
        function: a module-level function; it and the tasks must be picklable. A task's ``str`` names it in messages.
        tasks: in order.
        workers: number of processes, at least one.
        apart: run even a single worker in a separate process, so that one worker and many compute under the same
            conditions; otherwise a single worker is this process.

    Raises:
        PipelineError: if a worker died (killed for its memory use, or a crash inside a library); the message names its
            task.
    """
    if not apart and (workers <= 1 or len(tasks) <= 1):
        yield from map(function, tasks)
        return
    workers = max(1, min(workers, len(tasks)))
    done: dict[int, _Result] = {}
    begun = 0
    with Crew(function, workers) as crew:
        for index in range(len(tasks)):
            while index not in done:
                for key in range(begun, min(len(tasks), index + workers * AHEAD_PER_WORKER)):
                    crew.submit(key, tasks[key])
                    begun = key + 1
                key, outcome = crew.next_outcome()
                done[key] = result_of(outcome, tasks[key])
            yield done.pop(index)


def result_of(outcome: "_Result | Lost", task: object) -> Any:
    """The result of a task.

    Raises:
        PipelineError: if its worker died; the message names the task.
        Exception: whatever it raised.
    """
    if not isinstance(outcome, Lost):
        return outcome
    if outcome.error is not None:
        raise outcome.error from RuntimeError(f"in a worker process:\n{outcome.words}")
    raise PipelineError(
        f"a worker process died (out of memory, or a crash inside a library) while this was being done:\n  {task}:"
        f" {outcome.words}\nFinished work is kept; run the same command again with fewer --workers or more memory to"
        " resume."
    )


@contextmanager
def _single_threaded_children() -> Iterator[None]:
    """Processes started inside have one thread for linear algebra; this process keeps its number."""
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
