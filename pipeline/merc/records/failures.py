"""The failure table: one row for everything that could not be used or was truncated. Nothing is dropped silently."""

import math
import textwrap
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from merc.errors import BadTable, TooManyFailures

# kind "broken": data that should be there is missing or unreadable; these count against --max-failed.
# kind "absent": readable, but there is nothing for this modality (a listener's back, an empty transcript).
# kind "altered": used, but truncated, padded, repaired, or doubtful.
REASONS: dict[str, tuple[str, str]] = {
    "media_missing": ("broken", "the file named by the corpus does not exist"),
    "media_refused": ("broken", "the path leads outside the raw folder"),
    "media_empty": ("broken", "the file has no bytes"),
    "media_undecodable": ("broken", "the decoder could not read the file"),
    "media_crashed": ("broken", "the decoder's process crashed on the file, or failed unexpectedly"),
    "media_timeout": ("broken", "the file was not decoded within run.clip_timeout_seconds"),
    "no_audio_stream": ("broken", "the file has no audio"),
    "no_video_stream": ("broken", "the file has no video"),
    "no_audio_samples": ("broken", "the span contains no audio sample"),
    "no_video_frames": ("broken", "the span contains no frame"),
    "no_face": ("absent", "no face was found in the sampled frames"),
    "off_screen": ("absent", "no mouth matches the audio: the speaker is not visible; no face was kept"),
    "no_text": ("absent", "the transcript is empty"),
    "silence": ("absent", "the audio is digital silence: all samples are the same"),
    "not_finite": ("broken", "the encoder gave a value that is not finite, or no audio sample is finite"),
    "zero_vector": ("absent", "the encoder gave only zeros, which represent an absent vector"),
    "vector_missing": ("broken", "the imported feature file has no vector for the utterance"),
    "nearly_empty": ("altered", "less audio than media.short_sound_seconds; it was used"),
    "nearly_silent": ("altered", "the audio is quieter than media.quiet_sound_db; it was used"),
    "source_clipped": ("altered", "consecutive samples at full scale: the recording was too loud; it was used"),
    "channel_missing": ("altered", "the file has no left and right channel; all of its channels were mixed"),
    "out_of_phase": ("altered", "the channels cancel each other in the mix; only the loudest was used"),
    "not_finite_samples": ("altered", "some audio samples are not finite; they were replaced by zeros"),
    "shorter_than_annotation": ("altered", "audio or video is shorter than the annotation; it was used"),
    "cut_to_annotation": ("altered", "longer than its annotation; what came after it was cut"),
    "span_doubted": ("altered", "the annotation is too short for its text; the file was not cut to it"),
    "span_empty": ("altered", "the annotation ends where it starts; the whole file was used"),
    "not_realigned": ("altered", "the realignment has no span of the utterance; the corpus's own cut was used"),
    "spans_missing": ("altered", "some of the utterance's spans could not be read; the others were used"),
    "truncated": ("altered", "longer than the maximum; the rest was cut"),
    "off_screen_kept": (
        "altered",
        "no mouth matches the audio: the speaker may not be visible; the likeliest face was used",
    ),
    "padded": ("altered", "shorter than the encoder's minimum; zeros were added"),
    "clipped": ("altered", "samples beyond full scale after the down-mix were limited"),
    "partly_decoded": ("altered", "the decoder stopped before the end; what came before it was used"),
    "text_repaired": ("altered", "the transcript had wrongly decoded characters, repaired"),
    "partly_undefined": (
        "altered",
        "some of the encoder's numbers are undefined for this utterance; they were replaced by zeros",
    ),
    "annotation_repaired": ("altered", "a broken annotation line was read as far as possible"),
}

_SHOWN_CHARACTERS = 300

LOUD_ABSENT_SHARE = 0.1
"""Share of a split's utterances; if a modality is absent in more than that, for whatever reason, a warning and the
report say so.
"""

SCHEMA = pa.schema(
    [
        pa.field("utterance_id", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("modality", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Failure:
    """One row of the failure table.

    Attributes:
        utterance_id: id of the utterance.
        stage: ``manifest``, ``media``, ``extraction`` or ``import``.
        modality: ``text``, ``audio``, ``visual``, or ``all`` if it concerns the utterance as such.
        reason: a key of :data:`REASONS`.
        detail: the library's message, or the numbers (what was cut, from what length).
    """

    utterance_id: str
    stage: str
    modality: str
    reason: str
    detail: str = ""

    def __post_init__(self) -> None:
        if self.reason not in REASONS:
            raise ValueError(f"unknown reason {self.reason!r}; one of {', '.join(REASONS)}")

    @property
    def kind(self) -> str:
        return REASONS[self.reason][0]

    def row(self) -> dict[str, Any]:
        """The row as a JSON-able dictionary."""
        return {**asdict(self), "kind": self.kind}


def checked(table: pa.Table, path: Path) -> pa.Table:
    """The failure rows that were read from ``path``, without metadata. Raises ``BadTable`` if their columns differ from
    :data:`SCHEMA`.
    """
    if not table.schema.equals(SCHEMA, check_metadata=False):
        raise BadTable(
            f"{path}: not a failure table: columns {table.schema.names} instead of {SCHEMA.names}, or other types"
        )
    return table.replace_schema_metadata()


def table(rows: Iterable[dict[str, Any]]) -> pa.Table:
    """Arrow table of failure rows (see :meth:`Failure.row`), in their order."""
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)


def check_limit(rows: Iterable[dict[str, Any]], utterances: int, max_failed: str, stage: str) -> None:
    """Stops a stage that has too many broken utterances.

    Args:
        rows: the stage's failure rows; an utterance counts once, and only for the kind ``broken``.
        utterances: number of utterances that the stage handled.
        max_failed: a number (``10``) or a share (``5%``); ``TooManyFailures`` is raised above it.
        stage: for the message.

    Raises:
        TooManyFailures: with the counts by reason.
        ValueError: if ``max_failed`` is neither a number nor a share.
    """
    broken: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["kind"] == "broken":
            broken.setdefault(row["utterance_id"], row)
    limit = limit_of(max_failed, utterances)
    if len(broken) > limit:
        counts: dict[str, int] = {}
        for row in broken.values():
            counts[row["reason"]] = counts.get(row["reason"], 0) + 1
        by_reason = ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()))
        name, row = next(iter(broken.items()))
        first = f"{name}: {textwrap.shorten(row['detail'], _SHOWN_CHARACTERS)}" if row.get("detail") else name
        raise TooManyFailures(
            f"{stage}: {len(broken)} of {utterances} utterances are broken ({by_reason}; the first is {first}), more"
            f" than --max-failed {max_failed} allows. Finished work is kept: run again with a higher --max-failed to"
            " continue."
        )


def limit_of(max_failed: str, utterances: int) -> float:
    """The number of broken utterances that ``max_failed`` allows out of ``utterances``.

    >>> limit_of("5%", 200), limit_of("3", 200)
    (10.0, 3.0)
    """
    text = max_failed.strip()
    value = float(text.removesuffix("%"))
    if not 0 <= value < math.inf:  # also refuses nan, which no count would ever exceed
        raise ValueError(f"max_failed is neither a number from 0 nor a share: {max_failed!r}")
    return value / 100 * utterances if text.endswith("%") else value
