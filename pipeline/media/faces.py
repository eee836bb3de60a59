"""Finding faces in a picture: boxes, a confidence from 0 to 1, the eyes where they are known, and a patch around each.

Which detector is `detector` in params.yaml. Both look at a reduced picture; what they find is mapped back, and of the
picture only the patches are kept, so that memory does not grow with the size of the video.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import BadSettings
from pipeline.media.config import MediaConfig

# Eyes in a box of the cascade, as shares of the box's side from its upper left corner: mean over 101 boxes in real clips,
# by YuNet's landmarks; standard deviation 0.02 to 0.03.
_TYPICAL_EYES = np.array([[0.303, 0.391], [0.682, 0.392]])
# An eye found farther from there is something else (a brow, a nostril): four standard deviations.
_EYE_TOLERANCE = 0.12
# Side in pixels to which a face is brought before its eyes are looked for; the eye cascade's window has 20.
_EYE_SEARCH_PIXELS = 160
# The cascade's last stage adds its trees' votes. In real clips and the same upside down (no faces): of the true faces 99 %
# have more than 55.3, the false ones 54.4 to 55.5. A logistic curve through that makes a confidence of it.
_HAAR_MIDDLE, _HAAR_SLOPE = 55.0, 4.0
# A patch is so many times as wide as the face: the crop, turned any way around the eyes, lies in it.
_PATCH_SHARE = 2.0
# Patches are kept at no more than this times the resolution of the crop.
_PATCH_OVERSAMPLING = 1.5
_YUNET_OVERLAP = 0.3
_YUNET_CANDIDATES = 5000


@dataclass(frozen=True, eq=False)
class Sighting:
    """One face in one frame.

    Attributes:
        box: left, top, width, height in pixels of the (region of the) picture.
        score: confidence, 0 to 1.
        patch: (height, width, 3) uint8 RGB around the face, perhaps reduced.
        patch_scale: pixels of the patch per pixel of the picture.
        patch_corner: (x, y) of the patch's upper left corner in the picture.
        eyes: (2, 2) x, y in pixels of the picture of the eye on the left and the one on the right; None: not known.
    """

    box: tuple[float, float, float, float]
    score: float
    patch: NDArray[np.uint8]
    patch_scale: float
    patch_corner: tuple[float, float]
    eyes: NDArray[np.float64] | None


Found = tuple[tuple[float, float, float, float], float, NDArray[np.float64] | None]
"""Box, score, eyes; in pixels of the reduced picture."""


class Detector(Protocol):
    """Finds faces in a small RGB picture, least width given; order does not matter."""

    def find(self, small_HWC: NDArray[np.uint8], min_pixels: int) -> list[Found]: ...


class Haar:
    """The cascade ``frontalface_alt2`` that comes with OpenCV (Lienhart, Kuranov and Pisarevsky, DAGM 2003).

    Measured against ``frontalface_default`` on real clips at 320 pixels: as many true faces (37 of 38), and on the same
    clips upside down 3 false ones instead of 31.
    """

    def __init__(self, config: MediaConfig) -> None:
        self._cascade = _cascade("haarcascade_frontalface_alt2.xml")
        self._config = config

    def find(self, small_HWC: NDArray[np.uint8], min_pixels: int) -> list[Found]:
        grey = cv2.equalizeHist(cv2.cvtColor(small_HWC, cv2.COLOR_RGB2GRAY))
        boxes, _, votes = self._cascade.detectMultiScale3(
            grey,
            scaleFactor=self._config.haar_scale_step,
            minNeighbors=self._config.haar_min_neighbours,
            minSize=(min_pixels, min_pixels),
            outputRejectLevels=True,
        )
        scores = 1 / (1 + np.exp(-_HAAR_SLOPE * (np.ravel(votes) - _HAAR_MIDDLE)))
        return [((float(x), float(y), float(w), float(h)), float(score), None) for (x, y, w, h), score in zip(boxes, scores, strict=True)]


class YuNet:
    """YuNet (Wu, Peng and Yu, 2023): five landmarks with every face; its network is a file that ``yunet_file`` names.

    Raises:
        BadSettings: if OpenCV cannot load the file.
    """

    def __init__(self, config: MediaConfig, model: Path) -> None:
        try:
            self._network = cv2.FaceDetectorYN.create(str(model), "", (320, 320), config.yunet_min_score, _YUNET_OVERLAP, _YUNET_CANDIDATES)
        except cv2.error as error:
            raise BadSettings(f"media.yunet_file: OpenCV cannot load {model} as YuNet: {error}") from error

    def find(self, small_HWC: NDArray[np.uint8], min_pixels: int) -> list[Found]:
        height, width = small_HWC.shape[:2]
        self._network.setInputSize((width, height))
        _, rows = self._network.detect(cv2.cvtColor(small_HWC, cv2.COLOR_RGB2BGR))
        found: list[Found] = []
        for row in [] if rows is None else rows.astype(np.float64):
            eyes = row[4:8].reshape(2, 2)
            if row[2] >= min_pixels and np.isfinite(row).all():
                box = (float(row[0]), float(row[1]), float(row[2]), float(row[3]))
                found.append((box, float(row[14]), eyes[np.argsort(eyes[:, 0], kind="stable")]))
        return found


class FaceFinder:
    """Detects on a reduced picture and cuts patches from the full one.

    Args:
        config: see there.
        model: resolved path of ``yunet_file``; None with ``haar``.

    Raises:
        BadSettings: if the detector cannot be loaded.
    """

    def __init__(self, config: MediaConfig, model: Path | None) -> None:
        cv2.setNumThreads(1)
        self._config = config
        self._detector: Detector = Haar(config) if model is None else YuNet(config, model)

    def find(self, picture_HWC: NDArray[np.uint8]) -> list[Sighting]:
        """Faces in an RGB picture, the largest first; at most ``max_faces_per_frame``."""
        for wanted in self._config.detection_widths_pixels:
            found, back = self._detect(picture_HWC, wanted)
            if found:
                break
        found.sort(key=lambda one: (-one[0][2] * one[0][3], one[0]))
        return [self._sighting(picture_HWC, one, back) for one in found[: self._config.max_faces_per_frame]]

    def _detect(self, picture_HWC: NDArray[np.uint8], wanted: int) -> tuple[list[Found], NDArray[np.float64]]:
        """Faces in the picture reduced to the width ``wanted``, and the factors (2,) that lead back to the picture's own pixels."""
        height, width = picture_HWC.shape[:2]
        scale = min(1.0, wanted / width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small_HWC = picture_HWC if scale == 1 else cv2.resize(picture_HWC, size, interpolation=cv2.INTER_AREA)
        found = self._detector.find(np.ascontiguousarray(small_HWC), max(1, round(size[0] * self._config.min_face_share)))
        return found, np.array([width / size[0], height / size[1]])

    def _sighting(self, picture_HWC: NDArray[np.uint8], found: Found, back: NDArray[np.float64]) -> Sighting:
        (x, y, w, h), score, eyes = found
        left, top, width, height = (float(value) for value in np.array([x, y, w, h]) * np.tile(back, 2))
        patch, scale, corner = _patch(picture_HWC, (left, top, width, height), self._config.face_size_pixels)
        return Sighting((left, top, width, height), min(score, 1.0), patch, scale, corner, None if eyes is None else eyes * back)


def _patch(picture_HWC: NDArray[np.uint8], box: tuple[float, float, float, float], face_size: int) -> tuple[NDArray[np.uint8], float, tuple[float, float]]:
    """Copy of the square around a box, repeating the border where it leaves the picture; its scale; its corner."""
    left, top, width, height = box
    side = _PATCH_SHARE * max(width, height)
    x, y = round(left + width / 2 - side / 2), round(top + height / 2 - side / 2)
    pixels = max(2, round(side))
    rows = np.clip(np.arange(y, y + pixels), 0, picture_HWC.shape[0] - 1)
    columns = np.clip(np.arange(x, x + pixels), 0, picture_HWC.shape[1] - 1)
    patch = picture_HWC[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1][np.ix_(rows - rows[0], columns - columns[0])]
    wanted = round(_PATCH_SHARE * _PATCH_OVERSAMPLING * face_size)
    if wanted < pixels:
        return cv2.resize(patch, (wanted, wanted), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False), wanted / pixels, (x, y)
    return np.ascontiguousarray(patch), 1.0, (x, y)


def eyes_of(sighting: Sighting) -> NDArray[np.float64]:
    """(2, 2) x, y of the eyes in pixels of the picture: the detector's, else those an eye cascade finds, else the typical ones.

    The cascade's finds count only as a pair, and only near where eyes are in a face, so that a crop is never turned by a brow.
    """
    if sighting.eyes is not None:
        return sighting.eyes
    left, top, width, height = sighting.box
    found = _search_eyes(sighting)
    eyes: NDArray[np.float64] = np.array([left, top]) + (_TYPICAL_EYES if found is None else found) * np.array([width, height])
    return eyes


def _search_eyes(sighting: Sighting) -> NDArray[np.float64] | None:
    """(2, 2) shares of the box; None if not both eyes are found where eyes may be."""
    left, top, width, height = sighting.box
    x, y = ((edge - corner) * sighting.patch_scale for edge, corner in zip((left, top), sighting.patch_corner, strict=True))
    w, h = width * sighting.patch_scale, height * sighting.patch_scale
    face = sighting.patch[max(0, round(y)) : round(y + h), max(0, round(x)) : round(x + w)]
    grey = cv2.cvtColor(cv2.resize(face, (_EYE_SEARCH_PIXELS, _EYE_SEARCH_PIXELS), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    upper = cv2.equalizeHist(grey)[: round(_EYE_SEARCH_PIXELS * 0.6)]
    boxes = np.asarray(_cascade("haarcascade_eye.xml").detectMultiScale(upper, scaleFactor=1.1, minNeighbors=3, minSize=(24, 24), maxSize=(64, 64)))
    if len(boxes) < 2:
        return None
    centres = (boxes[:, :2] + boxes[:, 2:] / 2) / _EYE_SEARCH_PIXELS
    distances = np.linalg.norm(centres[None] - _TYPICAL_EYES[:, None], axis=2)
    nearest = distances.argmin(axis=1)
    if (distances.min(axis=1) > _EYE_TOLERANCE).any():
        return None
    return np.asarray(centres[nearest], dtype=np.float64)


@lru_cache(maxsize=4)
def _cascade(name: str) -> cv2.CascadeClassifier:
    return cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / name))


@lru_cache(maxsize=2)
def finder(config: MediaConfig, model: Path | None) -> FaceFinder:
    """The finder of this process; loaded once, since loading takes as long as a clip."""
    return FaceFinder(config, model)


def crop(sighting: Sighting, config: MediaConfig) -> NDArray[np.uint8]:
    """Square crop with the eyes level, at a fixed distance and in a fixed place.

    Returns:
        (``face_size_pixels``, ``face_size_pixels``, 3) uint8 RGB; beyond the picture's border its last pixels are repeated.
    """
    size = config.face_size_pixels
    (left_x, left_y), (right_x, right_y) = (eyes_of(sighting) - np.array(sighting.patch_corner)) * sighting.patch_scale
    # A face seen from the side has its eyes close together; it must not fill the crop with one cheek, so the distance counts
    # as at least 0.3 of the box (frontal faces: 0.38 of the cascade's, 0.45 of YuNet's).
    distance = max(np.hypot(right_x - left_x, right_y - left_y), 0.3 * sighting.box[2] * sighting.patch_scale, 1.0)
    angle = np.arctan2(right_y - left_y, right_x - left_x)
    scale = config.eye_distance_share * size / distance
    turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    middle = np.array([(left_x + right_x) / 2, (left_y + right_y) / 2])
    shift = np.array([0.5, config.eye_height_share]) * size - turn @ middle
    warped = cv2.warpAffine(sighting.patch, np.column_stack([turn, shift]), (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, dtype=np.uint8)


def jpeg(picture_HWC: NDArray[np.uint8], quality_percent: int) -> bytes:
    """An RGB picture as JPEG.

    Raises:
        ValueError: if OpenCV cannot write it.
    """
    written, data = cv2.imencode(".jpg", cv2.cvtColor(picture_HWC, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality_percent])
    if not written:
        raise ValueError(f"OpenCV wrote no JPEG of a picture of shape {picture_HWC.shape}")
    return bytes(data)


def check(config: MediaConfig, model: Path | None) -> None:
    """Loads the detector once before any worker starts, so that a wrong file stops the run at once. Raises ``BadSettings``."""
    finder(config, model)
