"""DVC stage ``media``: decodes what the manifest names, once, for every encoder.

manifest ──► clips that share files ──► workers (merc.media.clip) ──► parts of whole dialogues ──► media/part-NNNNN.parquet
                                                                                                     failures.parquet,
                                                                                                     record.json
"""  # noqa: E501

import hashlib
from collections import Counter
from collections.abc import Collection, Generator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.compute as pc

from merc import files, parquet
from merc.command_line import stage_command
from merc.compute.executors.base import Advance, Listed, choose
from merc.errors import BadSettings
from merc.job import RECORD, Fingerprint, Job, RunOptions
from merc.layout import Layout
from merc.log import logger, progress
from merc.media import networks
from merc.media.config import Config, of_dataset
from merc.media.parts import CLIP_COLUMNS, NAME, Decoding, streams_read
from merc.media.tasks import STREAMS
from merc.params import Params
from merc.provenance import versions
from merc.records import features as feature_tables
from merc.records import manifest
from merc.records.failures import LOUD_ABSENT_SHARE, REASONS
from merc.records.media import SAMPLE_RATE_HZ

# Incremented whenever the same settings and files give different rows.
_VERSION = 6
_OF_EVERY_STREAM = ("utterance_", "dialogue_", "expected_")
# A file is distinguished from a later one of the same name by size, head and tail: a new cut or a repaired download
# differs in the index that mp4 keeps at one end; hashing all of MELD would read 10 GB on every run.
_HEAD_BYTES = 4096


def decode(config: Config, layout: Layout, run: RunOptions, *, streams: frozenset[str]) -> Path:
    """Decodes audio and faces of every utterance in the manifest.

    Finished parts survive an interruption. Media with more streams than requested are used as they are; media with
    other streams are rebuilt with both, so that requesting audio today and faces tomorrow ends with both.

    Args:
        config: settings of the media.
        layout: paths of the manifest, the raw files and the media.
        run: number of worker processes, ``device``, ``overwrite``, ``max_failed``, ``clip_timeout_seconds``.
        streams: ``audio``, ``visual`` or both.

    Returns:
        The folder with ``part-NNNNN.parquet`` (:data:`merc.media.tables.SCHEMA`), ``failures.parquet`` and
        ``record.json``.

    Raises:
        RawDataMissing: if there is no manifest.
        BadSettings: if a setting is impossible, a stream unknown, or a network cannot be loaded.
        ModelUnavailable: if a network is not on this machine and cannot be fetched.
        SettingsDiffer: if media with different settings exist and ``overwrite`` is off.
        TooManyFailures: if more utterances are broken than ``max_failed`` allows; what was decoded is kept for the next
            run.
        PipelineError: if worker processes cannot even start. A clip that makes one crash or hang is recorded like any
            other broken clip.
    """
    decoding = prepare(config, layout, run, streams)
    if decoding.job.done_before():
        return layout.media
    for _ in make(with_networks(decoding, run), run):
        pass
    return finish(decoding, run)


def with_networks(decoding: Decoding, run: RunOptions) -> Decoding:
    """The same work with the files of its networks, fetched if they are not on this machine."""
    return replace(
        decoding,
        found=networks.found(decoding.config, offline=run.offline) if "visual" in decoding.streams else networks.NONE,
    )


def make(
    decoding: Decoding, run: RunOptions, advance: Advance | None = None, share: Collection[int] | None = None
) -> Generator[int, None, None]:
    """Decodes the parts that are not done, and yields the number of each.

    Args:
        decoding: with its networks.
        run: how to run.
        advance: called with numbers of utterances.
        share: only these parts, while other processes decode the others; None: all.
    """
    left = [index for index in decoding.left() if share is None or index in share]
    with progress(decoding.utterances(left), "decode", "utterance") as bar:

        def tell(utterances: int) -> None:
            bar.update(utterances)
            if advance is not None:
                advance(utterances)

        with closing(choose(run).map(decoding, Listed(left), tell)) as done:
            decoding.job.start() if share is None else decoding.job.join()
            for index, _ in done:
                yield index


def finish(decoding: Decoding, run: RunOptions) -> Path:
    """Moves decoded parts to their final place. Raises ``TooManyFailures`` as :func:`decode`."""
    failed = feature_tables.write_failures(decoding.job, len(decoding.bounds), decoding.table.num_rows, run.max_failed)
    info = _summary(decoding, failed)
    decoding.job.finish(info)
    logger.info("media: %d utterances decoded", decoding.table.num_rows, extra={"stage": NAME, **info["counts"]})
    for split, of_split in info["counts"]["absent"].items():
        for stream, reasons in of_split.items():
            _warn_if_much_is_absent(split, stream, reasons, decoding)
    return decoding.job.out


def dry_run(config: Config, layout: Layout, run: RunOptions, *, streams: frozenset[str]) -> dict[str, Any]:
    """What :func:`decode` would do, without decoding anything or importing a decoder.

    Returns:
        ``cached`` (nothing to do), ``streams`` that would exist afterwards, ``utterances``, ``utterances_to_decode``
        (finished parts of an interrupted run are not repeated), ``files`` (distinct ones named by the manifest),
        ``seconds`` of recording by the annotations, and the ``workers`` that would share them.

    Raises:
        RawDataMissing, BadSettings, SettingsDiffer: as :func:`decode`.
    """
    decoding = prepare(config, layout, run, streams)
    cached = decoding.job.cached()
    return {
        "cached": cached,
        "streams": sorted(decoding.streams),
        "utterances": decoding.table.num_rows,
        "utterances_to_decode": 0 if cached else decoding.utterances(decoding.left()),
        "files": len(_paths(decoding.table, decoding.streams)),
        "seconds": sum(
            min(seconds, decoding.config.max_clip_seconds) for seconds in manifest.annotated_seconds(decoding.table)
        ),
        "workers": run.workers,
    }


def prepare(config: Config, layout: Layout, run: RunOptions, streams: frozenset[str]) -> Decoding:
    """What :func:`decode` has to do; network files are not searched for yet."""
    strange = streams - set(STREAMS)
    if strange or not streams:
        raise BadSettings(f"streams {sorted(strange) or 'none'}: expected one or both of {', '.join(STREAMS)}")
    table = manifest.read(layout.manifest)
    settings = {"media": config.model_dump(mode="json")}
    follow = manifest.follows_links(table)
    looks = {path: _look_of(layout, path, follow_links=follow) for path in _paths(table, frozenset(STREAMS))}
    streams = streams | _streams_there(layout, config, table, looks, settings)
    fingerprint = Fingerprint(settings, _inputs(config, table, looks, streams))
    job = Job(NAME, layout.media, layout.scratch, fingerprint, run.overwrite)
    parts = manifest.cut_into_parts(table, config.utterances_per_part)
    return Decoding(config, layout, table, streams, parts, job, clip_timeout_seconds=run.clip_timeout_seconds)


def _streams_there(
    layout: Layout, config: Config, table: pa.Table, looks: Mapping[str, str], settings: Mapping[str, Any]
) -> frozenset[str]:
    """The streams of finished media that this run would reproduce; empty if it would produce different ones."""
    record_path = layout.media / RECORD
    if not record_path.is_file():
        return frozenset()
    record = files.read_json(record_path)
    there = frozenset(record["inputs"]["streams"])
    alike = record["settings"] == settings and record["inputs"] == _inputs(config, table, looks, there)
    return there if alike else frozenset()


def _inputs(config: Config, table: pa.Table, looks: Mapping[str, str], streams: frozenset[str]) -> dict[str, Any]:
    """Hashes of everything that decides the result apart from the settings; ``looks`` distinguishes the raw files from
    others of the same name.
    """
    of_streams: dict[str, Any] = {}
    for stream in sorted(streams):
        read = streams_read(config, frozenset({stream}))
        prefixes = tuple(prefix for one, prefix in (("audio", "audio_"), ("visual", "video_")) if one in read)
        columns = [name for name in CLIP_COLUMNS if name.startswith((*prefixes, *_OF_EVERY_STREAM))]
        columns += [name for name in table.schema.names if name == manifest.FURTHER_SPANS.name]
        of_streams[stream] = {
            "clips": files.digest_of_columns({name: table[name].to_pylist for name in columns}),
            "files": files.digest({path: looks[path] for path in _paths(table, read)}),
        }
        if stream == "visual":
            of_streams[stream] |= networks.contents(config)
    return {"version": _VERSION, "streams": of_streams}


def _paths(table: pa.Table, streams: frozenset[str]) -> list[str]:
    """The distinct files of these streams, sorted."""
    columns = [name for stream, name in (("audio", "audio_path"), ("visual", "video_path")) if stream in streams]
    further = {span[name] for spans in manifest.further_spans(table) for span in spans for name in columns}
    return sorted(further | {path for name in columns for path in pc.unique(table[name]).to_pylist() if path})


def _look_of(layout: Layout, relative: str, *, follow_links: bool) -> str:
    """What distinguishes a raw file from another one at the same path."""
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


def _summary(decoding: Decoding, failed: pa.Table) -> dict[str, Any]:
    """What record.json contains in addition to the fingerprint: counts and versions."""
    columns = ["audio_status", "visual_status", "duration_seconds", "truncated", "off_screen"]
    rows = pa.concat_tables([parquet.read(decoding.job.part(index), columns) for index in range(len(decoding.bounds))])
    counts = {
        "utterances": rows.num_rows,
        "parts": len(decoding.bounds),
        "seconds": round(float(pc.sum(rows["duration_seconds"]).as_py()), 3),
        "truncated": int(pc.sum(rows["truncated"]).as_py()),
        "failures": {
            str(entry["values"]): int(entry["counts"])
            for entry in pc.value_counts(failed["reason"].combine_chunks()).to_pylist()
        },
    }
    counts["absent"] = _absent(decoding, rows)
    if "visual" in decoding.streams and decoding.config.choice == "active_speaker":
        counts["judged"] = rows.num_rows - rows["off_screen"].null_count
        counts["off_screen"] = int(pc.sum(rows["off_screen"]).as_py() or 0)
    for stream in sorted(decoding.streams):
        counts[f"{stream}_ok"] = int(pc.sum(pc.equal(rows[f"{stream}_status"], "ok")).as_py())
    return {
        "counts": counts,
        "streams": sorted(decoding.streams),
        "sample_rate_hz": SAMPLE_RATE_HZ,
        "versions": versions(),
    }


def _absent(decoding: Decoding, rows: pa.Table) -> dict[str, dict[str, dict[str, int]]]:
    """Split → stream → reason → utterances that have none of this stream; the most frequent reason first."""
    splits = decoding.table["split"].to_pylist()
    absent: dict[str, dict[str, dict[str, int]]] = {}
    for split in dict.fromkeys(splits):
        for stream in sorted(decoding.streams):
            statuses = zip(splits, rows[f"{stream}_status"].to_pylist(), strict=True)
            reasons = Counter(status for one, status in statuses if one == split and status != "ok")
            absent.setdefault(split, {})[stream] = dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))
    return absent


def _warn_if_much_is_absent(split: str, stream: str, reasons: Mapping[str, int], decoding: Decoding) -> None:
    utterances = decoding.table["split"].to_pylist().count(split)
    absent = sum(reasons.values())
    if absent <= LOUD_ABSENT_SHARE * utterances:
        return
    reason, count = next(iter(reasons.items()))
    advice = (
        "; media.detector=yunet finds more faces" if reason == "no_face" and decoding.config.detector == "haar" else ""
    )
    words = "media: %s: %d of %d utterances of %s have none (%.0f %%), most of them (%d) by %s: %s%s"
    told = {"stage": NAME, "split": split, "modality": stream, "reason": reason}
    logger.warning(
        words,
        stream,
        absent,
        utterances,
        split,
        100 * absent / utterances,
        count,
        reason,
        REASONS[reason][1],
        advice,
        extra=told,
    )


@stage_command
@click.option(
    "--stream",
    "streams",
    multiple=True,
    type=click.Choice(STREAMS),
    default=STREAMS,
    show_default=True,
    help="Repeatable.",
)
def main(params: Params, layout: Layout, run: RunOptions, streams: tuple[str, ...]) -> None:
    """Manifest and raw files → audio and face crops."""
    decode(of_dataset(params, layout.dataset), layout, run, streams=frozenset(streams))


if __name__ == "__main__":
    main()
