"""The audit: doubts about each utterance. Written by :mod:`merc.audit.stage`, read into shards as columns
``quality_<name>``.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from merc import files, job, parquet
from merc.errors import BadTable
from merc.layout import Layout
from merc.records.inputs import input_hashes

TABLE, PAGE = "audit.parquet", "audit.html"
PREFIX = "quality_"
"""Prefix of the columns in shards."""

SCHEMA = pa.schema(
    [
        pa.field("utterance_id", pa.string(), nullable=False),
        # Audio. Null if none could be decoded.
        pa.field("speech_share", pa.float32()),  # of the time, 0 to 1
        pa.field("speech_seconds", pa.float32()),
        pa.field(
            "speech_rate", pa.float32()
        ),  # letters and digits of the text per second of speech; null without speech, or without a letter
        pa.field("same_sound_as", pa.string()),  # the nearest utterance with the same audio; empty if there is none
        # Speech recognition. Null if it did not run, or there is no audio; the error also if the text has no letter.
        pa.field("asr_text", pa.string()),
        pa.field("asr_error", pa.float32()),  # character error rate of what was recognised; may exceed 1
        pa.field("asr_note", pa.string()),  # why there is no error, or why it is 1
        # Faces. Null if no frame was decoded; the next three also if active speakers were not determined.
        pa.field("face_coverage", pa.float32()),  # frames with the chosen face over frames seen
        pa.field("speaking", pa.float32()),  # logit of the chosen person; positive: speaks
        pa.field("speaking_share", pa.float32()),  # of the time in which that logit is positive
        pa.field("off_screen", pa.bool_()),  # no mouth matches the audio
        pa.field(
            "face_unlike", pa.float32()
        ),  # cosine distance from the same name's other faces in the dialogue; null without them, or without an embedding  # noqa: E501
        # What decoding recorded.
        pa.field("cut_or_short", pa.bool_()),  # null if nothing was decoded
        pa.field("cut_reasons", pa.string()),  # keys of failures.REASONS, comma-separated
        # Those of the columns above that are beyond their threshold, in their order.
        pa.field("doubts", pa.list_(pa.field("element", pa.string(), nullable=False)), nullable=False),
    ]
)

QUALITY: dict[str, str] = {
    "speech_share": "share of the time that contains speech",
    "speech_seconds": "seconds of speech",
    "speech_rate": "letters and digits of the text per second of speech",
    "same_sound": "1 where another utterance has the same audio, else 0",
    "asr_error": "character error rate of a speech recogniser's transcript against the text; may exceed 1",
    "face_coverage": "share of the sampled frames that show the chosen face",
    "speaking": "logit of the active speaker detector for the chosen face; positive if it speaks",
    "speaking_share": "share of the time in which the chosen face speaks",
    "off_screen": "1 where no mouth matches the audio, else 0",
    "face_unlike": "cosine distance of the face from the same speaker's other faces in the dialogue",
    "cut_or_short": "1 where audio or frames were cut, or are shorter than annotated, else 0",
}
"""The values of an audit that shards can contain, by their name after ``quality_``; null if unknown."""


@dataclass(frozen=True)
class Audit:
    """A finished audit.

    Attributes:
        table: one row per utterance, in manifest order (:data:`SCHEMA`).
        settings: settings that it was made with.
        fingerprint: of the work.
    """

    table: pa.Table
    settings: Mapping[str, Any]
    fingerprint: str

    def quality(self) -> pa.Table:
        """The columns of :data:`QUALITY`, float32; null if unknown."""
        return pa.table({name: quality_of(self.table, name) for name in QUALITY})


class _AuditRecord(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    fingerprint: str
    settings: dict[str, Any]
    inputs: dict[str, Any]


def quality_of(table: pa.Table, name: str) -> pa.ChunkedArray:
    """A column of :data:`QUALITY` of the audit's table, float32."""
    found = pc.not_equal(table["same_sound_as"], "") if name == "same_sound" else table[name]
    return found.cast(pa.float32())


def source_hashes(layout: Layout, table: pa.Table) -> dict[str, Any]:
    """What an audit is made from, for its fingerprint: the transcripts, and the audio and video that were
    decoded.

    Raises:
        BadTable: if there are no finished media.
    """
    record = layout.media / job.RECORD
    if not record.is_file():
        raise BadTable(
            f"{layout.media}: there are no decoded media to audit; merc-extract --dataset {layout.dataset} decodes them"
        )
    streams = files.read_record(record, job.Record, "the record of media")["inputs"].get("streams", {})
    return {
        "text": input_hashes(layout.media, table, "text"),
        **{stream: input_hashes(layout.media, table, stream) for stream in sorted(streams)},
    }


def with_heard_text(layout: Layout, table: pa.Table) -> pa.Table:
    """The manifest with a speech recogniser's output as ``text``; empty if there is no audio.

    Raises:
        BadTable: as :func:`read`, and if the audit was made without speech recognition.
    """
    heard = read(layout, table).table["asr_text"]
    if heard.null_count == len(heard):
        again = f"{_command(layout)} --asr whisper_base --overwrite"
        raise BadTable(f"{layout.audit}: the audit was made without speech recognition; this remakes it:\n  {again}")
    return table.set_column(table.schema.get_field_index("text"), table.schema.field("text"), pc.fill_null(heard, ""))


def _command(layout: Layout) -> str:
    return f"merc-extract audit --dataset {layout.dataset} --out {shlex.quote(str(layout.out))}"


def require(layout: Layout) -> None:
    """Raises ``BadTable`` if no audit was made; the message names the command."""
    if not (layout.audit / job.RECORD).is_file():
        raise BadTable(
            f"{layout.audit}: there is no audit, which the quality columns need; this makes it:\n  {_command(layout)}"
        )


def read(layout: Layout, table: pa.Table) -> Audit:
    """Reads the audit of a manifest, and checks that it belongs to this manifest and these media.

    Raises:
        BadTable: if there is none, it was made from other transcripts or media, or has other columns or rows.
    """
    require(layout)
    record = files.read_record(layout.audit / job.RECORD, _AuditRecord, "the record of an audit")
    again = f"make it again:\n  {_command(layout)}"
    now = source_hashes(layout, table)
    changed = [
        name
        for name in sorted({*now, *record["inputs"].get("sources", {})})
        if now.get(name) != record["inputs"].get("sources", {}).get(name)
    ]
    if changed:
        raise BadTable(
            f"{layout.audit}: the audit was made from other data than the current ones ({', '.join(changed)} changed);"
            f" {again}"
        )
    path = layout.audit / TABLE
    found = parquet.read(path)
    if not found.schema.equals(SCHEMA, check_metadata=False):
        raise BadTable(
            f"{path}: not an audit of this version: columns {found.schema.names} instead of {SCHEMA.names}, or other"
            f" types; {again}"
        )
    if not found["utterance_id"].equals(table["utterance_id"]):
        raise BadTable(f"{path}: has other utterances than the manifest, or in another order; {again}")
    return Audit(found, record["settings"], record["fingerprint"])
