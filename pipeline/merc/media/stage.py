"""DVC stage ``media``: decodes what the manifest names, once, for every encoder.

manifest ──► clips that share files ──► workers (merc.media.clip) ──► parts of whole dialogues ──► media/part-NNNNN.parquet
                                                                                                     failures.parquet, record.json

A file that makes the decoder crash or hang costs its utterances and nothing else: its worker is replaced (:mod:`merc.compute.pool`).
"""

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pyarrow as pa
import pyarrow.compute as pc

from merc import files, parquet
from merc.command_line import stage_command
from merc.errors import BadSettings, PipelineError
from merc.interrupts import stoppable
from merc.job import RECORD, Fingerprint, Job, RunOptions
from merc.layout import Layout
from merc.log import logger, progress
from merc.media import networks
from merc.media.config import Config, of_dataset
from merc.media.tasks import LISTENING, STREAMS, Clip, DialogueTask, sharing_files
from merc.params import Params
from merc.provenance import versions
from merc.records import features as feature_tables
from merc.records import manifest
from merc.records.dialogue import MediaSpan
from merc.records.failures import LOUD_ABSENT_SHARE, REASONS
from merc.records.media import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from merc.compute.pool import Lost
    from merc.media import active

NAME = "media"
_Decoded = tuple[dict[str, Any], list[dict[str, Any]]]
"""A row of the media table, and its failure rows."""
# Raised by one whenever the same settings and files give other rows.
_VERSION = 5
_CLIP_COLUMNS = (
    "utterance_id dialogue_id video_path audio_path video_region video_start_seconds video_end_seconds audio_start_seconds audio_end_seconds "
    "audio_channel expected_seconds"
).split()
_OF_EVERY_STREAM = ("utterance_", "dialogue_", "expected_")
# A file is told from its successor of the same name by size, head and tail: a new cut or a repaired download differs in the
# index that mp4 keeps at one end; hashing MELD whole would read 10 GB on every run.
_HEAD_BYTES = 4096
# Parts that are worked on at a time, from the first unfinished one on. Their clips are begun the longest first, so that no
# worker is left alone with a long one at the end, and their results wait in memory: about 25 MB a part as shipped.
_PARTS_AT_A_TIME = 4
# What crashed or hung is tried once more in a new process before it is given up; see pool.Crew.
_ATTEMPTS = 2
# A clip of this length is given twice the time of one that is infinitely short.
_DOUBLE_TIME_SECONDS = 60.0


def decode(config: Config, layout: Layout, run: RunOptions, *, streams: frozenset[str]) -> Path:
    """Decodes sound and faces of every utterance in the manifest.

    Finished parts survive an interruption. Media that hold more streams than wanted are used as they are; where they hold
    others, all of both are made, so that asking for sound today and faces tomorrow ends with both.

    Args:
        config: settings of the media.
        layout: where the manifest and the raw files are, and where the media go.
        run: number of worker processes, ``device``, ``overwrite``, ``max_failed``, ``clip_timeout_seconds``.
        streams: ``audio``, ``visual`` or both.

    Returns:
        The folder with ``part-NNNNN.parquet`` (:data:`merc.media.tables.SCHEMA`), ``failures.parquet`` and ``record.json``.

    Raises:
        RawDataMissing: if there is no manifest.
        BadSettings: if a setting is impossible, a stream unknown, or a network cannot be loaded.
        ModelUnavailable: if a network is not here and cannot be fetched.
        SettingsDiffer: if there are media with other settings and ``overwrite`` is off.
        TooManyFailures: if more utterances are broken than ``max_failed`` allows; what was decoded is kept for the next run.
        PipelineError: if worker processes cannot even begin. A clip that makes one crash or hang is recorded as any other broken clip.
    """
    decoding = _prepare(config, layout, run, streams)
    if decoding.job.done_before():
        return layout.media
    found = networks.found(decoding.config, offline=run.offline) if "visual" in decoding.streams else networks.NONE
    judging = networks.check(decoding.config, found, run.device) if "visual" in decoding.streams else None
    decoding.job.start()
    _make_parts(decoding, found, judging, layout, run)
    failed = feature_tables.write_failures(decoding.job, len(decoding.parts), decoding.table.num_rows, run.max_failed)
    info = _summary(decoding, failed)
    decoding.job.finish(info)
    logger.info("media: %d utterances decoded", decoding.table.num_rows, extra={"stage": NAME, **info["counts"]})
    for split, of_split in info["counts"]["absent"].items():
        for stream, reasons in of_split.items():
            _warn_if_much_is_absent(split, stream, reasons, decoding)
    return layout.media


def dry_run(config: Config, layout: Layout, run: RunOptions, *, streams: frozenset[str]) -> dict[str, Any]:
    """What :func:`decode` would do, without decoding anything or importing a decoder.

    Returns:
        ``cached`` (nothing to do), ``streams`` that would be there, ``utterances``, ``utterances_to_decode`` (parts of an interrupted run
        are not done again), ``files`` (different ones named by the manifest), ``seconds`` of recording by the annotations, and the
        ``workers`` that would share them.

    Raises:
        RawDataMissing, BadSettings, SettingsDiffer: as :func:`decode`.
    """
    decoding = _prepare(config, layout, run, streams)
    cached = decoding.job.cached()
    left = 0 if cached else sum(stop - start for index, (start, stop) in enumerate(decoding.parts) if not decoding.job.is_done(index))
    return {
        "cached": cached,
        "streams": sorted(decoding.streams),
        "utterances": decoding.table.num_rows,
        "utterances_to_decode": left,
        "files": len(_paths(decoding.table, decoding.streams)),
        "seconds": sum(min(seconds, decoding.config.max_clip_seconds) for seconds in manifest.annotated_seconds(decoding.table)),
        "workers": run.workers,
    }


@dataclass(frozen=True)
class _Decoding:
    config: Config
    table: pa.Table
    streams: frozenset[str]
    parts: Sequence[tuple[int, int]]
    job: Job


def _prepare(config: Config, layout: Layout, run: RunOptions, streams: frozenset[str]) -> _Decoding:
    strange = streams - set(STREAMS)
    if strange or not streams:
        raise BadSettings(f"streams {sorted(strange) or 'none'}: give one or both of {', '.join(STREAMS)}")
    table = manifest.read(layout.manifest)
    settings = {"media": config.model_dump(mode="json")}
    follow = manifest.follows_links(table)
    looks = {path: _look_of(layout, path, follow_links=follow) for path in _paths(table, frozenset(STREAMS))}
    streams = streams | _streams_there(layout, config, table, looks, settings)
    fingerprint = Fingerprint(settings, _inputs(config, table, looks, streams))
    job = Job(NAME, layout.media, layout.scratch, fingerprint, run.overwrite)
    return _Decoding(config, table, streams, manifest.cut_into_parts(table, config.utterances_per_part), job)


def _streams_there(layout: Layout, config: Config, table: pa.Table, looks: Mapping[str, str], settings: Mapping[str, Any]) -> frozenset[str]:
    """The streams of finished media that this run would make alike; none if it would make them otherwise."""
    record_path = layout.media / RECORD
    if not record_path.is_file():
        return frozenset()
    record = files.read_json(record_path)
    there = frozenset(record["inputs"]["streams"])
    alike = record["settings"] == settings and record["inputs"] == _inputs(config, table, looks, there)
    return there if alike else frozenset()


def _inputs(config: Config, table: pa.Table, looks: Mapping[str, str], streams: frozenset[str]) -> dict[str, Any]:
    """Hashes of all that decides the result beside the settings; ``looks`` tells the raw files from others of the same name."""
    of_streams: dict[str, Any] = {}
    for stream in sorted(streams):
        read = _streams_read(config, frozenset({stream}))
        prefixes = tuple(prefix for one, prefix in (("audio", "audio_"), ("visual", "video_")) if one in read)
        columns = [name for name in _CLIP_COLUMNS if name.startswith((*prefixes, *_OF_EVERY_STREAM))]
        columns += [name for name in table.schema.names if name == manifest.FURTHER_SPANS.name]
        of_streams[stream] = {
            "clips": files.digest_of_columns({name: table[name].to_pylist for name in columns}),
            "files": files.digest({path: looks[path] for path in _paths(table, read)}),
        }
        if stream == "visual":
            of_streams[stream] |= networks.contents(config)
    return {"version": _VERSION, "streams": of_streams}


def _streams_read(config: Config, streams: frozenset[str]) -> frozenset[str]:
    """The streams that are decoded for these: whose mouth moves with the sound is seen with the sound alone."""
    return frozenset(STREAMS) if "visual" in streams and config.choice in LISTENING else streams


def _paths(table: pa.Table, streams: frozenset[str]) -> list[str]:
    """The different files of these streams, sorted."""
    columns = [name for stream, name in (("audio", "audio_path"), ("visual", "video_path")) if stream in streams]
    further = {span[name] for spans in manifest.further_spans(table) for span in spans for name in columns}
    return sorted(further | {path for name in columns for path in pc.unique(table[name]).to_pylist() if path})


def _look_of(layout: Layout, relative: str, *, follow_links: bool) -> str:
    """What tells a raw file from another one at the same path."""
    try:
        path = files.confined(layout.raw, relative, layout.dataset, follow_links=follow_links)
    except ValueError:
        return "refused"
    try:
        files.check_kind(path)
        with path.open("rb") as file:
            size = path.stat().st_size
            seen = hashlib.sha256(file.read(_HEAD_BYTES))
            file.seek(max(0, size - _HEAD_BYTES))
            seen.update(file.read(_HEAD_BYTES))
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"unreadable: {error.strerror}"
    return f"{size} {seen.hexdigest()}"


def _make_parts(decoding: _Decoding, found: networks.Found, judging: "active.Scorer | None", layout: Layout, run: RunOptions) -> None:
    """Decodes the parts that are not done, and writes each as soon as its last clip is there.

    Who speaks is judged by the workers; with ``judging``, a network on a GPU, in this process, one clip after the other.
    """
    from merc.compute import pool
    from merc.media import clip

    left = deque(index for index in range(len(decoding.parts)) if not decoding.job.is_done(index))
    rows_left = sum(stop - start for start, stop in (decoding.parts[index] for index in left))
    open_parts: dict[int, _OpenPart] = {}
    tasks: dict[int, tuple[int, tuple[int, ...], DialogueTask]] = {}  # key → part, rows in it, task
    keys = count()
    work: Callable[[DialogueTask], Any] = clip.decode_dialogue if judging is None else clip.decode
    with stoppable(), pool.Crew(work, run.workers, _ATTEMPTS) as crew, progress(rows_left, "decode", "utterance") as bar:
        while left or open_parts:
            while left and left[0] - min(open_parts, default=left[0]) < _PARTS_AT_A_TIME:
                index = left.popleft()
                open_parts[index] = _OpenPart(decoding.parts[index])
                for rows, task in _tasks(decoding, found, layout, index):
                    key = next(keys)
                    tasks[key] = index, rows, task
                    crew.submit(key, task, weight=task.seconds, limit_seconds=time_limit_seconds(task, run.clip_timeout_seconds))
            key, outcome = crew.next_outcome()
            index, rows, task = tasks.pop(key)
            decoded = given_up(task, outcome) if isinstance(outcome, pool.Lost) else outcome
            open_parts[index].take(rows, clip.settle(decoded, judging) if isinstance(decoded, clip.Draft) else decoded)
            bar.update(len(rows))
            if open_parts[index].whole:
                _write(decoding, index, open_parts.pop(index))


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
        """Puts rows of the manifest in their place."""
        for row, one in zip(rows, decoded, strict=True):
            self.rows[row - self._first] = one
            self._missing -= 1


def _tasks(decoding: _Decoding, found: networks.Found, layout: Layout, part: int) -> Iterator[tuple[tuple[int, ...], DialogueTask]]:
    """The work of a part: rows of the manifest, and the task that makes them."""
    first, last = decoding.parts[part]
    for rows, task in tasks_of(decoding.table.slice(first, last - first), layout, decoding.streams, decoding.config, found):
        yield tuple(first + row for row in rows), task


def tasks_of(table: pa.Table, layout: Layout, streams: frozenset[str], config: Config, found: networks.Found) -> Iterator[tuple[tuple[int, ...], DialogueTask]]:
    """The work on rows of the manifest, all or some of them in their order: rows of ``table``, and the task that makes them."""
    raw, follow = layout.raw.resolve(), manifest.follows_links(table)
    further = ([MediaSpan(**span) for span in spans] for spans in manifest.further_spans(table))
    more = zip(table.select(_CLIP_COLUMNS).to_pylist(), manifest.annotated_seconds(table), further, strict=True)
    clips = [Clip(**row, annotated_seconds=seconds, further_spans=tuple(spans)) for row, seconds, spans in more]
    for _, of_dialogue in groupby(range(len(clips)), key=lambda row: clips[row].dialogue_id):
        rows = list(of_dialogue)
        for group in sharing_files([clips[row] for row in rows], _streams_read(config, streams)):
            members = tuple(rows[index] for index in group)
            of_group = tuple(clips[row] for row in members)
            yield members, DialogueTask(raw, layout.dataset, of_group, streams, config, found.detector, follow_links=follow, speaker=found.speaker)


def time_limit_seconds(task: DialogueTask, timeout_seconds: float) -> float:
    """How long a worker may be at a task, where a short clip may take ``timeout_seconds``; a network takes as long as some decoding for each face."""
    faces = task.config.max_speaker_candidates if task.speaker is not None else 0
    return timeout_seconds * (1 + (1 + faces) * task.seconds / _DOUBLE_TIME_SECONDS)


def given_up(task: DialogueTask, lost: "Lost") -> Sequence[_Decoded]:
    """The rows of clips that the worker did not survive, did not finish, or raised an error about that no one expected.

    Raises:
        PipelineError: as it was raised, since that is about settings or files of the user's and not about a clip.
    """
    from merc.media import clip

    if isinstance(lost.error, PipelineError):
        raise lost.error
    if lost.error is None:
        reason, detail = f"media_{lost.why}", lost.words
        logger.warning("media: %s: %s", task, detail, extra={"stage": NAME, "reason": reason})
    else:
        reason, detail = "media_crashed", f"{type(lost.error).__name__}: {lost.error}"
        logger.error("media: %s: an error that nobody expected:\n%s", task, lost.words, extra={"stage": NAME, "reason": reason})
    return clip.without_result(task, reason, detail)


def _write(decoding: _Decoding, index: int, part: _OpenPart) -> None:
    from merc.media import pack

    rows = [row for row in part.rows if row is not None]
    pack.write_part(decoding.job.part(index), [columns for columns, _ in rows])
    decoding.job.mark_done(index, [failure for _, of_row in rows for failure in of_row])


def _summary(decoding: _Decoding, failed: pa.Table) -> dict[str, Any]:
    """What record.json says beside the fingerprint: counts and versions."""
    columns = ["audio_status", "visual_status", "duration_seconds", "truncated", "off_screen"]
    rows = pa.concat_tables([parquet.read(decoding.job.part(index), columns) for index in range(len(decoding.parts))])
    counts = {
        "utterances": rows.num_rows,
        "parts": len(decoding.parts),
        "seconds": round(float(pc.sum(rows["duration_seconds"]).as_py()), 3),
        "truncated": int(pc.sum(rows["truncated"]).as_py()),
        "failures": {str(entry["values"]): int(entry["counts"]) for entry in pc.value_counts(failed["reason"].combine_chunks()).to_pylist()},
    }
    counts["absent"] = _absent(decoding, rows)
    if "visual" in decoding.streams and decoding.config.choice == "active_speaker":
        counts["judged"] = rows.num_rows - rows["off_screen"].null_count
        counts["off_screen"] = int(pc.sum(rows["off_screen"]).as_py() or 0)
    for stream in sorted(decoding.streams):
        counts[f"{stream}_ok"] = int(pc.sum(pc.equal(rows[f"{stream}_status"], "ok")).as_py())
    return {"counts": counts, "streams": sorted(decoding.streams), "sample_rate_hz": SAMPLE_RATE_HZ, "versions": versions()}


def _absent(decoding: _Decoding, rows: pa.Table) -> dict[str, dict[str, dict[str, int]]]:
    """Split → stream → reason → utterances that have none of this stream; the most frequent reason first."""
    splits = decoding.table["split"].to_pylist()
    absent: dict[str, dict[str, dict[str, int]]] = {}
    for split in dict.fromkeys(splits):
        for stream in sorted(decoding.streams):
            statuses = zip(splits, rows[f"{stream}_status"].to_pylist(), strict=True)
            reasons = Counter(status for one, status in statuses if one == split and status != "ok")
            absent.setdefault(split, {})[stream] = dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))
    return absent


def _warn_if_much_is_absent(split: str, stream: str, reasons: Mapping[str, int], decoding: _Decoding) -> None:
    utterances = decoding.table["split"].to_pylist().count(split)
    absent = sum(reasons.values())
    if absent <= LOUD_ABSENT_SHARE * utterances:
        return
    reason, count = next(iter(reasons.items()))
    advice = "; media.detector=yunet finds more faces" if reason == "no_face" and decoding.config.detector == "haar" else ""
    words = "media: %s: %d of %d utterances of %s have none (%.0f %%), most of them (%d) by %s: %s%s"
    told = {"stage": NAME, "split": split, "modality": stream, "reason": reason}
    logger.warning(words, stream, absent, utterances, split, 100 * absent / utterances, count, reason, REASONS[reason][1], advice, extra=told)


@stage_command
@click.option("--stream", "streams", multiple=True, type=click.Choice(STREAMS), default=STREAMS, show_default=True, help="Repeatable.")
def main(params: Params, layout: Layout, run: RunOptions, streams: tuple[str, ...]) -> None:
    """Manifest and raw files → sound and face crops."""
    decode(of_dataset(params, layout.dataset), layout, run, streams=frozenset(streams))


if __name__ == "__main__":
    main()
