"""DVC stage ``media``: decodes what the manifest names, once, for every encoder.

manifest ──► dialogues ──► workers (pipeline.media.clip) ──► parts of whole dialogues ──► media/part-NNNNN.parquet
                                                                                         failures.parquet, info.json
"""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import files
from pipeline.command_line import stage_command
from pipeline.corpora import failures, manifest
from pipeline.errors import BadSettings, RawDataMissing
from pipeline.layout import Layout
from pipeline.log import logger, progress
from pipeline.media.config import MediaConfig
from pipeline.media.tables import SAMPLE_RATE_HZ
from pipeline.media.tasks import STREAMS, Clip, DialogueTask
from pipeline.params import Params
from pipeline.parts import INFO, Fingerprint, RunOptions, StageWork
from pipeline.provenance import versions

NAME = "media"
# Raised by one whenever the same settings and files give other rows.
_VERSION = 1
_CLIP_COLUMNS = (
    "utterance_id dialogue_id video_path audio_path video_region video_start_seconds video_end_seconds audio_start_seconds audio_end_seconds"
).split()
# A file is told from its successor of the same name by size, head and tail: a new cut or a repaired download differs in the
# index that mp4 keeps at one end; hashing MELD whole would read 10 GB on every run.
_HEAD_BYTES = 4096


def decode(params: Params, layout: Layout, run: RunOptions, *, streams: frozenset[str]) -> Path:
    """Decodes sound and faces of every utterance in the manifest.

    Finished parts survive an interruption. Media that hold more streams than wanted are used as they are; where they hold
    others, all of both are made, so that asking for sound today and faces tomorrow ends with both.

    Args:
        params: the block ``media``.
        layout: where the manifest and the raw files are, and where the media go.
        run: number of worker processes, ``overwrite``, ``max_failed``.
        streams: ``audio``, ``visual`` or both.

    Returns:
        The folder with ``part-NNNNN.parquet`` (:data:`pipeline.media.tables.SCHEMA`), ``failures.parquet`` and ``info.json``.

    Raises:
        RawDataMissing: if there is no manifest.
        BadSettings: if a setting is impossible, a stream unknown, or the face detector cannot be loaded.
        SettingsDiffer: if there are media with other settings and ``overwrite`` is off.
        TooManyFailures: if more utterances are broken than ``max_failed`` allows; what was decoded is kept for the next run.
        PipelineError: if a worker process died.
    """
    job = _prepare(params, layout, run, streams)
    if job.work.cached():
        logger.info("media: up to date, %d utterances", job.table.num_rows, extra={"stage": NAME, "utterances": job.table.num_rows})
        return layout.media
    if "visual" in job.streams:
        from pipeline.media import faces

        faces.check(job.config, job.model)
    job.work.start()
    _make_parts(job, layout, run.workers)
    rows = job.work.failures(len(job.parts))
    failures.check_limit(rows, job.table.num_rows, run.max_failed, NAME)
    table = failures.table(rows)
    with files.replacing(job.work.folder / "failures.parquet") as temporary:
        pq.write_table(table, temporary, compression="zstd")
    info = _summary(job, table)
    job.work.finish(info)
    logger.info("media: %d utterances decoded", job.table.num_rows, extra={"stage": NAME, **info["counts"]})
    return layout.media


def plan(params: Params, layout: Layout, run: RunOptions, *, streams: frozenset[str]) -> dict[str, Any]:
    """What :func:`decode` would do, without decoding anything or importing a decoder.

    Returns:
        ``cached`` (nothing to do), ``streams`` that would be there, ``utterances``, ``utterances_to_decode`` (parts of an interrupted run
        are not done again), ``files`` (different ones named by the manifest), ``seconds`` of recording by the annotations, and the
        ``workers`` that would share them.

    Raises:
        RawDataMissing, BadSettings, SettingsDiffer: as :func:`decode`.
    """
    job = _prepare(params, layout, run, streams)
    cached = job.work.cached()
    left = 0 if cached else sum(stop - start for index, (start, stop) in enumerate(job.parts) if not job.work.is_done(index))
    seconds = pc.min_element_wise(pc.subtract(job.table["end_seconds"], job.table["start_seconds"]), job.config.max_clip_seconds)
    return {
        "cached": cached,
        "streams": sorted(job.streams),
        "utterances": job.table.num_rows,
        "utterances_to_decode": left,
        "files": len(_paths(job.table, job.streams)),
        "seconds": float(pc.sum(seconds).as_py()),
        "workers": run.workers,
    }


@dataclass(frozen=True)
class _Job:
    config: MediaConfig
    model: Path | None
    table: pa.Table
    streams: frozenset[str]
    parts: Sequence[tuple[int, int]]
    work: StageWork


def _prepare(params: Params, layout: Layout, run: RunOptions, streams: frozenset[str]) -> _Job:
    strange = streams - set(STREAMS)
    if strange or not streams:
        raise BadSettings(f"streams {sorted(strange) or 'none'}: give one or both of {', '.join(STREAMS)}")
    config = params.fill("media", MediaConfig)
    try:
        table = manifest.read(layout.manifest)
    except FileNotFoundError as error:
        raise RawDataMissing(f"{layout.manifest} does not exist: the manifest stage comes first") from error
    settings = {"media": config.model_dump(mode="json")}
    looks = {path: _look_of(layout, path) for path in _paths(table, frozenset(STREAMS))}
    streams = streams | _streams_there(layout, config, table, looks, settings)
    model = Path(config.yunet_file).resolve() if config.detector == "yunet" else None
    if "visual" in streams and model is not None and not model.is_file():
        raise BadSettings(f"media.yunet_file: there is no file {config.yunet_file!r}; media.detector: haar needs none")
    fingerprint = Fingerprint(settings, _inputs(config, table, looks, streams))
    work = StageWork(NAME, layout.media, layout.scratch, fingerprint, run.overwrite)
    return _Job(config, model, table, streams, manifest.cut_into_parts(table, config.utterances_per_part), work)


def _streams_there(layout: Layout, config: MediaConfig, table: pa.Table, looks: Mapping[str, str], settings: Mapping[str, Any]) -> frozenset[str]:
    """The streams of finished media that this run would make alike; none if it would make them otherwise."""
    record_path = layout.media / INFO
    if not record_path.is_file():
        return frozenset()
    record = files.read_json(record_path)
    there = frozenset(record["inputs"]["streams"])
    alike = record["settings"] == settings and record["inputs"] == _inputs(config, table, looks, there)
    return there if alike else frozenset()


def _inputs(config: MediaConfig, table: pa.Table, looks: Mapping[str, str], streams: frozenset[str]) -> dict[str, Any]:
    """Hashes of all that decides the result beside the settings; ``looks`` tells the raw files from others of the same name."""
    of_streams: dict[str, Any] = {}
    for stream in sorted(streams):
        prefix = "audio_" if stream == "audio" else "video_"
        columns = [name for name in _CLIP_COLUMNS if name.startswith((prefix, "utterance_", "dialogue_"))]
        of_streams[stream] = {
            "clips": files.digest({name: table[name].to_pylist() for name in columns}),
            "files": files.digest({path: looks[path] for path in _paths(table, frozenset({stream}))}),
        }
        if stream == "visual" and config.detector == "yunet":
            model = Path(config.yunet_file)
            of_streams[stream]["detector"] = files.sha256(model) if model.is_file() else "missing"
    return {"version": _VERSION, "streams": of_streams}


def _paths(table: pa.Table, streams: frozenset[str]) -> list[str]:
    """The different files of these streams, sorted."""
    columns = [name for stream, name in (("audio", "audio_path"), ("visual", "video_path")) if stream in streams]
    return sorted({path for name in columns for path in pc.unique(table[name]).to_pylist() if path})


def _look_of(layout: Layout, relative: str) -> str:
    """What tells a raw file from another one at the same path."""
    try:
        path = files.confined(layout.raw, relative, layout.dataset)
    except ValueError:
        return "refused"
    try:
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


def _make_parts(job: _Job, layout: Layout, workers: int) -> None:
    """Decodes the parts that are not done. A part is written when its last dialogue is there; workers do not wait for that."""
    from pipeline.media import clip, pack, pool

    left = [index for index in range(len(job.parts)) if not job.work.is_done(index)]
    bounds = manifest.dialogue_bounds(job.table)
    dialogues = {index: [(start, stop) for start, stop in bounds if job.parts[index][0] <= start < job.parts[index][1]] for index in left}
    tasks = [_task(job, layout, start, stop) for index in left for start, stop in dialogues[index]]
    with (
        pool.stoppable(),
        closing(pool.in_order(clip.decode_dialogue, tasks, workers)) as results,
        progress(sum(len(task.clips) for task in tasks), "decode", "utterance") as bar,
    ):
        for index in left:
            rows: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
            for _ in dialogues[index]:
                decoded = next(results)
                rows += decoded
                bar.update(len(decoded))
            pack.write_part(job.work.part(index), [columns for columns, _ in rows])
            job.work.mark_done(index, [failure for _, of_row in rows for failure in of_row])


def _task(job: _Job, layout: Layout, start: int, stop: int) -> DialogueTask:
    rows = job.table.slice(start, stop - start).select(_CLIP_COLUMNS).to_pylist()
    return DialogueTask(layout.raw.resolve(), layout.dataset, tuple(Clip(**row) for row in rows), job.streams, job.config, job.model)


def _summary(job: _Job, failed: pa.Table) -> dict[str, Any]:
    """What info.json says beside the fingerprint: counts and versions."""
    columns = ["audio_status", "visual_status", "duration_seconds", "truncated"]
    rows = pa.concat_tables([pq.read_table(job.work.part(index), columns=columns) for index in range(len(job.parts))])
    counts = {
        "utterances": rows.num_rows,
        "parts": len(job.parts),
        "seconds": round(float(pc.sum(rows["duration_seconds"]).as_py()), 3),
        "truncated": int(pc.sum(rows["truncated"]).as_py()),
        "failures": {str(entry["values"]): int(entry["counts"]) for entry in pc.value_counts(failed["reason"].combine_chunks()).to_pylist()},
    }
    for stream in sorted(job.streams):
        counts[f"{stream}_ok"] = int(pc.sum(pc.equal(rows[f"{stream}_status"], "ok")).as_py())
    return {"counts": counts, "streams": sorted(job.streams), "sample_rate_hz": SAMPLE_RATE_HZ, "versions": versions()}


@stage_command
@click.option("--stream", "streams", multiple=True, type=click.Choice(STREAMS), default=STREAMS, show_default=True, help="Repeatable.")
def main(params: Params, layout: Layout, run: RunOptions, streams: tuple[str, ...]) -> None:
    """Manifest and raw files → sound and face crops."""
    decode(params, layout, run, streams=frozenset(streams))


if __name__ == "__main__":
    main()
