"""Dialogue and Utterance: the records that every corpus reader returns and all later stages build on."""

from dataclasses import dataclass

SPLITS = ("train", "dev", "test")
REGIONS = ("full", "left", "right")
CHANNELS = ("mix", "left", "right")


@dataclass(frozen=True)
class MediaSpan:
    """A part of a recording, or of two of the same length: one with the video and one with the audio.

    Attributes:
        video_path, audio_path: relative to raw/, POSIX.
        start_seconds, end_seconds: half-open, inside these files.
    """

    video_path: str
    audio_path: str
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Utterance:
    """What one person says in one turn.

    Attributes:
        source_utterance_id: the corpus's own id (``dia0_utt3``, ``Ses01F_impro01_F000``).
        speaker: who says it, one spelling per person (see :mod:`merc.corpora.engine.speaker_names`).
        source_speaker: the speaker's name in the corpus; empty if it is the same.
        text: the transcript, repaired, not otherwise changed.
        emotion: the corpus's emotion in our words (see :mod:`merc.corpora.engine.labels`), even if it is outside the
            label set.
        sentiment: ``positive``, ``negative``, ``neutral``; empty if the corpus has none.
        valence, arousal, dominance: on the corpus's own scale; None if it has none.
        start_seconds, end_seconds: where the utterance is in its recording, according to the corpus (MELD: in the
            episode).
        video_path, audio_path: relative to raw/, POSIX; empty if the corpus has no such file.
        video_region: ``full``, or the half of the frame in which the speaker sits.
        video_start_seconds, video_end_seconds, audio_start_seconds, audio_end_seconds: the span inside that file,
        half-open; None means the start or the end of the file.
        audio_channel: ``mix``, or the speaker's channel of a stereo file.
        expected_seconds: how long the file should be, given if longer files are known to contain a neighbour's words
            too: the media stage cuts those to this length. None: any length.
        further_spans: if an utterance consists of several pieces, those after the one above, in playing order; all are
            then cut at both ends.
    """

    source_utterance_id: str
    speaker: str
    source_speaker: str = ""
    text: str
    emotion: str
    sentiment: str = ""
    valence: float | None = None
    arousal: float | None = None
    dominance: float | None = None
    start_seconds: float
    end_seconds: float
    video_path: str = ""
    audio_path: str = ""
    video_region: str = "full"
    video_start_seconds: float | None = None
    video_end_seconds: float | None = None
    audio_start_seconds: float | None = None
    audio_end_seconds: float | None = None
    audio_channel: str = "mix"
    expected_seconds: float | None = None
    further_spans: tuple[MediaSpan, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Dialogue:
    """A conversation: its utterances in the corpus's order.

    Attributes:
        split: ``train``, ``dev`` or ``test``.
        source_dialogue_id: the corpus's own id (``dia0``, ``Ses01F_impro01``).
        utterances: at least one.
        scenario: dialogues with the same scenario share a script or a task (IEMOCAP); empty if there is none.
    """

    split: str
    source_dialogue_id: str
    utterances: tuple[Utterance, ...]
    scenario: str = ""

    @property
    def dialogue_id(self) -> str:
        """Id that is unique in the corpus; it includes the split because MELD restarts its numbers in each."""
        return f"{self.split}/{self.source_dialogue_id}"

    def utterance_id(self, utterance: Utterance) -> str:
        return f"{self.split}/{utterance.source_utterance_id}"
