"""Logs on stderr, as text or one JSON object per line, and progress: a bar on a terminal, otherwise a line per
minute.
"""

import json
import logging
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Protocol, Self

from merc.shown import visible, visible_json

logger = logging.getLogger("merc")

_TEXT, _TEXT_TIME = "%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"
_LINE_SECONDS = 60.0
_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        # A leading underscore marks another library's field: ray, once imported, adds its own time stamp to every
        # record of the process.
        fields = {key: value for key, value in vars(record).items() if key not in _STANDARD and not key.startswith("_")}
        moment = datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds")
        entry = {"time": moment, "level": record.levelname.lower(), "message": record.getMessage(), **fields}
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return visible_json(json.dumps(entry, ensure_ascii=False, default=str))


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


class _BesideTheBar(logging.StreamHandler):  # type: ignore[type-arg]
    """Prints above a progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)


def set_up(log_format: str = "text", level: int = logging.INFO) -> None:
    """Sends the pipeline's log to stderr.

    Args:
        log_format: ``text``, or ``json`` for one object per line with the keys time (ISO 8601, UTC), level, message and
            the fields of the event.
        level: the lowest level that is shown.
    """
    handler = _BesideTheBar()
    handler.setFormatter(_JsonLines() if log_format == "json" else _Text(_TEXT, _TEXT_TIME))
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False


class Progress(AbstractContextManager["Progress"], Protocol):
    """The result of :func:`progress`: a part of tqdm's interface."""

    def update(self, n: int = 1) -> Any:
        """Adds to the count."""

    def set_postfix(self, ordered_dict: Mapping[str, Any] | None = None, **values: Any) -> Any:
        """Values to show with the count."""


class _Lines:
    """Progress as one log line per minute: count, rate, time left. Work that takes less than a minute has none."""

    def __init__(self, total: int, what: str, unit: str, done: int) -> None:
        self._total, self._what, self._unit = total, what, unit
        self._done = self._done_before = done
        self._began = self._told = time.monotonic()
        self._values: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def update(self, n: int = 1) -> None:
        self._done += n
        now = time.monotonic()
        if now - self._told >= _LINE_SECONDS:
            self._told = now
            self._tell(now - self._began)

    def set_postfix(self, ordered_dict: Mapping[str, Any] | None = None, **values: Any) -> None:
        self._values = {**(ordered_dict or {}), **values}

    def _tell(self, seconds: float) -> None:
        rate = (self._done - self._done_before) / seconds
        left = (self._total - self._done) / rate if rate else None
        shown = "".join(f", {name} {value}" for name, value in self._values.items())
        logger.info(
            "%s: %d of %d, %.3g a minute (%s), %s left%s",
            self._what,
            self._done,
            self._total,
            60 * rate,
            self._unit,
            "unknown time" if left is None else f"about {timedelta(seconds=round(left))}",
            shown,
            extra={
                "progress": self._what,
                "done": self._done,
                "total": self._total,
                "seconds_left": None if left is None else round(left),
            },
        )


def progress(total: int, what: str, unit: str, line: int = 0, *, done: int = 0) -> Progress:
    """A progress bar on a terminal, one log line per minute anywhere else.

    Args:
        total: total count.
        what: what is in progress.
        unit: name of the counted unit.
        line: number of lines below the first; for bars of several processes.
        done: number done before, which does not count towards the rate.
    """
    if not sys.stderr.isatty():
        return _Lines(total, what, unit, done)
    from tqdm import tqdm

    return tqdm(
        total=total, desc=visible(what), unit=unit, file=sys.stderr, leave=False, position=line or None, initial=done
    )
