"""What a worker process is asked to decode: the utterances that share a file. Small, and imports no decoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from merc.media.config import Config
from merc.records.dialogue import MediaSpan

STREAMS = ("audio", "visual")
LISTENING = ("speaking", "active_speaker")
"""Values of ``media.choice`` that need the audio to decide whose face it is."""
NOT_DECODED = "not_decoded"
"""Status of a stream that was not requested."""


@dataclass(frozen=True)
class Piece:
    """A part of a file, and its position in the utterance.

    Attributes:
        path: relative to the raw folder.
        start_seconds, end_seconds: half-open span inside the file; None: start or end of the file.
        offset_seconds: how much of the utterance comes before.
    """

    path: str
    start_seconds: float | None
    end_seconds: float | None
    offset_seconds: float = 0.0


@dataclass(frozen=True)
class Clip:
    """The media of one utterance, as in its manifest row.

    Attributes:
        utterance_id, dialogue_id: ids of the utterance and its dialogue.
        video_path, audio_path: relative to the raw folder, untrusted; empty if the corpus has none.
        video_region: ``full``, ``left``, ``right``.
        video_start_seconds, video_end_seconds, audio_start_seconds, audio_end_seconds: half-open span inside the file;
        None: start or end of the file. audio_channel: ``mix``, or the only side of a stereo file that is used (see
            :mod:`merc.media.audio`).
        expected_seconds: how long the file should be, if longer ones are known to contain a neighbour's words too;
            None: any length.
        annotated_seconds: length of the utterance by its annotation, 0 if unknown: determines how long decoding may
            take, and what is too short.
        further_spans: if the utterance consists of several pieces, those after the one above; like it, they are cut at
            both ends.
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
    audio_channel: str = "mix"
    expected_seconds: float | None = None
    annotated_seconds: float = 0.0
    further_spans: tuple[MediaSpan, ...] = ()

    @property
    def whole_seconds(self) -> float | None:
        """Total length of all pieces; None if there is only one."""
        last = self.pieces("visual")[-1]
        return (
            last.offset_seconds + (last.end_seconds or 0.0) - (last.start_seconds or 0.0)
            if self.further_spans
            else None
        )

    def pieces(self, stream: str) -> list[Piece]:
        """The spans that a stream comes from, in order."""
        first = (self.audio_path, self.audio_start_seconds, self.audio_end_seconds)
        if stream == "visual":
            first = (self.video_path, self.video_start_seconds, self.video_end_seconds)
        found = [Piece(*first)]
        for one in self.further_spans:
            before = found[-1]
            offset = before.offset_seconds + (before.end_seconds or 0.0) - (before.start_seconds or 0.0)
            found.append(
                Piece(
                    one.audio_path if stream == "audio" else one.video_path, one.start_seconds, one.end_seconds, offset
                )
            )
        return found

    def paths(self, streams: frozenset[str]) -> list[str]:
        """The files that these streams come from."""
        return [piece.path for stream in STREAMS if stream in streams for piece in self.pieces(stream) if piece.path]


@dataclass(frozen=True)
class DialogueTask:
    """Utterances of one dialogue that share files: all of them if the dialogue was recorded as one file, a single one
    if each has a separate file.

    Attributes:
        raw: absolute path of the raw folder.
        dataset: its folder in ``raw`` may be a link.
        clips: its utterances, in order.
        streams: a subset of :data:`STREAMS`.
        config: settings of the stage.
        model: absolute path of the face detector's file; None with ``haar``.
        follow_links: whether links may lead out of the raw folder.
        speaker: absolute path of the weights of the active-speaker network; None with any choice but
            ``active_speaker``.
    """

    raw: Path
    dataset: str
    clips: tuple[Clip, ...]
    streams: frozenset[str]
    config: Config
    model: Path | None
    follow_links: bool = True
    speaker: Path | None = None

    @property
    def seconds(self) -> float:
        """Upper bound of the length to decode, by the annotations: the part of each file before the end of the last
        span in it.
        """
        ends: dict[str, float] = {}
        for clip in self.clips:
            own = min(clip.annotated_seconds, self.config.max_clip_seconds)
            for piece in (piece for stream in STREAMS if stream in self.streams for piece in clip.pieces(stream)):
                end = (
                    piece.end_seconds
                    if clip.further_spans and piece.end_seconds is not None
                    else (piece.start_seconds or 0.0) + own
                )
                ends[piece.path] = max(ends.get(piece.path, 0.0), end)
        return sum(ends.values())

    def __str__(self) -> str:
        ids = [clip.utterance_id for clip in self.clips]
        return (
            ids[0]
            if len(ids) == 1
            else f"{self.clips[0].dialogue_id} ({len(ids)} utterances from {ids[0]} to {ids[-1]})"
        )


def sharing_files(clips: Sequence[Clip], streams: frozenset[str]) -> list[list[int]]:
    """Groups of clips such that no file is in two groups.

    Args:
        clips: of one dialogue.
        streams: what is decoded; files of other streams do not tie clips together.

    Returns:
        Indices into ``clips``, in order within each group; the groups by their first index.
    """
    group_of: dict[str, int] = {}
    groups: list[list[int]] = []
    for index, clip in enumerate(clips):
        paths = clip.paths(streams)
        joined = sorted({group_of[path] for path in paths if path in group_of})
        groups.append(sorted([index, *(member for number in joined for member in groups[number])]))
        for number in joined:
            groups[number] = []
        group_of |= dict.fromkeys(
            (path for member in groups[-1] for path in clips[member].paths(streams)), len(groups) - 1
        )
    return sorted((group for group in groups if group), key=lambda group: group[0])
