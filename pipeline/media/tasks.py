"""What a worker process is asked to decode: one dialogue. Small, and imports no decoder."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.media.config import MediaConfig

STREAMS = ("audio", "visual")
NOT_DECODED = "not_decoded"
"""Status of a stream that nobody asked for."""


@dataclass(frozen=True)
class Clip:
    """The media of one utterance, as in its manifest row.

    Attributes:
        utterance_id, dialogue_id: whose it is.
        video_path, audio_path: relative to the raw folder, not to be trusted; empty where the corpus has none.
        video_region: ``full``, ``left``, ``right``.
        video_start_seconds, video_end_seconds, audio_start_seconds, audio_end_seconds: half-open span inside the file; None: its begin, its end.
    """

    utterance_id: str
    dialogue_id: str
    video_path: str
    audio_path: str
    video_region: str
    video_start_seconds: float | None
    video_end_seconds: float | None
    audio_start_seconds: float | None
    audio_end_seconds: float | None


@dataclass(frozen=True)
class DialogueTask:
    """One dialogue to decode.

    Attributes:
        raw: absolute path of the raw folder.
        dataset: its folder in ``raw`` may be a link.
        clips: its utterances, in order.
        streams: a subset of :data:`STREAMS`.
        config: settings of the stage.
        model: absolute path of the face detector's file; None with ``haar``.
    """

    raw: Path
    dataset: str
    clips: tuple[Clip, ...]
    streams: frozenset[str]
    config: MediaConfig
    model: Path | None

    def __str__(self) -> str:
        ids = [clip.utterance_id for clip in self.clips]
        return f"{self.clips[0].dialogue_id} ({len(ids)} utterances from {ids[0]} to {ids[-1]})"
