"""Settings of the media stage; kept apart from the decoders so that ``--dry-run`` reads them without importing OpenCV."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.params import Settings


class MediaConfig(Settings):
    """The block ``media`` of params.yaml.

    Attributes:
        utterances_per_part: a part holds whole dialogues, and at least this many utterances.
        max_clip_seconds: of a longer utterance the rest is cut, and recorded as ``truncated``.
        front_weight: left and right in the down-mix of a layout that has a front centre; the centre itself has 1.
        surround_weight: every other channel of such a layout; the low-frequency channel has 0.
        max_gap_seconds: sound that its time stamps place later than this behind the sound before it is preceded by silence.
        frames_per_clip: pictures looked at, spread evenly over the utterance's time.
        detector: ``haar`` (comes with OpenCV) or ``yunet`` (needs ``yunet_file``).
        yunet_file: ONNX file of YuNet, relative to the current folder.
        yunet_min_score: detections below are dropped.
        haar_scale_step: ratio between the face sizes that the cascade looks for.
        haar_min_neighbours: overlapping hits that make a detection.
        detection_widths_pixels: pictures are reduced to the first of these widths for detection (never enlarged), and to the next one where
            no face is found: large faces, the most of them, are found at once, and small ones cost more.
        min_face_share: least width of a face, as a share of the picture's width.
        max_faces_per_frame: the largest are kept.
        track_min_overlap: intersection over union from which two boxes are the same person's.
        track_max_distance: in face widths; so near, and of a similar size, two boxes are the same person's without overlap.
        min_track_share: a person must be seen in this share of the frames; detectors see faces in walls now and then.
        face_size_pixels: side of a crop.
        eye_distance_share: distance of the eyes in a crop, as a share of its side.
        eye_height_share: how far below the upper edge the eyes lie, as a share of the side.
        jpeg_quality_percent: of the stored crops.
    """

    utterances_per_part: int = Field(ge=1)
    max_clip_seconds: float = Field(gt=0, le=3600)
    front_weight: float = Field(ge=0, le=1)
    surround_weight: float = Field(ge=0, le=1)
    max_gap_seconds: float = Field(gt=0)
    frames_per_clip: int = Field(ge=1, le=1000)
    detector: Literal["haar", "yunet"]
    yunet_file: str
    yunet_min_score: float = Field(gt=0, lt=1)
    haar_scale_step: float = Field(gt=1, le=2)
    haar_min_neighbours: int = Field(ge=1)
    detection_widths_pixels: tuple[Annotated[int, Field(ge=32)], ...] = Field(min_length=1)
    min_face_share: float = Field(gt=0, lt=1)
    max_faces_per_frame: int = Field(ge=1)
    track_min_overlap: float = Field(gt=0, le=1)
    track_max_distance: float = Field(ge=0)
    min_track_share: float = Field(ge=0, le=1)
    face_size_pixels: int = Field(ge=16, le=1024)
    eye_distance_share: float = Field(gt=0, lt=1)
    eye_height_share: float = Field(gt=0, lt=1)
    jpeg_quality_percent: int = Field(ge=1, le=100)
