"""Analyses the audio of every clip, part by part, so that a killed run resumes: speech and fingerprints by worker
processes, transcripts on one device.

    media/part-*.parquet ──► heard/speech/part-*.parquet         speech, and fingerprints of the audio
                         ──► heard/transcripts/part-*.parquet    output of a Whisper

Both are stored separately from the audit: other thresholds do not require them again.
"""

import hashlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from merc import log, parquet, provenance
from merc.audit import same_sound, speech
from merc.audit.transcription import CLIPS_FOR_LANGUAGE, Transcriber, tells_language
from merc.compute import device, memory, pool
from merc.extraction.inputs import MediaSource, PartInput, media_source
from merc.interrupts import stoppable
from merc.job import Fingerprint, Job, RunOptions
from merc.layout import Layout

_UTTERANCES_PER_PART = 128
# Incremented whenever the same settings and media give different rows.
_SPEECH_VERSION, _TRANSCRIPTS_VERSION = 1, 1
SILENT = "silence"
"""The status of a clip that was decoded and contains nothing: no speech, instead of unknown."""

SPEECH = pa.schema(
    [
        pa.field("utterance_id", pa.string(), nullable=False),
        pa.field("speech_seconds", pa.float32()),  # null without audio
        pa.field("speech_share", pa.float32()),
        pa.field("sound_sha256", pa.string(), nullable=False),  # of the samples; empty without audio, or for silence
        pa.field("fingerprint", pa.list_(pa.field("element", pa.uint32(), nullable=False)), nullable=False),
    ]
)
TRANSCRIPTS = pa.schema(
    [
        pa.field("utterance_id", pa.string(), nullable=False),
        pa.field("asr_text", pa.string()),  # null without audio
    ]
)


def speech_of(layout: Layout, table: pa.Table, audio: Any, run: RunOptions) -> Job:
    """Finds speech and fingerprints of all clips.

    Args:
        layout: layout of the dataset.
        table: the manifest.
        audio: hashes of the audio.
        run: workers, overwrite.

    Returns:
        The finished job.
    """
    source = media_source(layout.media, table, "audio", _UTTERANCES_PER_PART)
    job = Job(
        "heard/speech",
        layout.heard("speech"),
        layout.scratch,
        Fingerprint({}, {"version": _SPEECH_VERSION, "audio": audio}),
        run.overwrite,
    )
    if job.done_before():
        return job
    left = _begun(job, source)
    with (
        stoppable(),
        _progress(job, source, left) as bar,
        closing(pool.in_order(_measure, [_Part(source, job, at) for at in left], run.workers)) as done,
    ):
        for utterances in done:
            bar.update(utterances)
    job.finish({"versions": provenance.versions()})
    return job


def transcripts_of(transcriber: Transcriber, layout: Layout, table: pa.Table, audio: Any, run: RunOptions) -> Job:
    """Transcribes all clips; as :func:`speech_of`, on ``run.device``.

    Raises:
        BadSettings, ModelUnavailable: see :class:`merc.audit.transcription.Transcriber`.
        SettingsDiffer: if transcripts by another model exist and ``run.overwrite`` is off.
    """
    source = media_source(layout.media, table, "audio", _UTTERANCES_PER_PART)
    fingerprint = Fingerprint({"asr": transcriber.identity()}, {"version": _TRANSCRIPTS_VERSION, "audio": audio})
    job = Job("heard/transcripts", layout.heard("transcripts"), layout.scratch, fingerprint, run.overwrite)
    if job.done_before():
        return job
    left = _begun(job, source)
    memory.return_large_blocks()
    transcriber.load(device.resolve(run.device))
    # All parts in one language, even if a run resumes.
    language = transcriber.language_of(_first_clips(source))
    log.logger.info(
        "%s: in the language %s on %s",
        job.name,
        language,
        transcriber.device,
        extra={"stage": job.name, "language": language},
    )
    with _progress(job, source, left) as bar:
        for index in left:
            part = source.read(index, 0)
            texts = transcriber.transcribe(_sounds(part), language)
            _write(
                job,
                index,
                TRANSCRIPTS,
                _in_rows(part, [{"asr_text": text} for text in texts], {"asr_text": None}, {"asr_text": ""}),
            )
            bar.update(source.sizes[index])
    job.finish(
        {
            "language": language,
            "model": transcriber.checkpoint.repo if not transcriber.checkpoint.is_folder else "",
            "versions": provenance.versions(),
        }
    )
    return job


def _sounds(part: PartInput) -> list[NDArray[np.float32]]:
    return [one.waveform for one in part.utterances if one.waveform is not None]


def _first_clips(source: MediaSource) -> list[NDArray[np.float32]]:
    """The clips of the first parts, until there are enough to detect the language."""
    clips: list[NDArray[np.float32]] = []
    for index in range(len(source.sizes)):
        clips += _sounds(source.read(index, 0))
        if sum(map(tells_language, clips)) >= CLIPS_FOR_LANGUAGE:
            break
    return clips


def rows_of(job: Job) -> pa.Table:
    """All rows of a finished job, in manifest order."""
    return parquet.read(sorted(job.out.glob("part-*.parquet")))


@dataclass(frozen=True)
class _Part:
    """One task of a worker."""

    source: MediaSource
    job: Job
    index: int

    def __str__(self) -> str:
        return f"part {self.index} of {self.job.name}"


def _measure(part: _Part) -> int:
    given = part.source.read(part.index, 0)
    nothing: dict[str, Any] = {"speech_seconds": None, "speech_share": None, "sound_sha256": "", "fingerprint": []}
    measured = [_measured(sound) for sound in _sounds(given)]
    _write(
        part.job,
        part.index,
        SPEECH,
        _in_rows(given, measured, nothing, {**nothing, "speech_seconds": 0.0, "speech_share": 0.0}),
    )
    return len(given.utterance_ids)


def _measured(waveform_S: NDArray[np.float32]) -> dict[str, Any]:
    found = speech.measure(waveform_S)
    return {
        "speech_seconds": found.seconds,
        "speech_share": found.share,
        "sound_sha256": hashlib.sha256(waveform_S.tobytes()).hexdigest(),
        "fingerprint": same_sound.fingerprint(waveform_S),
    }


def _in_rows(
    part: PartInput, found: Sequence[dict[str, Any]], nothing: dict[str, Any], silent: dict[str, Any]
) -> list[dict[str, Any]]:
    """A row for each utterance of a part; ``found`` are those with audio."""
    rest = iter(found)
    return [
        {"utterance_id": name, **(next(rest) if status == "ok" else silent if status == SILENT else nothing)}
        for name, status in zip(part.utterance_ids, part.status, strict=True)
    ]


def _write(job: Job, index: int, schema: pa.Schema, rows: Sequence[dict[str, Any]]) -> None:
    parquet.write(job.part(index), pa.Table.from_pylist(list(rows), schema=schema))
    job.mark_done(index, [])


def _begun(job: Job, source: MediaSource) -> list[int]:
    """Starts or resumes a job; returns the remaining parts."""
    job.start()
    left = [index for index in range(len(source.sizes)) if not job.is_done(index)]
    if len(left) < len(source.sizes):
        log.logger.info(
            "%s: %d of %d parts were already done",
            job.name,
            len(source.sizes) - len(left),
            len(source.sizes),
            extra={"stage": job.name},
        )
    return left


def _progress(job: Job, source: MediaSource, left: Sequence[int]) -> Any:
    total = sum(source.sizes)
    return log.progress(total, job.name, "utterance", done=total - sum(source.sizes[index] for index in left))
