"""Commands in which the n-th operation fails, or the process is killed at it, as in SQLite's tests.

Each run is a fork of this process, so that nothing is imported again, and its operations are counted:

    write       opening a file to write, and each row group: half of it is written, then the disk is full
    rename      of files and folders
    remove      of files and folders
    sync        fsync
    allocate    numpy arrays and concatenated Arrow tables: the first and the last from each place in the code, since a
                loop meets the same handler each time; killed where the files differ from those at the previous
                allocation

The effect of a power cut is not simulated: what a killed fork has handed to the system remains.
"""

import builtins
import errno
import hashlib
import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from click.testing import CliRunner

from merc import timing

Kind = Literal["write", "rename", "remove", "sync", "allocate"]
How = Literal["fail", "kill"]
KINDS: tuple[Kind, ...] = ("write", "rename", "remove", "sync", "allocate")
# A documented exit code means that the user got a message; so does 1, if there was no traceback.
TOLD = {0, 1, 2, 3, 4, 5, 6, 7, 130}


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        code: exit code of the command; None if it was killed.
        counts: operations of each kind up to then.
        files_at: how many file operations came before each allocation.
        lines_at: the place in the code each came from, as a number.
        words: its output, with the traceback of an unexpected error.
        unexpected: whether it ended with such an error.
    """

    code: int | None
    counts: dict[str, int]
    words: str = ""
    unexpected: bool = False
    files_at: Sequence[int] = ()
    lines_at: Sequence[int] = ()

    def places(self, kind: Kind, how: How) -> list[int]:
        """Numbers of the operations of a kind at which a run is disturbed: all, but only those allocations that differ;
        see the head of this file.
        """
        every = range(1, self.counts[kind] + 1)
        if kind != "allocate":
            return list(every)
        if how == "kill":
            return [number for number in every if number == 1 or self.files_at[number - 1] != self.files_at[number - 2]]
        first = {line: number for number, line in zip(reversed(every), reversed(self.lines_at), strict=True)}
        last = dict(zip(self.lines_at, every, strict=True))
        return sorted({*first.values(), *last.values()})


def run(
    command: click.Command,
    arguments: Sequence[str],
    folder: Path,
    kind: Kind | None = None,
    number: int = 0,
    how: How = "fail",
) -> Ended:
    """Runs a command in a fork of this process.

    Args:
        command: one of the package's.
        arguments: its arguments.
        folder: the working directory.
        kind: kind of the operation that fails; None: none does.
        number: which of that kind, from 1.
        how: whether it fails or the process is killed in it.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        os.close(reader)
        _child(command, arguments, folder, _Faults(kind, number, how), writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        content = answers.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return Ended(None, {})
    return Ended(**json.loads(content))


def _child(command: click.Command, arguments: Sequence[str], folder: Path, faults: "_Faults", writer: int) -> None:
    """Never returns."""
    try:
        os.chdir(folder)
        _in_this_process()
        faults.install()
        result = CliRunner().invoke(command, list(arguments))
        faults.kind = None
        error = result.exception
        unexpected = error is not None and not isinstance(error, SystemExit)
        words = result.output + ("".join(traceback.format_exception(error)) if unexpected else "")
        answer = {
            "code": result.exit_code,
            "counts": faults.counts,
            "words": words[-8000:],
            "unexpected": unexpected,
            "files_at": faults.files_at,
            "lines_at": faults.lines_at,
        }
    except BaseException:  # from the harness itself
        answer = {"code": 99, "counts": {}, "words": traceback.format_exc(), "unexpected": True}
    os.write(writer, json.dumps(answer).encode())
    os._exit(0)


def _in_this_process() -> None:
    """Encoders that would run in worker processes run in this one, so that their operations are counted."""
    from merc.compute import pool
    from merc.extraction import runner

    def in_processes(function: Callable[[Any], Any], task_of: Callable[[int], Any], parts: Any, processes: int) -> Any:
        while (index := parts.take(wait=True)) is not None:
            yield index, function(task_of(index))

    def in_order(function: Callable[[Any], Any], tasks: Sequence[Any], workers: int, *, apart: bool = False) -> Any:
        yield from map(function, tasks)

    pool.in_order = in_order  # type: ignore[assignment]
    runner.in_processes = in_processes  # type: ignore[assignment]


def _place() -> int:
    """A number for the stack of lines being run, from the innermost outwards."""
    lines, frame = [], sys._getframe(1)
    while frame is not None and not frame.f_code.co_filename.endswith("click/testing.py"):
        lines.append((frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back  # type: ignore[assignment]
    return hash(tuple(lines))


class _Faults:
    def __init__(self, kind: Kind | None, number: int, how: How) -> None:
        self.kind, self.number, self.how = kind, number, how
        self.counts = dict.fromkeys(KINDS, 0)
        self.files_at: list[int] = []
        self.lines_at: list[int] = []

    def due(self, kind: Kind) -> bool:
        """Counts an operation; true if it is the one to disturb."""
        if kind == "allocate":
            self.files_at.append(sum(self.counts.values()) - self.counts[kind])
            self.lines_at.append(_place())
        self.counts[kind] += 1
        return kind == self.kind and self.counts[kind] == self.number

    def strike(self) -> None:
        """Kills this process, or fails as a full disk does."""
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "allocate":
            raise MemoryError("an array of this size")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def install(self) -> None:
        """Wraps the operations of this process."""
        for name in ("rename", "replace"):
            setattr(os, name, self._before("rename", getattr(os, name)))
        for name in ("unlink", "rmdir"):
            setattr(os, name, self._before("remove", getattr(os, name)))
        os.fsync = self._before("sync", lambda _descriptor: None)
        for name in ("zeros", "empty", "concatenate"):
            setattr(np, name, self._before("allocate", getattr(np, name)))
        pa.concat_tables = self._before("allocate", pa.concat_tables)
        plain = io.open

        def opened(file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
            if set(mode) & set("wxa") and self.due("write"):
                with plain(file, "wb") as half:
                    half.write(b"half of what ")
                self.strike()
            return plain(file, mode, *arguments, **named)

        io.open = builtins.open = opened  # type: ignore[assignment]
        write_table = pq.ParquetWriter.write_table

        def half_of_it(writer: Any, table: pa.Table, *arguments: Any, **named: Any) -> Any:
            if self.due("write"):
                write_table(writer, table.slice(0, table.num_rows // 2), *arguments, **named)
                self.strike()
            return write_table(writer, table, *arguments, **named)

        pq.ParquetWriter.write_table = half_of_it

    def _before(self, kind: Kind, operation: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            if self.due(kind):
                self.strike()
            return operation(*arguments, **named)

        return counted


def tree(folder: Path, without: Sequence[str] = ()) -> dict[str, str]:
    """Path → sha256 of every file below a folder, including hidden ones; except those that ``without`` names (parts of
    the path) and the times of epochs.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not any(part in (timing.FOLDER, *without) for part in path.relative_to(folder).parts):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def half_written(folder: Path) -> list[str]:
    """Files in their final place (no part of the path is hidden) that cannot be read completely."""
    broken = []
    for path in sorted(folder.rglob("*")):
        if (
            path.is_file()
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
            and not _whole(path)
        ):
            broken.append(path.relative_to(folder).as_posix())
    return broken


def _whole(path: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    from merc import parquet
    from merc.errors import BadTable

    try:
        if path.suffix == ".parquet":
            parquet.read(path)
        elif path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".safetensors":
            with safe_open(path, framework="np") as file:
                list(file.keys())
        else:
            return not path.read_bytes().startswith(b"half of what ")
    except (BadTable, ValueError, SafetensorError):
        return False
    return True


Known = dict[str, str]
"""Digest of the files that a disturbed run left → what is wrong with the next run's result."""


def disturb(
    one: Any,
    prepared: Path,
    folder: Path,
    expected: dict[str, str],
    kind: Kind,
    number: int,
    how: How,
    known: Known | None = None,
) -> str:
    """Runs a command with a fault, and again without; returns what is wrong then, in words, or nothing.

    Args:
        one: a :class:`integrity.commands.Disturbed`.
        prepared: what it starts from.
        folder: where to run; must not exist.
        expected: the files after an undisturbed run.
        kind, number, how: the fault.
        known: results of the same command; the next run is not repeated on identical files.
    """
    one.start(prepared, folder)
    first = run(one.command, one.arguments, folder, kind, number, how)
    if first.code is not None and (first.unexpected or first.code not in TOLD):
        return f"ended with {first.code} and said:\n{first.words}"
    if broken := half_written(folder):
        return f"left half-written: {', '.join(broken)}"
    known = {} if known is None else known
    # A lock contains the id of a process that is gone.
    left = hashlib.sha256(
        json.dumps({path: content for path, content in tree(folder).items() if not path.endswith(".lock")}).encode()
    ).hexdigest()
    if left not in known:
        known[left] = _next_run(one, folder, expected)
    return known[left]


def _next_run(one: Any, folder: Path, expected: dict[str, str]) -> str:
    again = run(one.command, one.arguments, folder)
    if again.unexpected or again.code != 0:
        return f"the next run ended with {again.code} and said:\n{again.words}"
    found = tree(folder)
    differing = sorted(path for path in {*found, *expected} if found.get(path) != expected.get(path))
    return f"the next run left other files: {', '.join(differing[:10])}" if differing else ""
