"""What runs on a node of a cluster: a check whether it can do the work, and a worker that does it. Independent of the
engine that starts it.

driver                 worker (this process)
begin() ──────────►    thread: look, open the work, then
do(3), do(7) ─────►    queue ── take() ──► the work ── part done ──┐
Answer(facts)  ◄──     future of the part  ◄───────────────────────┘
"""

import logging.handlers
import os
import pickle
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import merc
from merc import files, provenance
from merc.compute.executors.base import Share
from merc.compute.pool import portable
from merc.errors import BadCluster, PipelineError
from merc.log import logger

# A file that was just written may become visible a little later through a network file system.
_PATIENCE_SECONDS = 2.0


@dataclass(frozen=True)
class Order:
    """What a worker must do, and how to check that it can.

    Attributes:
        work: pickled.
        identity: that of the driver's package, see :func:`identity`.
        token: a file that the driver has written to the output.
        word: its content.
        folder: the driver's current folder, which paths are relative to.
        share: what the worker may use.
        threads: number of torch's CPU threads; that of the driver, since sums over another number of threads differ in
            their last bits. 0: unchanged.
    """

    work: bytes
    identity: dict[str, str]
    token: Path
    word: str
    folder: Path
    share: Share
    threads: int


@dataclass(frozen=True)
class Answer:
    """A message from a worker.

    Attributes:
        facts: facts about a finished part.
        advanced: progress since the last answer.
        records: log records since the last answer.
        error: what the work raised; the worker is unusable afterwards.
        words: its traceback.
        node: node of the worker.
    """

    facts: Any = None
    advanced: int = 0
    records: tuple[logging.LogRecord, ...] = ()
    error: Exception | None = None
    words: str = ""
    node: str = ""


@cache
def identity() -> dict[str, str]:
    """What the bytes of a result depend on in addition to settings and inputs: versions of the libraries, and a digest
    of this package's sources.
    """
    folder = Path(merc.__file__).parent
    sources = {path.relative_to(folder).as_posix(): files.sha256(path) for path in sorted(folder.rglob("*.py"))}
    return {**provenance.versions(), "sources": files.digest(sources)[:12]}


def look(order: Order) -> PipelineError | None:
    """What is wrong with this machine: another version of the package, an inaccessible output, missing files of the
    work; None if nothing is.
    """
    try:
        _check(order)
    except PipelineError as error:
        return error
    return None


def _check(order: Order) -> Any:
    """The work, ready to be opened. Raises ``PipelineError``."""
    here = identity()
    differing = [
        f"{name} {here.get(name, 'missing')} instead of {wanted}"
        for name, wanted in order.identity.items()
        if here.get(name) != wanted
    ]
    if differing:
        raise BadCluster(
            f"it has {', '.join(differing)}; install the same version of merc-pipeline and its libraries on all nodes"
        )
    if not _reads(order.token, order.word):
        raise BadCluster(
            f"it does not see the output: {order.token.parent} must be on a file system that all nodes share, under"
            " the same path"
        )
    try:
        os.chdir(order.folder)
    except OSError as error:
        raise BadCluster(f"it has no folder {order.folder}, in which the command was run: {error.strerror}") from error
    try:
        work = pickle.loads(order.work)  # noqa: S301  (the driver wrote it)
    except ImportError as error:
        raise BadCluster(f"it cannot load the work: {error}") from error
    work.check()
    return work


def _reads(token: Path, word: str) -> bool:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            if token.read_text() == word:
                return True
        except OSError:
            pass
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)


class Worker:
    """Processes parts, several of which may be in progress; its methods are called from separate threads.

    Args:
        order: what to do.
        node: returns the engine's name of this machine.
    """

    def __init__(self, order: Order, node: Callable[[], str]) -> None:
        self._node = node()
        vars(sys.modules["__main__"]).pop(
            "__file__", None
        )  # processes started here would otherwise import the engine's main module
        self._order = order
        self._queue: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._ended = False
        self._ready: Future[None] = Future()
        self._under_way: dict[int, Future[Any]] = {}
        self._error: Exception | None = None
        self._lock = threading.Lock()
        self._advanced = 0
        self._log = _Kept()
        logger.handlers[:], logger.propagate = [self._log], False
        logger.setLevel(logging.INFO)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def begin(self) -> Answer:
        """Waits until the work is opened."""
        return self._answer(self._ready)

    def do(self, index: int) -> Answer:
        """Processes a part."""
        done: Future[Any] = Future()
        with self._lock:
            if self._error is None:
                self._under_way[index] = done
                self._queue.put(index)
            else:
                done.set_exception(self._error)
        return self._answer(done)

    def finish(self) -> Answer:
        """Ends the work when all parts are done."""
        self._queue.put(None)
        self._thread.join()
        return self._answer(self._ready)

    def take(self, *, wait: bool) -> int | None:
        """The next part; see :class:`merc.compute.executors.base.Parts`."""
        try:
            index = None if self._ended else self._queue.get(block=wait)
        except queue.Empty:
            return None
        self._ended = self._ended or index is None
        return index

    def _serve(self) -> None:
        try:
            opened = self._open()
            self._ready.set_result(None)
            for index, facts in opened(self, self._advance):
                self._under_way.pop(index).set_result(facts)
        except Exception as error:  # the driver decides what to do about it
            with self._lock:
                self._error = error
                for future in [one for one in (self._ready, *self._under_way.values()) if not one.done()]:
                    future.set_exception(error)

    def _open(self) -> Any:
        work = _check(self._order)
        if self._order.threads:
            import torch

            torch.set_num_threads(self._order.threads)
        return work.open(self._order.share)

    def _advance(self, count: int) -> None:
        with self._lock:
            self._advanced += count

    def _answer(self, future: Future[Any]) -> Answer:
        facts, raised, words = None, None, ""
        try:
            facts = future.result()
        except Exception as error:  # the driver decides what to do about it
            raised, words = portable(error), traceback.format_exc()
        with self._lock:
            advanced, self._advanced = self._advanced, 0
            records, self._log.records = tuple(self._log.records), []
        return Answer(facts, advanced, records, raised, words, self._node)


class _Kept(logging.handlers.QueueHandler):
    """Keeps log records until they are sent."""

    def __init__(self) -> None:
        super().__init__(queue.SimpleQueue())
        self.records: list[logging.LogRecord] = []

    def enqueue(self, record: logging.LogRecord) -> None:
        self.records.append(record)
