"""What the workers of the tests are asked to do; a worker imports this module by name, so it imports as little as
possible.
"""

import contextlib
import os
import signal
import time
from multiprocessing import resource_tracker
from pathlib import Path

from merc.errors import BadSettings

if mark := os.environ.get("DIES_ONCE_AT_IMPORT"):
    with contextlib.suppress(FileExistsError):
        Path(mark).touch(exist_ok=False)
        os.kill(os.getpid(), signal.SIGKILL)


class Stubborn(Exception):
    """Cannot be unpickled: its arguments are not those of its constructor."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("stubborn")


def run(errand: str) -> object:
    """Does what the errand's first word says; ``say X`` returns X."""
    what, _, rest = errand.partition(" ")
    return _ERRANDS[what](rest)


def _once(rest: str) -> str:
    """Dies the first time, and returns its word the second time; ``rest``: a file that records both processes, and the
    word.
    """
    path, _, word = rest.partition(" ")
    second = os.path.exists(path)  # noqa: PTH110
    with open(path, "a") as file:  # noqa: PTH123
        file.write(f"{os.getpid()}\n")
    if not second:
        os.kill(os.getpid(), signal.SIGKILL)
    return word


def _note(rest: str) -> str:
    """Appends its word and the process's id to a file."""
    path, _, word = rest.partition(" ")
    with open(path, "a") as file:  # noqa: PTH123
        file.write(f"{word} {os.getpid()}\n")
    return word


def _stay(rest: str) -> None:
    """Writes to a file like ``note``, and never ends."""
    _note(rest)
    time.sleep(1000)


def _sleep(seconds: str) -> None:
    time.sleep(float(seconds))


def _segfault(_: str) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _raise(word: str) -> None:
    raise LookupError(word)


def _raise_settings(word: str) -> None:
    raise BadSettings(f"the settings are wrong: {word}")


def _raise_stubborn(_: str) -> None:
    raise Stubborn(1, 2)


def _close_everything(_: str) -> None:
    os.closerange(3, 200)


def _write_everywhere(content: bytes) -> None:
    """Writes to every file descriptor of the process that can be written to, except the pipe of Python's own resource
    tracker, which all processes share.
    """
    for number in range(3, 200):
        if number != resource_tracker.getfd():
            with contextlib.suppress(OSError):
                os.write(number, content)


def _scribble(_: str) -> str:
    _write_everywhere(b"\xff" * 100)
    return "scribbled"


def _half_an_answer(_: str) -> None:
    """Starts what looks like an answer, and never finishes it."""
    _write_everywhere(b"merc" + (10**9).to_bytes(8) + bytes(4))
    time.sleep(1000)


_ERRANDS = {
    "say": lambda rest: rest,
    "once": _once,
    "note": _note,
    "stay": _stay,
    "sleep": _sleep,
    "segfault": _segfault,
    "exit": lambda rest: os._exit(int(rest)),
    "raise": _raise,
    "settings": _raise_settings,
    "raise-stubborn": _raise_stubborn,
    "unpicklable": lambda rest: lambda: rest,
    "close": _close_everything,
    "scribble": _scribble,
    "half": _half_an_answer,
    "big": lambda rest: bytes(int(rest)),
    "threads": lambda rest: {
        name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    },
}
