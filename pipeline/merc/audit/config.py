"""Settings of the audit: the block ``audit``."""

from typing import Literal

from pydantic import Field, PositiveInt

from merc.params import Settings


class Config(Settings):
    """What is checked, and the thresholds from which an utterance is doubtful. Nothing is dropped."""

    asr: str = ""
    """Whisper model that transcribes the audio: a folder, an encoder such as ``whisper_base``, or a name on the hub;
    empty: no transcription.
    """
    asr_revision: str = ""
    """Commit on the hub, 40 hex digits; not used for a folder or an encoder, which has its own."""
    asr_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Dtype of the arithmetic of ``asr``; 16 bits only on a GPU."""
    language: str = Field(default="auto", pattern=r"^(auto|[a-z]{2,3})$")
    """Code of the spoken language, such as ``en``, ``de`` or ``zh``; ``auto``: the language that ``asr`` detects in
    clips at the start of the corpus.
    """
    windows_per_batch: PositiveInt | Literal["auto"] = "auto"
    """Pieces of at most 30 s in a batch of ``asr``; ``auto`` is 8 on a CPU and 64 on a GPU, or as many as fit; changes
    only speed and memory.
    """
    same_sound_min_share: float = Field(default=0.5, gt=0, le=1)
    """Share of the shorter of two utterances that must occur in the other for them to count as the same audio."""
    same_sound_max_bit_error: float = Field(default=0.3, ge=0, lt=0.5)
    """Share of the bits of two fingerprints that may differ; two recordings of the same words differ in about half of
    them.
    """
    face_encoder: str = "sface"
    """Encoder that distinguishes faces; without features extracted by it, faces are not compared."""
    page_utterances: PositiveInt = 100
    """Utterances on the page, the most doubtful first."""
    speech_share_min: float = Field(default=0.25, ge=0, le=1)
    """Share of the time; an utterance with less speech is doubtful."""
    speech_seconds_min: float = Field(default=0.2, ge=0)
    """Seconds of speech; less is doubtful."""
    speech_rate_min: float = Field(default=3.0, ge=0)
    """Letters and digits per second of speech; fewer are doubtful. In MELD's annotations 8 % have fewer than 3."""
    speech_rate_max: float = Field(default=25.0, gt=0)
    """Letters and digits per second of speech; more are doubtful. In MELD's annotations 2.4 % have more than 25."""
    asr_error_max: float = Field(default=0.5, ge=0)
    """Character error rate; a higher one is doubtful."""
    face_coverage_min: float = Field(default=0.5, ge=0, le=1)
    """Share of the sampled frames; a chosen face that is in fewer is doubtful."""
    speaking_min: float = 0.0
    """Logit of the active speaker detector; a chosen face with a lower one is doubtful."""
    speaking_share_min: float = Field(default=0.25, ge=0, le=1)
    """Share of the time; a chosen face that speaks in less is doubtful."""
    face_unlike_max: float = Field(default=0.637, ge=0, le=2)
    """Cosine distance; a face farther from the same speaker's others is doubtful. The default is OpenCV's threshold for
    two different people.
    """
