"""The encoders' inputs: transcripts from the manifest, audio and faces from the media parts.

A source knows its parts and reads one at a time, so memory is bounded by the size of a part; it is small and can be
sent to a worker process, which then does the reading.
"""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from merc import parquet
from merc.encoders.engine.base import UtteranceInput
from merc.errors import BadTable
from merc.job import Fingerprint
from merc.records import manifest
from merc.records.failures import REASONS
from merc.records.features import OK
from merc.records.inputs import TEXT_COLUMNS, require_media
from merc.records.media import SAMPLE_RATE_HZ

_MEDIA_COLUMNS = {"audio": ("audio",), "visual": ("faces", "face_seconds", "face_scores")}


@dataclass(frozen=True)
class PartInput:
    """The utterances of one part, decoded.

    Attributes:
        utterance_ids: all ids of the part, in manifest order.
        status: one per utterance; ``ok``, or why there is nothing to encode (a key of
            :data:`merc.records.failures.REASONS`).
        utterances: those whose status is ``ok``, in order.
    """

    utterance_ids: Sequence[str]
    status: Sequence[str]
    utterances: Sequence[UtteranceInput]


class Source(Protocol):
    """The source of one modality's parts."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Utterances per part."""

    def read(self, index: int, history_turns: int, threads: int = 1) -> PartInput:
        """Reads part ``index``; the history of an utterance is the ``history_turns`` turns before it in its dialogue.

        Audio and faces are decoded in this many threads.
        """


@dataclass(frozen=True)
class TextSource:
    """Transcripts, straight from the manifest.

    Attributes:
        path: the manifest.
        spans: half-open row spans of the parts, cut at dialogue boundaries.
        heard: the audit's table, whose ``asr_text`` replaces the text; None: the text itself.
    """

    path: Path
    spans: tuple[tuple[int, int], ...]
    heard: Path | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(stop - start for start, stop in self.spans)

    def read(self, index: int, history_turns: int, threads: int = 1) -> PartInput:
        start, stop = self.spans[index]
        rows = parquet.read_span(self.path, TEXT_COLUMNS, start, stop)
        ids, dialogues, speakers, texts = (rows[name].to_pylist() for name in TEXT_COLUMNS)
        if self.heard is not None:
            texts = [
                text or "" for text in parquet.read_span(self.heard, ["asr_text"], start, stop)["asr_text"].to_pylist()
            ]
        utterances = []
        first = 0  # row at which the dialogue starts
        for row, dialogue in enumerate(dialogues):
            if dialogue != dialogues[first]:
                first = row
            earlier = range(max(first, row - history_turns), row)
            utterances.append(
                UtteranceInput(
                    utterance_id=ids[row],
                    text=texts[row],
                    speaker=speakers[row],
                    history=tuple((speakers[turn], texts[turn]) for turn in earlier),
                )
            )
        return PartInput(ids, [OK] * len(ids), utterances)


@dataclass(frozen=True)
class MediaSource:
    """Audio or faces, from the media parts. Only the columns of the modality are read, so that each byte of them is
    read once.

    Attributes:
        groups: the media parts, in order, of each part.
        sizes: utterances per part.
        modality: ``audio`` or ``visual``.
    """

    groups: tuple[tuple[Path, ...], ...]
    sizes: tuple[int, ...]
    modality: str

    def read(self, index: int, history_turns: int, threads: int = 1) -> PartInput:
        ids: list[str] = []
        status: list[str] = []
        utterances: list[UtteranceInput] = []
        with ThreadPoolExecutor(threads) as pool:  # soundfile and OpenCV release the GIL while decoding
            for path in self.groups[index]:
                of_file = self._read_file(path, pool)
                ids += of_file.utterance_ids
                status += of_file.status
                utterances += of_file.utterances
        return PartInput(ids, status, utterances)

    def _read_file(self, path: Path, pool: ThreadPoolExecutor) -> PartInput:
        status_column = f"{self.modality}_status"
        rows = parquet.read(path, ["utterance_id", status_column, *_MEDIA_COLUMNS[self.modality]])
        ids, status = rows["utterance_id"].to_pylist(), rows[status_column].to_pylist()
        strange = set(status) - {OK} - set(REASONS)
        if strange:
            raise BadTable(
                f"{path}: {status_column} {sorted(strange)}: this stream was not decoded; run the media stage with it"
            )
        decode = _sound if self.modality == "audio" else _faces

        def decoded(row: int) -> UtteranceInput:
            try:
                return UtteranceInput(utterance_id=ids[row], **decode(rows, row))
            except ValueError as error:
                raise BadTable(f"{path}: {ids[row]}: {error}") from error

        return PartInput(
            ids, status, list(pool.map(decoded, np.flatnonzero(np.array(status, dtype=object) == OK).tolist()))
        )


def text_source(
    layout_manifest: Path, table: pa.Table, utterances_per_part: int, heard: Path | None = None
) -> TextSource:
    """The transcripts of a manifest, cut at dialogue boundaries.

    Args:
        layout_manifest: path of the manifest.
        table: its content.
        utterances_per_part: see :func:`merc.records.manifest.cut_into_parts`.
        heard: see :class:`TextSource`.
    """
    return TextSource(layout_manifest, tuple(manifest.cut_into_parts(table, utterances_per_part)), heard)


def media_source(folder: Path, table: pa.Table, modality: str, utterances_per_part: int) -> MediaSource:
    """The media parts, checked against the manifest.

    Args:
        folder: of the media.
        table: the manifest.
        modality: ``audio`` or ``visual``.
        utterances_per_part: a part consists of as many media parts as needed for this many utterances; 1: each media
            part is one.

    Raises:
        BadTable: if there are no finished media, or they contain other utterances, or the same ones in another order.
    """
    require_media(folder)
    paths = sorted(folder.glob("part-*.parquet"))
    columns = [parquet.read(path, ["utterance_id"])["utterance_id"] for path in paths]
    chunks = [chunk for column in columns for chunk in column.chunks]
    if not pa.chunked_array(chunks, pa.string()).equals(table["utterance_id"]):
        there, wanted = [one for column in columns for one in column.to_pylist()], table["utterance_id"].to_pylist()
        at = next(
            (row for row, pair in enumerate(zip(there, wanted, strict=False)) if pair[0] != pair[1]),
            min(len(there), len(wanted)),
        )
        raise BadTable(
            f"{folder}: {len(there)} utterances, the manifest has {len(wanted)}; they differ from row {at}"
            f" ({_at(there, at)} there, {_at(wanted, at)} in the manifest). Run the media stage again."
        )
    return _grouped(
        [(path, len(column)) for path, column in zip(paths, columns, strict=True)], modality, utterances_per_part
    )


@dataclass(frozen=True)
class MediaToCome:
    """Media that are being made.

    Attributes:
        parts: path and number of utterances of each, in order.
        fingerprint: of the run that makes them.
    """

    parts: tuple[tuple[Path, int], ...]
    fingerprint: Fingerprint

    def source(self, modality: str, utterances_per_part: int) -> MediaSource:
        """Their parts, at their future paths, grouped as in :func:`media_source`."""
        return _grouped(self.parts, modality, utterances_per_part)


def _grouped(media_parts: Sequence[tuple[Path, int]], modality: str, utterances_per_part: int) -> MediaSource:
    """Groups media parts, with their numbers of utterances, to parts of the required size."""
    groups: list[list[Path]] = []
    sizes: list[int] = []
    for path, utterances in media_parts:
        if not sizes or sizes[-1] >= utterances_per_part:
            groups.append([])
            sizes.append(0)
        groups[-1].append(path)
        sizes[-1] += utterances
    return MediaSource(tuple(map(tuple, groups)), tuple(sizes), modality)


def _at(ids: list[str], row: int) -> str:
    return repr(ids[row]) if row < len(ids) else "nothing"


def _sound(rows: pa.Table, row: int) -> dict[str, Any]:
    """The waveform of a row; ``ValueError`` if its bytes are not 16 kHz mono audio."""
    import soundfile

    try:
        waveform, rate_hz = soundfile.read(io.BytesIO(rows["audio"][row].as_py()), dtype="float32")
    except soundfile.LibsndfileError as error:
        raise ValueError(f"not a FLAC file: {error}") from error
    if rate_hz != SAMPLE_RATE_HZ or waveform.ndim != 1:
        raise ValueError(f"audio of {rate_hz} Hz and shape {waveform.shape} instead of {SAMPLE_RATE_HZ} Hz mono")
    return {"waveform": waveform}


def _faces(rows: pa.Table, row: int) -> dict[str, Any]:
    """The face crops of a row; ``ValueError`` if one is not a JPEG or differs in size from the others."""
    crops = [_picture(crop) for crop in rows["faces"][row].as_py()]
    if not crops:
        raise ValueError("status ok, but no face")
    return {
        "faces": np.stack(crops),
        "face_seconds": np.array(rows["face_seconds"][row].as_py(), dtype=np.float32),
        "face_scores": np.array(rows["face_scores"][row].as_py(), dtype=np.float32),
    }


def _picture(jpeg: bytes) -> NDArray[np.uint8]:
    """(height, width, 3) RGB."""
    import cv2

    picture = (
        cv2.imdecode(np.frombuffer(jpeg, dtype=np.uint8), cv2.IMREAD_COLOR) if jpeg else None
    )  # OpenCV raises an error for empty input
    if picture is None:
        raise ValueError(f"a face of {len(jpeg)} bytes is not a JPEG")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)
