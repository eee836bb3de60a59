"""Writes files so that no incomplete one is ever found in place, and keeps paths inside their folder."""

import codecs
import csv
import errno
import glob
import hashlib
import json
import os
import platform
import shutil
import stat
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from merc.errors import BadSettings, BadTable, CannotWrite

if TYPE_CHECKING:
    from pydantic import BaseModel, TypeAdapter

_SHOWN_CHARACTERS = 200
_ABANDONED_SECONDS = 3600.0
_HEAD_BYTES = 512
_STAND_INS = (
    (
        b"version https://git-lfs.github.com/spec/",
        "a Git LFS pointer instead of the file; `git lfs pull` downloads the file",
    ),
    (b"/annex/objects/", "a git-annex pointer instead of the file; `git annex get` downloads the file"),
    (b"<!doctype html", "a web page instead of the file, probably a failed download"),
    (b"<html", "a web page instead of the file, probably a failed download"),
)
_SHOWN_PROBLEMS = 3
_KINDS = {stat.S_ISFIFO: "a named pipe", stat.S_ISSOCK: "a socket", stat.S_ISCHR: "a device", stat.S_ISBLK: "a device"}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns operating-system errors raised by the block, which writes ``path``, into one sentence.

    Raises:
        CannotWrite: if the disk is full, a folder read-only, a file where a folder should be, and the like.
    """
    try:
        yield
    except OSError as error:
        raise CannotWrite(cannot_write(path, error)) from error


def cannot_write(path: Path, error: Exception) -> str:
    """The sentence of :func:`writing`."""
    return (
        f"{path} cannot be written: {error}. No partial file was left there, and finished work is kept; fix the cause"
        " and run again."
    )


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path next to ``path``; it replaces ``path`` only if the block ends without error.

    The content is flushed to the disk before the rename and the folder after it, so that after a power failure the file
    is complete or absent. On an error (such as a full disk) the temporary file is removed and whatever was at ``path``
    stays.

    Raises:
        CannotWrite: as :func:`writing`.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        temporary = temporary_beside(path)
        try:
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def temporary_beside(path: Path) -> Path:
    """Where this process writes what becomes ``path``; no other process on any machine writes there."""
    return path.with_name(f".{path.name}.{_machine()}-{os.getpid()}.tmp")


def _machine() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _remove_leftovers(path: Path) -> None:
    """Removes the temporary files of processes that were killed while writing ``path``. For a process on another
    machine, only the time of its last write is known.
    """
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        machine, _, process = leftover.name.split(".")[-2].rpartition("-")
        if not process.isdecimal():
            continue
        with suppress(FileNotFoundError):  # it was just moved into place
            here = machine == _machine()
            if not _is_alive(int(process)) if here else _age_seconds(leftover) > _ABANDONED_SECONDS:
                leftover.unlink()


def _age_seconds(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # owned by another user
        return True
    return True


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text, completely or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Writes JSON with sorted keys (the same value always gives the same bytes), completely or not at all."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes a table with a header, completely or not at all; missing values of a row and None become empty cells."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        BadTable: if the file is not JSON or cannot be read; the message names the file.
    """
    try:
        check_kind(path)
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadTable(f"{path}: not a JSON file: {error}") from error
    except OSError as error:
        raise BadTable(f"{path}: cannot be read: {error.strerror}") from error


def read_record(path: Path, shape: "TypeAdapter[Any] | type[BaseModel]", what: str) -> Any:
    """Reads a JSON file that the program wrote, and that may have been modified since.

    Args:
        path: the file.
        shape: its required keys, and their types.
        what: description of the file for the message: ``the record of a job``.

    Returns:
        Its unchanged content, after checking that it has this shape.

    Raises:
        BadTable: if it is not JSON, or of another shape; the message names the key.
    """
    from pydantic import TypeAdapter, ValidationError

    content = read_json(path)
    try:
        (shape if isinstance(shape, TypeAdapter) else TypeAdapter(shape)).validate_python(content)
    except ValidationError as error:
        told = [
            ": ".join([*([".".join(map(str, one["loc"]))] if one["loc"] else []), one["msg"]])
            for one in error.errors()[:_SHOWN_PROBLEMS]
        ]
        raise BadTable(f"{path}: not {what}: {'; '.join(told)}") from error
    return content


def check_kind(path: Path) -> None:
    """Refuses what cannot be read to its end: opening a named pipe blocks forever, and a device never ends. Links are
    followed.

    Raises:
        OSError: as opening it would, with a message such as ``a named pipe instead of a file``. Folders are left to the
            caller.
    """
    mode = path.stat().st_mode
    kind = next((words for is_it, words in _KINDS.items() if is_it(mode)), None)
    if kind is not None:
        raise OSError(errno.ENXIO, f"{kind} instead of a file", str(path))


def sha256(path: Path) -> str:
    """Hex digest of a file's content. Raises ``OSError`` as :func:`check_kind`."""
    check_kind(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """Hex sha256 of a JSON-able value, independent of the order of its keys."""
    return hashlib.sha256(_canonical(value)).hexdigest()


def digest_of_columns(columns: Mapping[str, Callable[[], Any]]) -> str:
    """The :func:`digest` of name → values, with only one column in memory at a time.

    >>> digest_of_columns({"b": lambda: [1, 2], "a": lambda: ["x"]}) == digest({"a": ["x"], "b": [1, 2]})
    True
    """
    found = hashlib.sha256(b"{")
    for index, name in enumerate(sorted(columns)):
        found.update(b"," * bool(index) + _canonical(name) + b":")
        found.update(_canonical(columns[name]()))
    found.update(b"}")
    return found.hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")


def confined(root: Path, relative: str, own: str = "", *, follow_links: bool = True) -> Path:
    """The file at ``relative`` below ``root``.

    Only the name decides whether it stays below ``root``: users may place links there (DVC's cache, git-annex, a split
    on another disk), but a name in a corpus or a table must not lead out on its own.

    Args:
        root: the folder that must not be left.
        relative: a POSIX path from a corpus or table, and therefore untrusted.
        own: name of a folder directly in ``root`` that may be a link even if links are not followed (a corpus on
            another disk); paths must then stay below its target.
        follow_links: whether symbolic links below ``root`` may lead out of it; False for data from untrusted sources.

    Raises:
        ValueError: if the path is absolute, has a ``..`` part, a NUL or a backslash, or leads out by a link that must
            not be followed.
        BadSettings: as :func:`check_name`.
    """
    parts = PurePosixPath(relative)
    if not relative or parts.is_absolute() or ".." in parts.parts or "\0" in relative or "\\" in relative:
        raise ValueError(f"{relative!r} is not a plain path below {root}")
    path = root / parts
    check_name(path)
    if follow_links:
        return path
    base, target = (
        Path(os.path.realpath(one)) for one in (root / own if own and parts.parts[0] == own else root, path)
    )
    if not target.is_relative_to(base):
        raise ValueError(f"{relative!r} leads outside {root}, to {target}")
    return target


def check_name(path: Path) -> None:
    """Refuses a path that cannot be passed to a system call; ``Path.is_file`` and the like would report that it does
    not exist.

    Raises:
        BadSettings: if the locale's encoding does not have one of its characters; the message says which locale does.
    """
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        raise BadSettings(without_characters(error)) from error


def without_characters(error: UnicodeEncodeError) -> str:
    """Text for an error about characters that the encoding of the locale, or of a file, cannot represent.

    >>> print(without_characters(UnicodeEncodeError("ascii", "clips/é.mp4", 6, 7, "ordinal not in range(128)")))
    'clips/\\xe9.mp4' cannot be written in ascii, the encoding of this locale; set PYTHONUTF8=1, or LC_ALL=C.UTF-8
    """
    shown = ascii(
        error.object
        if len(error.object) <= _SHOWN_CHARACTERS
        else error.object[max(0, error.start - 20) : error.end + 20]
    )
    if any(
        0xDC80 <= ord(one) <= 0xDCFF for one in error.object[error.start : error.end]
    ):  # how Python represents bytes of a name that are not characters
        return (
            f"the name {shown} has bytes that are not characters in {sys.getfilesystemencoding()}; rename it, or set"
            " PYTHONUTF8=1 or LC_ALL=C.UTF-8"
        )
    return (
        f"{shown} cannot be written in {error.encoding}, the encoding of this locale; set PYTHONUTF8=1, or"
        " LC_ALL=C.UTF-8"
    )


def broken_link(path: Path) -> str:
    """For a message: what is wrong if a link on the way to ``path`` is broken; empty if none is.

    The target is not named: it differs between machines, and the text goes into tables that must be equal on all of
    them.
    """
    for one in (*reversed(path.parents), path):
        try:
            one.stat()
        except FileNotFoundError:
            return "a broken link" if one.is_symlink() else ""
        except OSError as error:
            return "links in a circle" if error.errno == errno.ELOOP else ""
    return ""


def stand_in(path: Path) -> str:
    """Describes what was found instead of a file of the expected kind; empty if unknown.

    Large files are often distributed as short pointer files that a program replaces by the file itself, and failed
    downloads are saved as error pages.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES).removeprefix(codecs.BOM_UTF8).lstrip().lower()
    return next((words for begin, words in _STAND_INS if head.startswith(begin)), "")


def replace_folder(source: Path, target: Path) -> None:
    """Replaces the folder ``target`` by ``source``, completely or not at all.

    An old ``target`` is set aside, ``source`` is renamed, and only then is the old one removed: readers find the old
    folder, for a moment none, or the new one, but never a part of either. If a run is killed in between,
    :func:`finish_replacing` completes or undoes it.

    Raises:
        CannotWrite: as :func:`writing`; the old folder stays.
    """
    finish_replacing(target)
    aside = _aside(target)
    with writing(target):
        _sync_tree(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(target):
            target.rename(aside)
        source.rename(target)
        _sync(target.parent)
        _remove(aside)


def finish_replacing(target: Path) -> None:
    """Restores an old ``target`` that a killed :func:`replace_folder` had set aside, or removes it if the new one is in
    place.
    """
    aside = _aside(target)
    if not os.path.lexists(aside):
        return
    with writing(target):
        if os.path.lexists(target):
            _remove(aside)
        else:
            aside.rename(target)


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.replaced")


def _remove(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def _sync_tree(folder: Path) -> None:
    """Flushes a folder and first everything in it, so that after a power failure none of its files is empty."""
    for one in folder.iterdir():
        if one.is_dir() and not one.is_symlink():
            _sync_tree(one)
        elif one.is_file():
            _sync(one)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
