"""The manifest: one row per utterance in dialogue order, checked when it is written and when it is read."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from merc import parquet
from merc.errors import BadTable, RawDataMissing
from merc.records.dialogue import CHANNELS, REGIONS, SPLITS

SCHEMA_VERSION = "2"
"""In the file's metadata; incremented whenever a column is added, removed or changes its meaning."""

ROW_GROUP_UTTERANCES = 16_384
"""Rows of a row group: the amount decoded to read the texts of one part. MELD, EmoryNLP and IEMOCAP are one group."""

SCHEMA = pa.schema(
    [
        pa.field("corpus", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("dialogue_id", pa.string(), nullable=False),
        pa.field("utterance_id", pa.string(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),  # dense, from 0
        pa.field("source_utterance_id", pa.string(), nullable=False),
        pa.field("scenario", pa.string(), nullable=False),
        pa.field("speaker", pa.string(), nullable=False),  # one spelling per person
        pa.field("source_speaker", pa.string(), nullable=False),  # as the corpus names them
        pa.field("speaker_index", pa.int16(), nullable=False),  # by first appearance in the dialogue
        pa.field("text", pa.string(), nullable=False),
        pa.field("text_characters", pa.int32(), nullable=False),  # Unicode code points
        pa.field("emotion", pa.string(), nullable=False),
        pa.field("emotion_index", pa.int16(), nullable=False),  # -1: not in the label set
        pa.field("sentiment", pa.string(), nullable=False),
        pa.field("valence", pa.float32()),
        pa.field("arousal", pa.float32()),
        pa.field("dominance", pa.float32()),
        pa.field("start_seconds", pa.float64(), nullable=False),
        pa.field("end_seconds", pa.float64(), nullable=False),
        pa.field("video_path", pa.string(), nullable=False),  # relative to raw/, empty if there is none
        pa.field("audio_path", pa.string(), nullable=False),
        pa.field("video_region", pa.string(), nullable=False),
        # The span inside the file, half-open seconds; null: start or end of the file.
        pa.field("video_start_seconds", pa.float64()),
        pa.field("video_end_seconds", pa.float64()),
        pa.field("audio_start_seconds", pa.float64()),
        pa.field("audio_end_seconds", pa.float64()),
        pa.field("audio_channel", pa.string(), nullable=False),  # mix, or the speaker's channel of a stereo file
        # How long the file should be; anything beyond belongs to a neighbour and is cut. Null: any length.
        pa.field("expected_seconds", pa.float64()),
    ]
)

FURTHER_SPANS = pa.field(
    "further_spans",
    pa.list_(
        pa.struct(
            [
                pa.field("video_path", pa.string(), nullable=False),
                pa.field("audio_path", pa.string(), nullable=False),
                pa.field("start_seconds", pa.float64(), nullable=False),
                pa.field("end_seconds", pa.float64(), nullable=False),
            ]
        )
    ),
)
"""For utterances in several pieces: those after the one in the columns above, in playing order; null if there is only
that one. The column exists only if one of the utterances needs it, so that other manifests are unchanged.
"""


def check(table: pa.Table, where: str) -> None:
    """Checks columns, unique ids, dense positions, contiguous dialogues, splits, regions, channels, times and spans.

    Raises:
        BadTable: the message gives ``where``, the first faulty utterance, and what is wrong with it.
    """
    expected = SCHEMA.append(FURTHER_SPANS) if FURTHER_SPANS.name in table.schema.names else SCHEMA
    if not table.schema.equals(expected, check_metadata=False):
        raise BadTable(
            f"{where}: not a manifest: columns {table.schema.names} instead of {SCHEMA.names}, or other types"
        )
    for field in SCHEMA:
        if not field.nullable and table[field.name].null_count:
            raise BadTable(f"{where}: {table[field.name].null_count} empty cells in column {field.name}")
    if table.num_rows == 0:
        raise BadTable(f"{where}: the manifest holds no utterance")
    ids = table["utterance_id"].to_pylist()
    if len(set(ids)) != len(ids):
        seen: set[str] = set()
        double = next(one for one in ids if one in seen or seen.add(one))  # type: ignore[func-returns-value]
        raise BadTable(f"{where}: utterance id {double!r} occurs {ids.count(double)} times")
    for column, valid in (("split", SPLITS), ("video_region", REGIONS), ("audio_channel", CHANNELS)):
        strange = set(pc.unique(table[column]).to_pylist()) - set(valid)
        if strange:
            raise BadTable(f"{where}: {column} {sorted(strange)} instead of one of {list(valid)}")
    dialogues = np.array(table["dialogue_id"].to_pylist(), dtype=object)
    positions = table["position"].to_numpy()
    starts = np.flatnonzero(np.r_[True, dialogues[1:] != dialogues[:-1]])
    if len(starts) != len(set(dialogues[starts])):
        raise BadTable(f"{where}: the utterances of a dialogue are not together")
    dense = np.arange(len(ids)) - np.repeat(starts, np.diff(np.r_[starts, len(ids)]))
    if (positions != dense).any():
        at = int(np.flatnonzero(positions != dense)[0])
        raise BadTable(f"{where}: {ids[at]} has position {positions[at]} instead of {dense[at]}")
    begin, end = table["start_seconds"].to_numpy(), table["end_seconds"].to_numpy()
    wrong = np.flatnonzero(~(np.isfinite(begin) & np.isfinite(end) & (begin >= 0) & (end >= begin)))
    if len(wrong):
        at = int(wrong[0])
        raise BadTable(f"{where}: {ids[at]} lasts from {begin[at]} to {end[at]} s")
    short = [
        row
        for row, seconds in enumerate(table["expected_seconds"].to_pylist())
        if seconds is not None and not 0 < seconds < float("inf")
    ]
    if short:
        raise BadTable(
            f"{where}: {ids[short[0]]} has expected_seconds {table['expected_seconds'][short[0]].as_py()}; above 0, or"
            " empty"
        )
    for row, spans in enumerate(further_spans(table)):
        if spans:
            _check_spans(table.slice(row, 1).to_pylist()[0], where)


def _check_spans(row: Mapping[str, Any], where: str) -> None:
    first = [(row[f"{stream}_start_seconds"], row[f"{stream}_end_seconds"]) for stream in ("video", "audio")]
    for start, end in [*first, *((span["start_seconds"], span["end_seconds"]) for span in row[FURTHER_SPANS.name])]:
        if start is None or end is None or not 0 <= start < end < math.inf:
            raise BadTable(f"{where}: {row['utterance_id']} has several spans, one of them from {start} to {end} s")


def further_spans(table: pa.Table) -> list[list[dict[str, Any]]]:
    """Per row, the spans after the first, in order; empty if there is only one."""
    if FURTHER_SPANS.name not in table.schema.names:
        return [[]] * table.num_rows
    return [spans or [] for spans in table[FURTHER_SPANS.name].to_pylist()]


def annotated_seconds(table: pa.Table) -> list[float]:
    """Per row, the expected length of the utterance: that of its spans, else its time in the recording."""
    begin_N, end_N = table["start_seconds"].to_numpy(), table["end_seconds"].to_numpy()
    for prefix in ("audio_", "video_"):
        cut = pc.is_valid(table[f"{prefix}end_seconds"]).to_numpy()
        begin_N = np.where(cut, pc.fill_null(table[f"{prefix}start_seconds"], 0.0).to_numpy(), begin_N)
        end_N = np.where(cut, pc.fill_null(table[f"{prefix}end_seconds"], 0.0).to_numpy(), end_N)
    seconds_N = end_N - begin_N
    for row, further in enumerate(further_spans(table)):
        if further:
            seconds_N[row] += sum(span["end_seconds"] - span["start_seconds"] for span in further)
    found: list[float] = seconds_N.tolist()
    return found


def write(path: Path, table: pa.Table) -> None:
    """Checks the table and writes it, completely or not at all."""
    check(table, str(path))
    parquet.write(path, table, ROW_GROUP_UTTERANCES, compression="zstd", compression_level=3)


def read(path: Path) -> pa.Table:
    """Reads and checks a manifest.

    Raises:
        RawDataMissing: if it is missing.
        BadTable: if it is not a Parquet file, has another schema version, or :func:`check` finds a fault.
    """
    if not path.exists():
        raise RawDataMissing(
            f"{path}: there is no manifest; run the stage manifest first: merc-extract --dataset {path.parent.name},"
            " or dvc repro"
        )
    table = parquet.read(path)
    version = (table.schema.metadata or {}).get(b"schema_version", b"1").decode()
    if version != SCHEMA_VERSION:
        raise BadTable(
            f"{path}: schema version {version}, this program reads {SCHEMA_VERSION}; run the stage manifest again"
        )
    check(table, str(path))
    return table


def classes(table: pa.Table) -> tuple[str, ...]:
    """The label set's classes, from the metadata of a manifest."""
    return tuple(table.schema.metadata[b"classes"].decode().split(","))


def follows_links(table: pa.Table) -> bool:
    """Whether links that lead out of the corpus's folder are followed, from the metadata of a manifest; yes unless
    stated otherwise.
    """
    return bool((table.schema.metadata or {}).get(b"links", b"follow") != b"refuse")


def dialogue_bounds(table: pa.Table) -> list[tuple[int, int]]:
    """Rows of each dialogue: half-open ``(start, stop)``, in order; every dialogue is contiguous (see
    :func:`check`).
    """
    positions = table["position"].to_numpy()
    starts = np.flatnonzero(positions == 0)
    stops = np.r_[starts[1:], len(positions)]
    return [(int(start), int(stop)) for start, stop in zip(starts, stops, strict=True)]


def cut_into_parts(table: pa.Table, utterances_per_part: int) -> list[tuple[int, int]]:
    """Cuts the manifest at dialogue boundaries into parts of at least ``utterances_per_part`` rows (the last may have
    fewer).

    Returns:
        Half-open row spans, in order. They depend only on the table and the number, so a resumed run finds the same
        parts whatever its number of workers.
    """
    parts: list[tuple[int, int]] = []
    begin = 0
    for _, stop in dialogue_bounds(table):
        if stop - begin >= utterances_per_part:
            parts.append((begin, stop))
            begin = stop
    if begin < table.num_rows:
        parts.append((begin, table.num_rows))
    return parts
