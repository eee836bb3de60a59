"""The folder of a report: whether it contains a report, and how a new one replaces an old one."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from merc import files
from merc.errors import SettingsDiffer
from merc.reports.pages.base import MARKER, OVERVIEW, PAGES

SCRATCH = ".making"
TABLES = ("results.md", "results.tex", "scores.json", "coverage.csv", "labels.csv", "coverage.json")
"""Files next to the pages."""
_GENERATOR = b'<meta name="generator" content="merc-report">'
_HEAD_BYTES = 1000


def check(reports: Path) -> None:
    """Refuses a folder that contains something else under a name of the report.

    Files and folders with other names are not touched.

    Raises:
        SettingsDiffer: if ``index.html`` or ``pages`` were not made by ``merc-report``, a table exists without them, or
            it is a file.
        CannotWrite: if the folder cannot be read.
    """
    if reports.exists() and not reports.is_dir():
        raise SettingsDiffer(
            f"{reports}: a file, where the report's folder should be; move it away, or name another folder with"
            " --reports"
        )
    with files.writing(reports):
        files.finish_replacing(reports / PAGES)  # of a killed run
        index, pages = reports / OVERVIEW, reports / PAGES
        strange = [
            path
            for path, ours in ((index, _is_page(index)), (pages, (reports / MARKER).is_file()))
            if path.exists() and not ours
        ]
        if not strange and not index.exists() and not pages.exists():
            strange = [reports / name for name in TABLES if (reports / name).exists()]
    if strange:
        there = ", ".join(map(str, strange))
        raise SettingsDiffer(
            f"{there}: not made by merc-report, so it is not replaced; move it away, or name another folder with"
            " --reports"
        )


def _is_page(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return _GENERATOR in file.read(_HEAD_BYTES)


@contextmanager
def making(reports: Path) -> Iterator[Path]:
    """Yields an empty folder, on the same disk as the report, and removes it at the end, as well as one left by a
    killed run.
    """
    folder = reports / SCRATCH
    with files.writing(reports):
        if folder.exists():
            shutil.rmtree(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put(made: Path, reports: Path) -> Path:
    """Moves the content of the folder of :func:`making` into place, each part completely or not at all: the pages, then
    the overview, which links to them.

    Returns:
        The overview.
    """
    files.replace_folder(made / PAGES, reports / PAGES)
    with files.writing(reports):
        for name in (OVERVIEW, *TABLES):
            (made / name).replace(reports / name)
    return reports / OVERVIEW
