"""SIGTERM, as a batch system sends it, ends a run as Ctrl-C does: what is finished stays."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stoppable() -> Iterator[None]:
    """Makes SIGTERM end the block as Ctrl-C does, so that workers are ended and finished parts stay. Of the main thread
    alone, as signals are.
    """
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
