"""Settings of the media stage; kept apart from the decoders so that ``--dry-run`` reads them without importing OpenCV."""

from typing import Annotated, Literal

from pydantic import Field

from merc.params import Settings


class Config(Settings):
    """The block ``media`` of params.yaml.

    Attributes:
        utterances_per_part: a part holds whole dialogues, and at least this many utterances.
        max_clip_seconds: of a longer utterance the rest is cut, and recorded as ``truncated``.
        front_weight: left and right in the down-mix of a layout that has a front centre; the centre itself has 1.
        surround_weight: every other channel of such a layout; the low-frequency channel has 0.
        clipping_level: of full scale; samples in a row from here on were too loud for the recording, and are recorded as ``source_clipped``
        clipping_run_samples: where there are so many of them in a row
        min_clipped_share: and they are at least this share of the sound.
        short_sound_seconds: less sound is recorded as ``nearly_empty``.
        quiet_sound_db: sound whose root mean square lies below, relative to full scale, is recorded as ``nearly_silent``.
        max_overlong_seconds: a file that the manifest gives an expected length may last so much longer; of a longer one the rest is cut, and
            recorded as ``cut_to_annotation``.
        max_gap_seconds: sound that its time stamps place later than this behind the sound before it is preceded by silence.
        sampling: how many pictures of an utterance are searched for faces, evenly spread over its time: ``count`` or ``rate``.
        frames_per_clip: so many, with ``count``.
        frames_per_second: so many per second, with ``rate``.
        max_frames_per_clip: at most so many, with ``rate``.
        detector: ``haar`` (comes with OpenCV) or ``yunet`` (a file of 230 kB).
        yunet_file: ONNX file of YuNet, relative to the current folder; empty: that of the hub.
        yunet_repo, yunet_revision, yunet_name, yunet_sha256: which file of the hub.
        yunet_min_score: detections below are dropped.
        haar_scale_step: ratio between the face sizes that the cascade looks for.
        haar_min_neighbours: overlapping hits that make a detection.
        detection_widths_pixels: pictures are reduced to the first of these widths for detection (never enlarged), and to the next one where
            no face is found: large faces, the most of them, are found at once, and small ones cost more.
        min_face_share: least width of a face, as a share of the picture's width.
        max_faces_per_frame: the largest are kept.
        track_min_overlap: intersection over union from which two boxes are the same person's.
        track_min_likeness: of the colours of two faces whose boxes overlap, 0 to 1; below, they are two persons (a cut, or one before the other).
        track_max_distance: in face widths; so near, and of a similar size, two boxes may be the same person's without overlap.
        track_jump_likeness: least likeness of boxes a face's width or more apart; between, the limit rises with the distance.
        min_track_share: a person must be seen in this share of the frames; detectors see faces in walls now and then.
        choice: of whom the crops are where several persons are seen: ``speaking`` (mouth, size and persistence, see ``speaker.py``), ``largest``
            (size times persistence) or ``persistent`` (seen in most frames).
        glimpses_per_second: small grey pictures in which ``speaking`` follows the mouths.
        glimpse_width_pixels: of these.
        mouth_motion_weight: how much the four parts of the score count, relative to each other: the mouth moves while something is heard;
        mouth_sync_weight: it moves in step with the loudness;
        face_size_weight: the face is large;
        face_persistence_weight: it is seen in many frames.
        max_mouth_lead_seconds: a mouth may be so much ahead of the sound,
        max_mouth_lag_seconds: or so much behind it.
        face_size_pixels: side of a crop.
        eye_distance_share: distance of the eyes in a crop, as a share of its side.
        eye_height_share: how far below the upper edge the eyes lie, as a share of the side.
        jpeg_quality_percent: of the stored crops.
    """

    utterances_per_part: int = Field(ge=1)
    max_clip_seconds: float = Field(gt=0, le=3600)
    front_weight: float = Field(ge=0, le=1)
    surround_weight: float = Field(ge=0, le=1)
    clipping_level: float = Field(gt=0, le=1)
    clipping_run_samples: int = Field(ge=1)
    min_clipped_share: float = Field(gt=0, le=1)
    short_sound_seconds: float = Field(ge=0)
    quiet_sound_db: float = Field(le=0)
    max_overlong_seconds: float = Field(ge=0)
    max_gap_seconds: float = Field(gt=0)
    sampling: Literal["count", "rate"]
    frames_per_clip: int = Field(ge=1, le=1000)
    frames_per_second: float = Field(gt=0, le=100)
    max_frames_per_clip: int = Field(ge=1, le=1000)
    detector: Literal["haar", "yunet"]
    yunet_file: str
    yunet_repo: str
    yunet_revision: str = Field(pattern="^[0-9a-f]{40}$")
    yunet_name: str
    yunet_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    yunet_min_score: float = Field(gt=0, lt=1)
    haar_scale_step: float = Field(gt=1, le=2)
    haar_min_neighbours: int = Field(ge=1)
    detection_widths_pixels: tuple[Annotated[int, Field(ge=32)], ...] = Field(min_length=1)
    min_face_share: float = Field(gt=0, lt=1)
    max_faces_per_frame: int = Field(ge=1)
    track_min_overlap: float = Field(gt=0, le=1)
    track_min_likeness: float = Field(gt=0, le=1)
    track_max_distance: float = Field(gt=0)
    track_jump_likeness: float = Field(gt=0, le=1)
    min_track_share: float = Field(ge=0, le=1)
    choice: Literal["speaking", "largest", "persistent"]
    glimpses_per_second: float = Field(gt=0, le=100)
    glimpse_width_pixels: int = Field(ge=32)
    mouth_motion_weight: float = Field(ge=0)
    mouth_sync_weight: float = Field(ge=0)
    face_size_weight: float = Field(gt=0)
    face_persistence_weight: float = Field(ge=0)
    max_mouth_lead_seconds: float = Field(ge=0, le=1)
    max_mouth_lag_seconds: float = Field(ge=0, le=1)
    face_size_pixels: int = Field(ge=16, le=1024)
    eye_distance_share: float = Field(gt=0, lt=1)
    eye_height_share: float = Field(gt=0, lt=1)
    jpeg_quality_percent: int = Field(ge=1, le=100)
