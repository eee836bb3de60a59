"""Logs on stderr, as text or one JSON object a line, and progress bars that are silent without a terminal."""

import json
import logging
import sys
from typing import Any

from tqdm import tqdm

logger = logging.getLogger("merc")

_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        # A leading underscore is another library's: ray, once imported, stamps every record of the process with its own clock.
        fields = {key: value for key, value in vars(record).items() if key not in _STANDARD and not key.startswith("_")}
        entry = {"level": record.levelname.lower(), "message": record.getMessage(), **fields}
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


class _BesideTheBar(logging.StreamHandler):  # type: ignore[type-arg]
    """Prints above a progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def set_up(log_format: str = "text", level: int = logging.INFO) -> None:
    """Sends the pipeline's log to stderr.

    Args:
        log_format: ``text``, or ``json`` for one object a line with the keys level, message and the event's own fields.
        level: the least level that is shown.
    """
    handler = _BesideTheBar()
    handler.setFormatter(_JsonLines() if log_format == "json" else logging.Formatter("%(levelname)s %(message)s"))
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False


def progress(total: int, what: str, unit: str, line: int = 0) -> "tqdm[Any]":
    """A progress bar on a terminal, nothing anywhere else (``disable=None`` is tqdm's way to ask for that).

    Args:
        total: how many there are.
        what: is under way.
        unit: of what is counted.
        line: how many lines below the first; for bars of several processes.
    """
    return tqdm(total=total, desc=what, unit=unit, disable=None, file=sys.stderr, leave=False, position=line or None)
