"""Rows of the media table in the making."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from merc.media.config import Config
from merc.media.tasks import NOT_DECODED, Clip
from merc.records.failures import Failure

OK = "ok"


@dataclass
class Row:
    """One utterance in the making.

    Attributes:
        clip: what the manifest says of it.
        columns: the row of the media table.
        failures: rows of the failure table, JSON-able.
        heard: the sound has been read, or there is none.
        waveform: (samples,) float32 at 16 kHz, as far as there is any.
    """

    clip: Clip
    columns: dict[str, Any]
    failures: list[dict[str, Any]] = field(default_factory=list)
    heard: bool = False
    waveform: NDArray[np.float32] | None = None

    def remark(self, modality: str, reason: str, detail: str) -> None:
        """Adds a failure row."""
        self.failures.append(Failure(self.clip.utterance_id, "media", modality, reason, detail).row())

    def lose(self, modality: str, reason: str, detail: str) -> None:
        """There is nothing of this modality: its status says why, and a failure row says more."""
        self.columns[f"{modality}_status"] = reason
        self.remark(modality, reason, detail)


def empty(clip: Clip) -> dict[str, Any]:
    """The row of an utterance of which nothing has been decoded yet."""
    return {
        "utterance_id": clip.utterance_id,
        "dialogue_id": clip.dialogue_id,
        "audio": b"",
        "audio_status": NOT_DECODED,
        "audio_channels": 0,
        "audio_channel_used": "",
        "sample_rate_source": 0,
        "audio_track_used": "",
        "duration_seconds": 0.0,
        "truncated": False,
        "faces": [],
        "face_seconds": [],
        "face_scores": [],
        "visual_status": NOT_DECODED,
        "video_track_used": "",
        "frames_seen": 0,
        "faces_seen": 0,
        "face_tracks": 0,
        "face_track": -1,
        "face_coverage": 0.0,
        "face_choice_score": 0.0,
        "face_choice_margin": None,
        "speaking_logit": None,
        "speaking_share": None,
        "runner_up_logit": None,
        "off_screen": None,
        "shots": 0,
    }


def compare_with_annotation(row: Row, modality: str, seconds: float, config: Config) -> None:
    """Records what is shorter than the corpus says: a file that was cut off without a trace, or one that is another utterance's."""
    annotated = min(row.clip.annotated_seconds, config.max_clip_seconds)
    if seconds < max(annotated - config.max_short_seconds, annotated / 2):
        row.remark(modality, "shorter_than_annotation", f"{max(0.0, seconds):.3f} s of the annotated {row.clip.annotated_seconds:.3f} s")


def no_stream_words(path: str, why: str) -> str:
    """Of a file that lacks what was wanted."""
    return f"{path}: {why}" if why else path


def cut_words(whole_seconds: float | None, kept_seconds: float) -> str:
    """Of what was longer than allowed."""
    whole = "a length that its header does not state" if whole_seconds is None else f"{whole_seconds:.3f} s"
    return f"cut from {whole} to {kept_seconds:.3f} s"
