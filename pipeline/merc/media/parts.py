"""The parts of the media: whole dialogues whose clips are decoded by worker processes, and written as soon as the last
one is done.

A file that makes the decoder crash or hang costs its utterances and nothing else: its worker is replaced
(:mod:`merc.compute.pool`).
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from merc.compute.executors.base import Advance, Needs, Opened, Parts, Share
from merc.errors import PipelineError, RawDataMissing
from merc.job import Job
from merc.layout import Layout
from merc.log import logger
from merc.media import networks
from merc.media.config import Config
from merc.media.tasks import LISTENING, STREAMS, Clip, DialogueTask, sharing_files
from merc.records import manifest
from merc.records.dialogue import MediaSpan

if TYPE_CHECKING:
    from merc.compute.pool import Lost
    from merc.media import active

NAME = "media"
CLIP_COLUMNS = (
    "utterance_id dialogue_id video_path audio_path video_region video_start_seconds video_end_seconds"
    " audio_start_seconds audio_end_seconds audio_channel expected_seconds"
).split()
_Decoded = tuple[dict[str, Any], list[dict[str, Any]]]
"""A row of the media table, and its failure rows."""
# Number of parts in progress at a time. Their clips are started longest first, so that no worker is left with a long
# one at the end, and their results wait in memory: about 25 MB per part with the default settings.
_PARTS_AT_A_TIME = 4
# A task that crashed or hung is tried once more in a new process before it is given up; see pool.Crew.
_ATTEMPTS = 2
# A clip of this length gets twice the time of an infinitely short one.
_DOUBLE_TIME_SECONDS = 60.0
# Memory of a worker process with the decoding libraries, and with an active-speaker network (torch).
_PROCESS_BYTES = 500_000_000
_JUDGING_PROCESS_BYTES = 1_500_000_000


@dataclass(frozen=True)
class Decoding:
    """The work of the stage; see :class:`merc.compute.executors.base.Work`.

    Attributes:
        config: settings of the media.
        layout: where the raw files are.
        table: the manifest.
        streams: what is decoded, ``audio``, ``visual`` or both.
        bounds: half-open range of manifest rows of each part.
        job: where the parts go.
        clip_timeout_seconds: how long a process may take for a short clip.
        found: the files of the networks.
    """

    config: Config
    layout: Layout
    table: pa.Table
    streams: frozenset[str]
    bounds: Sequence[tuple[int, int]]
    job: Job
    clip_timeout_seconds: float
    found: networks.Found = networks.NONE

    @property
    def name(self) -> str:
        return NAME

    @property
    def home(self) -> Path:
        return self.layout.folder

    @property
    def needs(self) -> Needs:
        judging = self.found.speaker is not None
        return Needs(judging, "processes", _JUDGING_PROCESS_BYTES if judging else _PROCESS_BYTES, _PARTS_AT_A_TIME)

    def is_done(self, index: int) -> bool:
        return self.job.is_done(index)

    def left(self) -> list[int]:
        """The parts that are not done."""
        return [index for index in range(len(self.bounds)) if not self.is_done(index)]

    def utterances(self, parts: Iterable[int]) -> int:
        """Number of utterances in some parts."""
        return sum(self.bounds[index][1] - self.bounds[index][0] for index in parts)

    def check(self) -> None:
        for path in (self.layout.raw, self.found.detector, self.found.speaker):
            if path is not None and not path.exists():
                raise RawDataMissing(f"there is no {path}")

    def open(self, share: Share) -> Opened[None]:
        """Loads the networks once before any process starts, so that a wrong file stops the run at once."""
        judging = networks.check(self.config, self.found, share.device) if "visual" in self.streams else None
        return partial(self._make, share.processes, judging)

    def _make(
        self, processes: int, judging: "active.Scorer | None", parts: Parts, advance: Advance
    ) -> Generator[tuple[int, None], None, None]:
        """Decodes parts, and writes each as soon as its last clip is done.

        The worker processes judge who speaks; with ``judging``, a network on a GPU, this process does, one clip after
        the other.
        """
        from merc.compute import pool
        from merc.media import clip

        open_parts: dict[int, _OpenPart] = {}
        tasks: dict[int, tuple[int, tuple[int, ...], DialogueTask]] = {}  # key → part, rows in it, task
        keys = count()
        work: Callable[[DialogueTask], Any] = clip.decode_dialogue if judging is None else clip.decode
        with pool.Crew(work, processes, _ATTEMPTS) as crew:
            while True:
                while len(open_parts) < _PARTS_AT_A_TIME and (index := parts.take(wait=not open_parts)) is not None:
                    open_parts[index] = _OpenPart(self.bounds[index])
                    for rows, task in self._tasks(index):
                        key = next(keys)
                        tasks[key] = index, rows, task
                        crew.submit(
                            key,
                            task,
                            weight=task.seconds,
                            limit_seconds=time_limit_seconds(task, self.clip_timeout_seconds),
                        )
                if not open_parts:
                    return
                key, outcome = crew.next_outcome()
                index, rows, task = tasks.pop(key)
                decoded = given_up(task, outcome) if isinstance(outcome, pool.Lost) else outcome
                open_parts[index].take(
                    rows, clip.settle(decoded, judging) if isinstance(decoded, clip.Draft) else decoded
                )
                advance(len(rows))
                if open_parts[index].whole:
                    self._write(index, open_parts.pop(index))
                    yield index, None

    def _tasks(self, part: int) -> Iterator[tuple[tuple[int, ...], DialogueTask]]:
        """The work of a part: rows of the manifest, and the task that produces them."""
        first, last = self.bounds[part]
        for rows, task in tasks_of(
            self.table.slice(first, last - first), self.layout, self.streams, self.config, self.found
        ):
            yield tuple(first + row for row in rows), task

    def _write(self, index: int, part: "_OpenPart") -> None:
        from merc.media import pack

        rows = [row for row in part.rows if row is not None]
        pack.write_part(self.job.part(index), [columns for columns, _ in rows])
        self.job.mark_done(index, [failure for _, of_row in rows for failure in of_row])


class _OpenPart:
    """A part some of whose rows are still being made.

    Args:
        bounds: its half-open rows of the manifest.
    """

    def __init__(self, bounds: tuple[int, int]) -> None:
        self._first = bounds[0]
        self.rows: list[_Decoded | None] = [None] * (bounds[1] - bounds[0])
        self._missing = len(self.rows)

    @property
    def whole(self) -> bool:
        return self._missing == 0

    def take(self, rows: Sequence[int], decoded: Sequence[_Decoded]) -> None:
        """Stores finished rows at their places."""
        for row, one in zip(rows, decoded, strict=True):
            self.rows[row - self._first] = one
            self._missing -= 1


def tasks_of(
    table: pa.Table, layout: Layout, streams: frozenset[str], config: Config, found: networks.Found
) -> Iterator[tuple[tuple[int, ...], DialogueTask]]:
    """The work on some or all rows of the manifest, in order: rows of ``table``, and the task that produces them."""
    raw, follow = layout.raw.resolve(), manifest.follows_links(table)
    further = ([MediaSpan(**span) for span in spans] for spans in manifest.further_spans(table))
    more = zip(table.select(CLIP_COLUMNS).to_pylist(), manifest.annotated_seconds(table), further, strict=True)
    clips = [Clip(**row, annotated_seconds=seconds, further_spans=tuple(spans)) for row, seconds, spans in more]
    for _, of_dialogue in groupby(range(len(clips)), key=lambda row: clips[row].dialogue_id):
        rows = list(of_dialogue)
        for group in sharing_files([clips[row] for row in rows], streams_read(config, streams)):
            members = tuple(rows[index] for index in group)
            of_group = tuple(clips[row] for row in members)
            yield (
                members,
                DialogueTask(
                    raw,
                    layout.dataset,
                    of_group,
                    streams,
                    config,
                    found.detector,
                    follow_links=follow,
                    speaker=found.speaker,
                ),
            )


def time_limit_seconds(task: DialogueTask, timeout_seconds: float) -> float:
    """How long a worker may take for a task if a short clip may take ``timeout_seconds``; for each face, a network
    takes as long as some decoding.
    """
    faces = task.config.max_speaker_candidates if task.speaker is not None else 0
    return timeout_seconds * (1 + (1 + faces) * task.seconds / _DOUBLE_TIME_SECONDS)


def given_up(task: DialogueTask, lost: "Lost") -> Sequence[_Decoded]:
    """The rows of clips that the worker did not survive or did not finish, or for which it raised an unexpected error.

    Raises:
        PipelineError: raised again, since it concerns the user's settings or files and not a clip.
    """
    from merc.media import clip

    if isinstance(lost.error, PipelineError):
        raise lost.error
    if lost.error is None:
        reason, detail = f"media_{lost.why}", lost.words
        logger.warning("media: %s: %s", task, detail, extra={"stage": NAME, "reason": reason})
    else:
        reason, detail = "media_crashed", f"{type(lost.error).__name__}: {lost.error}"
        logger.error("media: %s: an unexpected error:\n%s", task, lost.words, extra={"stage": NAME, "reason": reason})
    return clip.without_result(task, reason, detail)


def streams_read(config: Config, streams: frozenset[str]) -> frozenset[str]:
    """The streams that must be decoded for these: audio is needed to see whose mouth moves with it."""
    return frozenset(STREAMS) if "visual" in streams and config.choice in LISTENING else streams
