"""Settings of the media stage; kept apart from the decoders so that ``--dry-run`` reads them without importing
OpenCV.
"""

import re
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from merc.errors import BadSettings, nearest
from merc.params import Laid, Params, Settings
from merc.records.media import EYE_DISTANCE_SHARE, EYE_HEIGHT_SHARE

SpeakerPrecision = Literal["float32", "bfloat16"]
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z0-9]+)*")


def _is_a_track(value: object) -> object:
    is_index = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if value is None or is_index or (isinstance(value, str) and _LANGUAGE.fullmatch(value)):
        return value
    raise ValueError("expected an index from 0, or a language code as in media files, such as eng")


Track = Annotated[int | str | None, BeforeValidator(_is_a_track)]
"""One of several tracks of a kind: its index from 0, its language as the file names it, or the one marked default."""


class Config(Settings):
    """The block ``media`` of params.yaml."""

    utterances_per_part: int = Field(default=256, ge=1)
    """Utterances; a part holds whole dialogues, and at least this many utterances."""
    max_clip_seconds: float = Field(default=60.0, gt=0, le=3600)
    """Seconds; a longer utterance is cut here and recorded as ``truncated``."""
    audio_track: Track = None
    """Which audio track of a file that has several: an index from 0, or a language such as ``eng``; null: the one
    marked default, or else the first.
    """
    video_track: Track = None
    """Which video track of a file that has several, likewise."""
    front_weight: float = Field(default=0.7071, ge=0, le=1)
    """Weight of left and right in the down-mix of a layout with a front centre, which itself has weight 1."""
    surround_weight: float = Field(default=0.5, ge=0, le=1)
    """Weight of the other channels in the down-mix of a layout with a front centre; the low-frequency channel has
    weight 0.
    """
    clipping_level: float = Field(default=0.9999, gt=0, le=1)
    """Share of full scale; a sample that reaches it was too loud for the recording (16 bits reach 0.99997)."""
    clipping_run_samples: int = Field(default=3, ge=1)
    """Samples in a row, all of them at ``clipping_level`` or above, that count as clipping."""
    min_clipped_share: float = Field(default=0.001, gt=0, le=1)
    """Share of the samples; audio with at least this share clipped is recorded as ``source_clipped``."""
    short_sound_seconds: float = Field(default=0.1, ge=0)
    """Seconds; less audio is recorded as ``nearly_empty`` (14 clips of MELD have less)."""
    quiet_sound_db: float = Field(default=-60.0, le=0)
    """Decibels, relative to full scale; audio whose root mean square is below this is recorded as ``nearly_silent``
    (speech is at -45 to -15)."""
    min_mix_share: float = Field(default=0.01, ge=0, le=0.1)
    """Share of the energy that the loudest channel alone contributes to the mix; if the mix has less (the channels are
    out of phase), only that channel is used, and this is recorded as ``out_of_phase``; 0: never.
    """
    max_overlong_seconds: float = Field(default=0.4, ge=0)
    """Seconds by which a file may exceed the length expected by the manifest; the rest of a longer file is cut,
    and recorded as ``cut_to_annotation`` (of MELD's test clips 118 are longer than their annotation by 0.4 to 5.3 s).
    """
    max_short_seconds: float = Field(default=0.5, ge=0)
    """Seconds by which audio or video may be shorter than the annotation, if at least half of it remains; anything
    shorter is recorded as ``shorter_than_annotation``.
    """
    max_gap_seconds: float = Field(default=0.04, gt=0)
    """Seconds; if time stamps leave a gap longer than this in the audio, the gap is filled with silence."""
    sampling: Literal["count", "rate"] = "count"
    """How many frames of an utterance, evenly spread over its time, are searched for faces:
    ``count`` takes ``frames_per_clip``, ``rate`` takes ``frames_per_second``, at most ``max_frames_per_clip``."""
    frames_per_clip: int = Field(default=8, ge=1, le=1000)
    """Frames per utterance, with the sampling ``count``."""
    frames_per_second: float = Field(default=2.0, gt=0, le=100)
    """Frames per second of an utterance, with the sampling ``rate``."""
    max_frames_per_clip: int = Field(default=64, ge=1, le=1000)
    """Maximum number of frames per utterance, with the sampling ``rate``."""
    detector: Literal["haar", "yunet"] = "haar"
    """``haar``, which comes with OpenCV, or ``yunet``, which is better and faster, and needs a file of 230 kB."""
    yunet_file: str = ""
    """ONNX file of YuNet, relative to the current folder; empty: the file on the hub given by the next four settings.
    """
    yunet_repo: str = "opencv/face_detection_yunet"
    """Name of the repository with YuNet on the hub."""
    yunet_revision: str = Field(default="3cc26e7f1014a5ee5d74a42acee58bafc9d0a310", pattern="^[0-9a-f]{40}$")
    """Commit of ``yunet_repo``, 40 hex digits."""
    yunet_name: str = "face_detection_yunet_2023mar.onnx"
    """Name of YuNet's file in ``yunet_repo``."""
    yunet_sha256: str = Field(
        default="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4", pattern="^[0-9a-f]{64}$"
    )
    """SHA-256 that YuNet's file from the hub must have, 64 hex digits."""
    yunet_min_score: float = Field(default=0.6, gt=0, lt=1)
    """Score, 0 to 1; YuNet's detections below it are dropped."""
    speaker_file: str = ""
    """File with the weights of Light-ASD, relative to the current folder; empty: the authors' file given by the next
    four settings.
    """
    speaker_url: str = Field(
        default="https://raw.githubusercontent.com/Junhua-Liao/Light-ASD", pattern="^https?://[^ ]+[^/ ]$"
    )
    """Address of the authors' repository; the file is at ``<speaker_url>/<speaker_revision>/<speaker_name>``."""
    speaker_revision: str = Field(default="ed38c232de5efe0261dbd68627c0ade7cdfe14eb", pattern="^[0-9a-f]{40}$")
    """Commit of the authors' repository, 40 hex digits."""
    speaker_name: str = Field(default="weight/finetuning_TalkSet.model", pattern="^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$")
    """Path of the file in the authors' repository. The default is best at deciding who of several people speaks (the
    authors report an F1 of 95.5 against 81.1), but makes little use of the audio; ``weight/pretrain_AVA_CVPR.model``,
    trained only on films, notices whether anyone can be heard.
    """
    speaker_sha256: str = Field(
        default="efc375833887eefa9d209dc92810e18519b04c3c73ea35a549f2a7f40b7d94d5", pattern="^[0-9a-f]{64}$"
    )
    """SHA-256 that the authors' file must have, 64 hex digits."""
    speaker_precision: SpeakerPrecision = "float32"
    """Precision of the network's filters over faces. ``bfloat16`` takes half the time on processors that multiply it
    natively (Intel's with AMX, a GPU); logits then differ by a few thousandths, also between kinds of processors.
    """
    haar_scale_step: float = Field(default=1.2, gt=1, le=2)
    """Ratio between successive face sizes that the cascade searches for."""
    haar_min_neighbours: int = Field(default=3, ge=1)
    """Overlapping hits of the cascade that make a detection."""
    detection_widths_pixels: tuple[Annotated[int, Field(ge=32)], ...] = Field(default=(320, 480), min_length=1)
    """Pixels; frames are reduced to the first of these widths for detection (never enlarged), and to the next if no
    face is found: most faces are large and found at once, and small ones cost more (at 320 the cascade misses faces
    below 120 of 1920 pixels).
    """
    min_face_share: float = Field(default=0.03, gt=0, lt=1)
    """Minimum width of a face, as a share of the frame's width."""
    max_faces_per_frame: int = Field(default=16, ge=1)
    """Faces; if a frame shows more, the largest are kept."""
    track_min_overlap: float = Field(default=0.2, gt=0, le=1)
    """Intersection over union from which two boxes count as the same person."""
    track_min_likeness: float = Field(default=0.55, gt=0, le=1)
    """Colour similarity, 0 to 1, below which two faces with overlapping boxes count as two people (a cut, or one in
    front of the other).
    """
    track_max_distance: float = Field(default=4.0, gt=0)
    """Face widths; within this distance, and if of similar size, two boxes may be the same person without overlap."""
    track_jump_likeness: float = Field(default=0.75, gt=0, le=1)
    """Colour similarity, 0 to 1, required of boxes a face's width or more apart; at smaller distances, the limit rises
    with the distance.
    """
    min_track_share: float = Field(default=0.25, ge=0, le=1)
    """Share of the sampled frames in which a person must be visible; detectors occasionally see faces in walls."""
    choice: Literal["active_speaker", "speaking", "largest", "persistent"] = "speaking"
    """Whose face an utterance gets if several are visible: ``active_speaker`` (a trained network, see ``active.py``),
    ``speaking`` (mouth, size and persistence, see ``speaker.py``), ``largest`` (size times persistence) or
    ``persistent`` (seen in most frames).
    """
    pictures_per_search: int = Field(default=6, ge=1, le=25)
    """Of this many frames at 25 per second, ``active_speaker`` searches one for faces; in between, boxes are
    interpolated (at 6 they are off by up to 2 % of a face's height for people sitting, and by up to 19 % for people
    running; in 95 of 100 frames).
    """
    speaker_width_pixels: int = Field(default=640, ge=112)
    """Pixels; width to which frames are reduced before the faces that ``active_speaker`` judges are cut out."""
    max_speaker_candidates: int = Field(default=3, ge=1, le=32)
    """Number of faces in a shot that ``active_speaker`` judges, the most plausible by size, persistence and mouth
    motion.
    """
    off_screen: Literal["keep", "absent"] = "keep"
    """What an utterance gets with ``active_speaker`` if no mouth matches the audio: ``keep``, the likeliest face
    anyway; ``absent``, none.
    """
    off_screen_logit: float = 2.0
    """Mean logit over a second that someone must reach, or the speaker counts as off screen. Chosen for TalkSet's
    weights: three real listeners under another's voice reached -1.1 to 0.1, real speakers 3.9 to 5.2; people whose
    mouths move without speaking exceed any limit. With AVA's weights 0.0 separates best (see
    ``benchmarks/speaking_face_2026-11-29.md``).
    """
    same_person_file: str = ""
    """ONNX file of SFace, relative to the current folder, by which ``active_speaker`` joins a person's tracks across
    shots;
    empty: tracks in different shots are different people.
    """
    same_person_likeness: float = Field(default=0.363, gt=-1, lt=1)
    """Cosine of the vectors of two faces from which they count as one person (OpenCV's threshold for SFace)."""
    glimpses_per_second: float = Field(default=12.5, gt=0, le=100)
    """Small grey frames per second, in which ``speaking`` follows the mouths."""
    glimpse_width_pixels: int = Field(default=320, ge=32)
    """Pixels; width of the small grey frames."""
    mouth_motion_weight: float = Field(default=0.35, ge=0)
    """Weight of a mouth that moves while there is audio, relative to the other three weights."""
    mouth_sync_weight: float = Field(default=0.45, ge=0)
    """Weight of a mouth that moves in step with the loudness, relative to the other weights."""
    face_size_weight: float = Field(default=0.05, gt=0)
    """Weight of a face that is large, relative to the other weights."""
    face_persistence_weight: float = Field(default=0.15, ge=0)
    """Weight of a face that is visible in many frames, relative to the other weights."""
    max_mouth_lead_seconds: float = Field(default=0.2, ge=0, le=1)
    """Seconds by which a mouth may be ahead of the audio."""
    max_mouth_lag_seconds: float = Field(default=0.04, ge=0, le=1)
    """Seconds by which a mouth may be behind the audio."""
    face_size_pixels: int = Field(default=112, ge=16, le=1024)
    """Pixels; side of a crop."""
    eye_distance_share: float = Field(default=EYE_DISTANCE_SHARE, gt=0, lt=1)
    """Share of a crop's side between the eyes; if it is changed, change that of the encoder ``sface``, too."""
    eye_height_share: float = Field(default=EYE_HEIGHT_SHARE, gt=0, lt=1)
    """Share of a crop's side above the eyes; the encoder ``sface`` needs the same value."""
    jpeg_quality_percent: int = Field(default=95, ge=1, le=100)
    """Quality of the stored crops, 1 to 100."""


def lay(params: Params, dataset: str, preset: str | None = None) -> Laid:
    """The settings of a dataset's media: the user's block ``media`` over the block of the same name in a preset.

    Args:
        params: settings.
        dataset: its name.
        preset: a block under ``presets``; None: the dataset's default preset, if ``default_encoders`` names one.

    Raises:
        BadSettings: if there is no such preset.
    """
    if preset is None and dataset in params.block("default_encoders"):
        preset = params.get(f"default_encoders.{dataset}")
    return _over_preset(params, preset)


def of_dataset(params: Params, dataset: str, preset: str | None = None) -> Config:
    """The settings of a dataset's media, checked; see :func:`lay`. Raises ``BadSettings``."""
    return params.filled(lay(params, dataset, preset), Config, "media")


def of_preset(params: Params, preset: str) -> Config:
    """The settings of the media with a preset. Raises ``BadSettings``."""
    return params.filled(_over_preset(params, preset), Config, "media")


def no_preset(preset: object, presets: Iterable[str], file: str) -> str:
    """Words for an error message about a preset that does not exist; ``file``: :attr:`merc.params.Params.file`."""
    there = list(presets)
    if not there:
        return f"no preset {preset!r}: {file} has no block presets; `merc-extract params` prints one to copy"
    return f"no preset {preset!r} under presets in {file}; {nearest(str(preset), there)}"


def _over_preset(params: Params, preset: str | None) -> Laid:
    laid = Laid()
    if preset is not None:
        presets = params.block("presets")
        if not isinstance(preset, str) or preset not in presets:
            raise BadSettings(no_preset(preset, presets, params.file))
        params.lay(laid, f"presets.{preset}.media")
    params.lay(laid, "media")
    return laid
