"""Dialogue and Utterance: the records that every corpus reader gives and everything to the right builds on."""

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
        source_speaker: who says it, as the corpus names them; empty where that is the same.
        text: the transcript, repaired, not otherwise changed.
        emotion: the corpus's emotion in our words (see :mod:`merc.corpora.engine.labels`), also where it is outside
            the label set.
        sentiment: ``positive``, ``negative``, ``neutral``; empty where the corpus has none.
        valence, arousal, dominance: the corpus's own scale; None where it has none.
        start_seconds, end_seconds: where the utterance is in its recording, according to the corpus (MELD: in the
            episode).
        video_path, audio_path: relative to raw/, POSIX; empty where the corpus has no such file.
        video_region: ``full``, or the half of the frame in which the speaker sits.
        video_start_seconds, video_end_seconds, audio_start_seconds, audio_end_seconds: the span inside that file,
            half-open; None means from its beginning, to its end.
        audio_channel: ``mix``, or the channel of a stereo file that is the speaker's.
        expected_seconds: how long the file should be, given where longer files are known to hold a neighbour's words
            too: the media stage cuts those to this length. None: whatever it lasts.
        further_spans: where an utterance is in several pieces, those after the one above, in the order in which they
            are heard; all are then cut at both ends.
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
        scenario: dialogues with the same one share a script or a task (IEMOCAP); empty where there is none.
    """

    split: str
    source_dialogue_id: str
    utterances: tuple[Utterance, ...]
    scenario: str = ""

    @property
    def dialogue_id(self) -> str:
        """Id that is unique in the corpus; it carries the split because MELD restarts its numbers in each."""
        return f"{self.split}/{self.source_dialogue_id}"

    def utterance_id(self, utterance: Utterance) -> str:
        return f"{self.split}/{utterance.source_utterance_id}"
