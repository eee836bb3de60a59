"""One process at a time writes to an output; a second one reports the first, or waits."""

import errno
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from merc import files
from merc.errors import CannotWrite, OutputInUse
from merc.log import logger

if TYPE_CHECKING:
    from filelock import FileLock

_POLL_SECONDS = 0.5
# Errors of file systems without locks: NFS without its lock daemon, some FUSE mounts.
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP}


def of_share(output: Path, number: int, of: int) -> Path:
    """The lock of a process that makes one of several shares of ``output``."""
    return output / f"part-{number}-of-{of}"


@contextmanager
def held(output: Path, *, wait: bool = False, beside_shares: bool = False) -> Iterator[None]:
    """Keeps other processes that use this lock from writing to ``output`` while the block runs.

    The lock is one of the operating system, on a file next to ``output``: it disappears with the process, however that
    ends. NFS passes it on to the server. On a file system without locks there is none, which is logged.

    Args:
        output: a folder, or a file; need not exist.
        wait: wait until the other process has finished instead of giving up.
        beside_shares: allow other processes that make their shares of it (:func:`of_share`).

    Raises:
        OutputInUse: if another process writes there; the message says which, on which machine, and since when.
        CannotWrite: if the file next to ``output`` cannot be made.
    """
    from filelock import FileLock  # takes as long to import as the rest of a command that has nothing to do

    lock = FileLock(output.parent / f".{output.name}.lock", fallback_to_soft=False)
    made = [folder for folder in output.parents if not folder.exists()]
    if not _acquired(lock, output, wait):
        logger.warning(
            "%s is on a file system without locks: nothing prevents two runs from writing there at once",
            output,
            extra={"output": str(output)},
        )
        yield
        return
    path = Path(lock.lock_file)
    try:
        if not beside_shares:
            _outlast_shares(output, wait)
        with files.writing(output):
            path.write_text(
                json.dumps(
                    {
                        "process": os.getpid(),
                        "host": socket.gethostname(),
                        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
                    }
                )
            )
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: a waiting process sees that it is gone, and makes a new one
        lock.release()
        with suppress(OSError):  # the block has written to the folders
            for folder in made:
                folder.rmdir()


def _outlast_shares(output: Path, wait: bool) -> None:
    """Returns when no process is making a share of ``output``; meanwhile ``output`` is locked, so that none starts one.
    Raises ``OutputInUse``.
    """
    from filelock import FileLock

    for path in (
        sorted(output.glob(f".{of_share(output, 0, 0).name.replace('0', '*')}.lock")) if output.is_dir() else []
    ):
        lock = FileLock(path, fallback_to_soft=False)
        if _acquired(lock, path.with_name(path.name.removeprefix(".").removesuffix(".lock")), wait):
            path.unlink(missing_ok=True)
            lock.release()


def _acquired(lock: "FileLock", output: Path, wait: bool) -> bool:
    """Takes the lock; False if the file system has none."""
    from filelock import Timeout

    path = Path(lock.lock_file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        if not wait:
            raise OutputInUse(
                f"{output}: {_holder(path)} is writing there; run again when it has finished, or with --wait"
            ) from error
        logger.info(
            "%s: %s is writing there; waiting until it has finished",
            output,
            _holder(path),
            extra={"output": str(output)},
        )
        lock.acquire(timeout=-1, poll_interval=_POLL_SECONDS)
    except NotImplementedError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise CannotWrite(files.cannot_write(output, error)) from error
        return False
    return True


def _holder(path: Path) -> str:
    try:
        facts = json.loads(path.read_text())
        return f"process {facts['process']} on {facts['host']}, since {facts['since']},"
    except (OSError, ValueError, TypeError, KeyError):  # it has not written this yet, or has just finished
        return "another process"
