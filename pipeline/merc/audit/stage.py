"""Stage ``audit``: finished media and transcripts → what to distrust, utterance by utterance, as a table and a page.

    manifest, media ──► heard/speech, heard/transcripts (:mod:`merc.audit.listening`)
          └───────┬────────────────┘
                  ▼
    audit/audit.parquet, audit.html, record.json

Nothing is decoded again, and nothing is dropped: shards can contain the numbers as columns ``quality_<name>``, and
``merc-shards select --where`` makes a subset.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from merc import files, log, parquet, provenance
from merc.audit import doubts, faces, listening, page, same_sound, wording
from merc.audit.config import Config
from merc.audit.transcription import Transcriber
from merc.encoders.engine import registry
from merc.encoders.engine.checkpoint import Checkpoint
from merc.encoders.engine.neural import NeuralConfig
from merc.errors import BadSettings, BadTable, nearest
from merc.job import RECORD, Fingerprint, Job, RunOptions
from merc.layout import Layout
from merc.params import Params
from merc.records import audit as audits
from merc.records import failures, manifest
from merc.records.feature_parts import open_features
from merc.records.features import FAILURES, OK

NAME = "audit"
# Incremented whenever the same settings and inputs give different rows.
_VERSION = 1
_CUT = (
    "truncated",
    "cut_to_annotation",
    "shorter_than_annotation",
    "partly_decoded",
    "nearly_empty",
    "span_doubted",
    "span_empty",
)
"""Failure reasons for which audio or frames may not match the text."""
_NOT_DECISIVE = {"asr", "asr_revision", "asr_dtype", "language", "windows_per_batch"}
# Media from before the active-speaker detection lack these; audit column → media column.
_OF_SPEAKER = {"speaking": "speaking_logit", "speaking_share": "speaking_share", "off_screen": "off_screen"}
_NOTHING_UNDERSTOOD = 0.8


def make_audit(config: Config, layout: Layout, run: RunOptions, transcriber: Transcriber | None = None) -> Path:
    """Audits a dataset.

    Args:
        config: what is checked, and the thresholds.
        layout: paths of the dataset; the audit goes to ``layout.audit``.
        run: workers, device, overwrite.
        transcriber: for the columns of speech recognition; without it they are null.

    Returns:
        The folder with ``audit.parquet`` (:data:`merc.records.audit.SCHEMA`), ``audit.html`` and ``record.json``.

    Raises:
        RawDataMissing: if there is no manifest.
        BadTable: if there are no finished media, or they do not match it.
        BadSettings, ModelUnavailable: if the model for transcripts cannot be used.
        SettingsDiffer: if an audit with other settings exists and ``run.overwrite`` is off.
    """
    table = manifest.read(layout.manifest)
    gathered = _Gathered(config, layout, table, audits.source_hashes(layout, table))
    settings = {
        "audit": (
            config.model_dump(mode="json", exclude=_NOT_DECISIVE)
            | {"asr": None if transcriber is None else transcriber.identity()}
        )
    }
    job = Job(NAME, layout.audit, layout.scratch, Fingerprint(settings, gathered.inputs()), run.overwrite)
    if job.done_before():
        return job.out
    heard, transcripts = gathered.listen(run, transcriber)
    found = doubts.with_doubts(gathered.rows(heard, transcripts), config)
    job.start()
    parquet.write(job.folder / audits.TABLE, found)
    gathered.notes += _notes(found)
    counts = _counts(found, config)
    page.write_page(job.folder / audits.PAGE, layout, config, table, found, gathered.notes)
    job.finish({"counts": counts, "notes": gathered.notes, "versions": provenance.versions()})
    log.logger.info(
        "%s: %d of %d utterances are doubtful",
        NAME,
        counts["doubtful"],
        table.num_rows,
        extra={"stage": NAME, **counts},
    )
    return job.out


def transcriber_of(params: Params, config: Config, *, offline: bool) -> Transcriber | None:
    """The model in ``audit.asr``: a folder, one of our encoders with its pinned revision, or a name on the hub; None if
    empty.

    Raises:
        BadSettings: if it is none of these.
    """
    name = config.asr
    if not name:
        return None
    known = registry.names(params, "audio")
    if Path(name).is_dir() or name not in known:
        if not Path(name).is_dir() and "/" not in name:
            raise BadSettings(
                f"audit.asr: no folder, no encoder and no name on the hub: {name!r}; {nearest(name, known)}"
            )
        return Transcriber(config, Checkpoint(name, config.asr_revision, offline))
    chosen = registry.choose(params, "audio", name).config
    if not isinstance(chosen, NeuralConfig):
        raise BadSettings(
            f"audit.asr: the encoder {name!r} has no checkpoint that can transcribe; whisper_base and whisper_small"
            " have one"
        )
    return Transcriber(config, Checkpoint(chosen.repo, chosen.revision, offline, made_by=chosen.made_by))


@dataclass
class _Gathered:
    """The inputs of the audit.

    Attributes:
        sources: see :func:`merc.records.audit.source_hashes`.
        notes: remarks for the page.
    """

    config: Config
    layout: Layout
    table: pa.Table
    sources: Mapping[str, Any]
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._faces = None
        name = self.config.face_encoder
        if (self.layout.features("visual", name) / RECORD).is_file():
            try:
                self._faces = open_features(self.layout, self.table, "visual", name)
            except BadTable as error:
                self.notes.append(f"Faces were not compared: {error}")
                log.logger.warning("%s: faces are not compared: %s", NAME, error, extra={"stage": NAME})

    def inputs(self) -> dict[str, Any]:
        """Hashes for the fingerprint."""
        return {
            "version": _VERSION,
            "sources": self.sources,
            "faces": None if self._faces is None else self._faces.fingerprint,
        }

    def listen(self, run: RunOptions, transcriber: Transcriber | None) -> tuple[pa.Table | None, pa.Table | None]:
        """Speech and transcripts; None without audio, or without a model."""
        if "audio" not in self.sources:
            self.notes.append("No audio was decoded, so none was examined.")
            return None, None
        speech = listening.rows_of(listening.speech_of(self.layout, self.table, self.sources["audio"], run))
        if transcriber is None:
            self.notes.append("No speech recognition: merc-extract audit --asr NAME compares the audio with the text.")
            return speech, None
        done = listening.transcripts_of(transcriber, self.layout, self.table, self.sources["audio"], run)
        language = files.read_json(done.out / done.record).get("language", "")
        self.notes.append(f"Speech was recognised by {transcriber.named()}, in the language {language!r}.")
        return speech, listening.rows_of(done)

    def rows(self, speech: pa.Table | None, transcripts: pa.Table | None) -> pa.Table:
        """The audit's table, without doubts."""
        columns = {
            **self._of_sound(speech),
            **self._of_words(transcripts),
            **self._of_media(),
            "face_unlike": self._of_faces(),
        }
        columns |= {"utterance_id": self.table["utterance_id"], "doubts": [[]] * self.table.num_rows}
        return pa.table(
            [_column(columns.get(one.name), one, self.table.num_rows) for one in audits.SCHEMA], schema=audits.SCHEMA
        )

    def _of_sound(self, speech: pa.Table | None) -> dict[str, Any]:
        if speech is None:
            return {}
        texts, seconds = self.table["text"].to_pylist(), speech["speech_seconds"].to_pylist()
        prints = speech["fingerprint"].combine_chunks()
        prints_N = np.split(prints.flatten().to_numpy(), np.cumsum(prints.value_lengths().to_numpy())[:-1])
        digests, ids = speech["sound_sha256"].to_pylist(), self.table["utterance_id"].to_pylist()
        nearest_N = same_sound.nearest(
            digests, prints_N, self.config.same_sound_min_share, self.config.same_sound_max_bit_error
        )
        return {
            "speech_share": speech["speech_share"],
            "speech_seconds": speech["speech_seconds"],
            "speech_rate": [
                None if one is None else wording.speech_rate(text, one)
                for text, one in zip(texts, seconds, strict=True)
            ],
            "same_sound_as": [
                None if one is None else ids[near] if near >= 0 else ""
                for near, one in zip(nearest_N, seconds, strict=True)
            ],
        }

    def _of_words(self, transcripts: pa.Table | None) -> dict[str, Any]:
        if transcripts is None:
            return {}
        heard = transcripts["asr_text"].to_pylist()
        compared = [_compared(text, one) for text, one in zip(self.table["text"].to_pylist(), heard, strict=True)]
        return {
            "asr_text": heard,
            "asr_error": [error for error, _ in compared],
            "asr_note": [note for _, note in compared],
        }

    def _of_media(self) -> dict[str, Any]:
        paths = sorted(self.layout.media.glob("part-*.parquet"))
        there = parquet.schema(paths[0]).names
        of_speaker = {name: source for name, source in _OF_SPEAKER.items() if source in there}
        rows = parquet.read(paths, ["audio_status", "frames_seen", "face_coverage", *of_speaker.values()])
        seen, decoded = pc.greater(rows["frames_seen"], 0), pc.equal(rows["audio_status"], OK)
        reasons = self._cut_reasons()
        known = pc.or_(seen, decoded).to_pylist()
        return {
            "face_coverage": pc.if_else(seen, rows["face_coverage"], None),
            **{name: rows[source] for name, source in of_speaker.items()},
            "cut_or_short": [bool(one) if is_known else None for one, is_known in zip(reasons, known, strict=True)],
            "cut_reasons": [one if is_known else None for one, is_known in zip(reasons, known, strict=True)],
        }

    def _cut_reasons(self) -> list[str]:
        path = self.layout.media / FAILURES
        found: dict[str, dict[str, None]] = {}
        for row in failures.checked(parquet.read(path), path).to_pylist():
            if row["reason"] in _CUT:
                found.setdefault(row["utterance_id"], {})[row["reason"]] = None
        return [",".join(found.get(name, ())) for name in self.table["utterance_id"].to_pylist()]

    def _of_faces(self) -> Any:
        if self._faces is None:
            return None
        vectors = self._faces.read(0, self.table.num_rows)
        found_N = faces.unlike(
            self.table["dialogue_id"].to_pylist(), self.table["speaker"].to_pylist(), vectors.values, vectors.present
        )
        return pa.array(found_N, from_pandas=True)  # NaN as null


def _compared(text: str, heard: str | None) -> tuple[float | None, str | None]:
    """Error and note of one utterance; both null if no audio was analysed."""
    if heard is None:
        return None, None
    error = wording.error_rate(text, heard)
    if error is None:
        return None, "the text has no letter or digit"
    return error, "" if wording.heard_letters(heard) else "no words were recognised"


def _column(values: Any, column: pa.Field, rows: int) -> pa.ChunkedArray | pa.Array:
    if values is None:
        return pa.nulls(rows, column.type)
    return values.cast(column.type) if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, column.type)


def _notes(found: pa.Table) -> list[str]:
    """Remarks on the corpus as a whole."""
    median = pc.approximate_median(found["asr_error"]).as_py()
    if median is None or median < _NOTHING_UNDERSTOOD:
        return []
    return [
        f"Speech recognition understands almost nothing here (median error {median:.2f}): the language may be wrong"
        " (audit.language), or the audio may contain no words at all, as in the demonstration corpus, whose voices are"
        " synthetic vowels. The errors then say nothing about single utterances."
    ]


def _counts(found: pa.Table, config: Config) -> dict[str, Any]:
    by_column = {check.column: _count(check, found) for check in doubts.checks(config)}
    number = Counter(len(one) for one in found["doubts"].to_pylist())
    return {"utterances": found.num_rows, "doubtful": found.num_rows - number[0], "columns": by_column}


def _count(check: doubts.Check, found: pa.Table) -> dict[str, int]:
    return {"known": int(np.isfinite(check.values(found)).sum()), "doubtful": int(check.doubtful(found).sum())}
