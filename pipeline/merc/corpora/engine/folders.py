"""Where a corpus is below the folder that it was unpacked into: archives contain a top-level folder, and people who
pass them on add another.
"""

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from merc.errors import RawDataMissing

_LEVELS = 3
_ARCHIVER = "__MACOSX"
"""Folder with a companion of every file, in archives packed on a Mac."""


def holder(root: Path, names: Collection[str], usual: Sequence[str], *, closed: Collection[str] = ()) -> Path | None:
    """The folder that contains one of the given files or folders: a usual one, else the one nearest to ``root``, at
    most three levels below it.

    Args:
        root: the corpus's folder.
        names: files or folders to search for.
        usual: folders relative to ``root``, the first that contains one is used; ``.`` is ``root`` itself.
        closed: names of folders that are not searched, since they contain only many files.

    Returns:
        The folder; None if there is none.

    Raises:
        RawDataMissing: if several are equally near; the message names them.
    """
    for folder in (root / one for one in usual):
        if _holds(folder, names):
            return folder
    level = [root]
    for _ in range(_LEVELS):
        level = [below for folder in level for below in _folders(folder, closed)]
        found = {os.path.realpath(folder): folder for folder in level if _holds(folder, names)}
        if len(found) > 1:
            raise RawDataMissing(
                f"{' and '.join(str(one) for one in found.values())} both hold {' or '.join(sorted(names))}; remove"
                " one, or name the folder to use with --raw"
            )
        if found:
            return next(iter(found.values()))
    return None


def _holds(folder: Path, names: Collection[str]) -> bool:
    return any((folder / name).exists() for name in names)


def _folders(folder: Path, closed: Collection[str]) -> Iterator[Path]:
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if is_folder(entry))
    yield from (
        folder / name for name in names if name not in closed and name != _ARCHIVER and not name.startswith(".")
    )


def is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether an entry is a folder, following links; accesses the disk only if it is a link. False for broken and
    circular links.
    """
    return Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir()
