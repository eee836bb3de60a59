"""Rows of the media table under construction."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from merc.media.config import Config
from merc.media.spans import Place, Span
from merc.media.tasks import NOT_DECODED, Clip
from merc.records.failures import Failure

if TYPE_CHECKING:
    from merc.media.listening import HeardSpan

OK = "ok"


@dataclass
class Row:
    """The unfinished row of one utterance.

    Attributes:
        clip: what the manifest says about it.
        columns: the row of the media table.
        failures: rows of the failure table, JSON-able.
        awaited: spans whose audio has not been read yet.
        sounds: spans whose audio has been read, until the last one has.
        lost: those of several spans of which nothing can be used.
        waveform: (samples,) float32 at 16 kHz; None if there is none.
    """

    clip: Clip
    columns: dict[str, Any]
    failures: list[dict[str, Any]] = field(default_factory=list)
    awaited: int = 0
    sounds: "list[HeardSpan]" = field(default_factory=list)
    lost: "list[LostSpan]" = field(default_factory=list)
    waveform: NDArray[np.float32] | None = None

    @property
    def heard(self) -> bool:
        """The audio has been read, or there is none."""
        return self.awaited == 0

    def remark(self, modality: str, reason: str, detail: str) -> None:
        """Adds a failure row."""
        self.failures.append(Failure(self.clip.utterance_id, "media", modality, reason, detail).row())

    def lose(self, modality: str, reason: str, detail: str) -> None:
        """There is nothing of this modality: its status says why, and a failure row gives the details."""
        self.columns[f"{modality}_status"] = reason
        self.remark(modality, reason, detail)

    def lost_seconds(self, modality: str) -> float:
        """The part of the utterance that is in lost spans."""
        return sum(one.seconds for one in self.lost if one.modality == modality)

    def tell_lost(self) -> None:
        """Records lost spans, once everything decoded is in the columns; if all are lost, there is nothing of the
        modality.
        """
        for modality in dict.fromkeys(one.modality for one in self.lost):
            lost = [one for one in self.lost if one.modality == modality]
            words = "; ".join(str(one) for one in lost)
            if self.columns[f"{modality}_status"] == NOT_DECODED:
                self.lose(modality, lost[0].reason, words)
            else:
                self.remark(
                    modality,
                    "spans_missing",
                    f"{self.lost_seconds(modality):.3f} s of {self.clip.whole_seconds:.3f} s are missing: {words}",
                )


@dataclass(frozen=True)
class LostSpan:
    """One of several spans, of which nothing can be used."""

    modality: str
    path: str
    seconds: float
    reason: str
    detail: str

    def __str__(self) -> str:
        more = "" if self.detail == self.path else f": {self.detail}"
        return f"{self.path or 'no file'}, {self.seconds:.3f} s, {self.reason}{more}"


@dataclass(frozen=True)
class Wish:
    """What one utterance needs of one file.

    Attributes:
        place: position of the span in the utterance.
        stored: whether it goes into the row; audio that was not requested is still decoded to see whose mouth moves
            with it.
    """

    row: Row
    modality: str
    path: str
    wanted: Span
    place: Place
    stored: bool = True

    @property
    def one_of_several(self) -> bool:
        return self.place.whole_seconds is not None

    def lose(self, reason: str, detail: str) -> None:
        """See :meth:`Row.lose`; one of several spans is noted, and the others are used."""
        if self.stored and self.one_of_several:
            self.row.lost.append(LostSpan(self.modality, self.path, self.wanted.seconds, reason, detail))
        elif self.stored:
            self.row.lose(self.modality, reason, detail)


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
    """Records media shorter than the corpus says: a file truncated without any sign of it, or the file of another
    utterance. Lost spans are told apart.
    """
    annotated = min(row.clip.annotated_seconds, config.max_clip_seconds) - row.lost_seconds(modality)
    if seconds < max(annotated - config.max_short_seconds, annotated / 2):
        row.remark(
            modality,
            "shorter_than_annotation",
            f"{max(0.0, seconds):.3f} s of the annotated {row.clip.annotated_seconds:.3f} s",
        )


def no_stream_words(path: str, why: str) -> str:
    """The failure of a file that does not contain what was requested."""
    return f"{path}: {why}" if why else path


def cut_words(whole_seconds: float | None, kept_seconds: float) -> str:
    """The failure of media longer than allowed."""
    whole = "a length that its header does not state" if whole_seconds is None else f"{whole_seconds:.3f} s"
    return f"cut from {whole} to {kept_seconds:.3f} s"


def beyond_the_cap(wish: Wish, config: Config) -> bool:
    """Whether several spans together exceed the cap, so that the last ones may not even have been requested."""
    return (wish.place.whole_seconds or 0.0) > config.max_clip_seconds


def tell_cut(wish: Wish, whole_seconds: float | None, kept_seconds: float, config: Config) -> None:
    """Records what the cap cut off; the lengths are those of the span if it is the whole utterance."""
    if wish.place.whole_seconds is not None:
        whole_seconds, kept_seconds = wish.place.whole_seconds, config.max_clip_seconds
    wish.row.columns["truncated"] = True
    wish.row.remark(wish.modality, "truncated", cut_words(whole_seconds, kept_seconds))
