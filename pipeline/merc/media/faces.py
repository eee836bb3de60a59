"""Finding faces in a frame: boxes, a confidence from 0 to 1, five landmarks if known, and a patch around each.

The setting ``media.detector`` selects the detector. Both search a reduced frame; their results are mapped back, and
only the patches of the frame are kept, so memory does not grow with the size of the video.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from merc.errors import BadSettings
from merc.media.config import Config
from merc.media.video import Picture

# Eyes in a box of the cascade, as shares of the box's side from its upper left corner: mean over 101 boxes in real
# clips, by YuNet's landmarks; standard deviation 0.02 to 0.03.
_TYPICAL_EYES = np.array([[0.303, 0.391], [0.682, 0.392]])
# Five landmarks of a face seen from the front: eyes, nose, corners of the mouth, in distances of the eyes from the
# middle between them; medians over YuNet's 246 faces in the same clips, made symmetric. Smiles widen and raise a mouth
# by 0.05. This also holds for boxes of the cascade: there the middle of the mouth is at 0.493 and 0.786 of the box (169
# boxes; standard deviation 0.038 and 0.048), which is 1.04 below typical eyes.
FRONTAL_FACE = np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, 0.58], [-0.43, 1.06], [0.43, 1.06]])
# An eye found farther away than this, four standard deviations, is something else (a brow, a nostril).
_EYE_TOLERANCE = 0.12
# Side in pixels to which a face is resized before its eyes are searched for; the eye cascade's window has 20.
_EYE_SEARCH_PIXELS = 160
# The cascade's last stage adds its trees' votes. In real clips and the same upside down (no faces): 99 % of the true
# faces have more than 55.3, false ones 54.4 to 55.5. A logistic curve through these values turns the sum into a
# confidence.
_HAAR_MIDDLE, _HAAR_SLOPE = 55.0, 4.0
# A patch is this many times as wide as the face, so that it contains the crop at any rotation around the eyes. Its side
# in pixels is at most this many times that of a crop, which is 1.2 to 1.4 times a crop's resolution.
_PATCH_SHARE = 2.0
# The appearance that tells people apart is taken from a region of this many times the face's side.
_APPEARANCE_SHARE, _APPEARANCE_PIXELS = 1.3, 32
_LIGHT_BINS, _COLOUR_BINS = 6, 12
APPEARANCE = _LIGHT_BINS * _COLOUR_BINS**2
_YUNET_OVERLAP = 0.3
_YUNET_CANDIDATES = 5000


@dataclass(frozen=True, eq=False)
class Sighting:
    """One face in one frame.

    Attributes:
        box: left, top, width, height in pixels of the (region of the) frame.
        score: confidence, 0 to 1.
        patch: (height, width, 3) uint8 RGB around the face, perhaps reduced.
        patch_scale: pixels of the patch per pixel of the frame.
        patch_corner: (x, y) of the patch's upper left corner in the frame.
        landmarks: (5, 2) x, y in pixels of the frame, of eyes, nose and corners of the mouth, from the left of the
            frame; None if unknown.
        appearance: (``APPEARANCE``,) float32 that tells people apart, see ``_appearance``.
    """

    box: tuple[float, float, float, float]
    score: float
    patch: NDArray[np.uint8]
    patch_scale: float
    patch_corner: tuple[float, float]
    landmarks: NDArray[np.float64] | None
    appearance: NDArray[np.float32]


Found = tuple[tuple[float, float, float, float], float, NDArray[np.float64] | None]
"""Box, score, landmarks (5, 2); in pixels of the frame that was searched."""


class Detector(Protocol):
    """Finds faces of at least the given width in a small RGB frame, in any order."""

    def find(self, small_HWC: NDArray[np.uint8], min_pixels: int) -> list[Found]: ...


class Haar:
    """The cascade ``frontalface_alt2`` that comes with OpenCV (Lienhart, Kuranov and Pisarevsky, DAGM 2003).

    Measured against ``frontalface_default`` on real clips at 320 pixels: as many true faces (37 of 38), and on the same
    clips upside down 3 false ones instead of 31.
    """

    def __init__(self, config: Config) -> None:
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
        return [
            ((float(x), float(y), float(w), float(h)), float(score), None)
            for (x, y, w, h), score in zip(boxes, scores, strict=True)
        ]


class YuNet:
    """YuNet (Wu, Peng and Yu, 2023): five landmarks with every face; its network is in the file named by
    ``yunet_file``.

    Raises:
        BadSettings: if OpenCV cannot load the file.
    """

    def __init__(self, config: Config, model: Path) -> None:
        try:
            self._network = cv2.FaceDetectorYN.create(
                str(model), "", (320, 320), config.yunet_min_score, _YUNET_OVERLAP, _YUNET_CANDIDATES
            )
        except cv2.error as error:
            raise BadSettings(f"media.yunet_file: OpenCV cannot load {model} as YuNet: {error}") from error

    def find(self, small_HWC: NDArray[np.uint8], min_pixels: int) -> list[Found]:
        height, width = small_HWC.shape[:2]
        self._network.setInputSize((width, height))
        _, rows = self._network.detect(cv2.cvtColor(small_HWC, cv2.COLOR_RGB2BGR))
        found: list[Found] = []
        for row in [] if rows is None else rows.astype(np.float64):
            points = row[4:14].reshape(5, 2)
            if row[2] >= min_pixels and np.isfinite(row).all():
                box = (float(row[0]), float(row[1]), float(row[2]), float(row[3]))
                found.append(
                    (
                        box,
                        float(row[14]),
                        np.concatenate([_from_the_left(points[:2]), points[2:3], _from_the_left(points[3:])]),
                    )
                )
        return found


def _from_the_left(pair: NDArray[np.float64]) -> NDArray[np.float64]:
    return pair[np.argsort(pair[:, 0], kind="stable")]


class FaceFinder:
    """Detects on a reduced frame and cuts patches from the full one.

    Args:
        config: settings of the stage.
        model: resolved path of ``yunet_file``; None with ``haar``.

    Raises:
        BadSettings: if the detector cannot be loaded.
    """

    def __init__(self, config: Config, model: Path | None) -> None:
        cv2.setNumThreads(1)
        self._config = config
        self._most = round(_PATCH_SHARE * config.face_size_pixels)
        self._detector: Detector = Haar(config) if model is None else YuNet(config, model)

    def find(self, picture: Picture) -> list[Sighting]:
        """Faces in a frame, the largest first; at most ``max_faces_per_frame``."""
        return [self.sighting(picture, one) for one in self.locate(picture)]

    def locate(self, picture: Picture) -> list[Found]:
        """Where the faces are, in pixels of the frame; in the same order."""
        for wanted in self._config.detection_widths_pixels:
            found, back = self._detect(picture, wanted)
            if found:
                break
        found.sort(key=lambda one: (-one[0][2] * one[0][3], one[0]))
        return [_mapped(one, back) for one in found[: self._config.max_faces_per_frame]]

    def _detect(self, picture: Picture, wanted: int) -> tuple[list[Found], NDArray[np.float64]]:
        """Faces in the frame reduced to the width ``wanted``, and the factors (2,) that map them back to pixels of the
        frame.
        """
        small_HWC = np.ascontiguousarray(picture.reduced(wanted))
        height, width = small_HWC.shape[:2]
        found = self._detector.find(small_HWC, max(1, round(width * self._config.min_face_share)))
        return found, np.array([picture.size[0] / width, picture.size[1] / height])

    def sighting(self, picture: Picture, found: Found) -> Sighting:
        """A face with its patch; ``found`` as :meth:`locate` gives it."""
        x, y, side = _patch_square(found[0])
        patch, scale, corner = picture.square(x, y, side, self._most)
        return self._made(found, patch, scale, corner)

    def sightings(self, picture: Picture, found: Sequence[Found]) -> list[Sighting]:
        """Several faces of one frame: their patches are cut from the frame in full size and then reduced, whereas
        :meth:`sighting` reduces the frame for each.
        """
        made = []
        for one in found:
            x, y, side = _patch_square(one[0])
            patch, scale, corner = picture.square(x, y, side, side)
            if side > self._most:
                patch, scale = (
                    np.asarray(
                        cv2.resize(patch, (self._most, self._most), interpolation=cv2.INTER_AREA), dtype=np.uint8
                    ),
                    self._most / side,
                )
            made.append(self._made(one, patch, scale, corner))
        return made

    def _made(self, found: Found, patch: NDArray[np.uint8], scale: float, corner: tuple[float, float]) -> Sighting:
        box, score, landmarks = found
        return Sighting(
            box, min(score, 1.0), patch, scale, corner, landmarks, _appearance(patch, max(box[2], box[3]) * scale)
        )


def _patch_square(box: tuple[float, float, float, float]) -> tuple[int, int, int]:
    """Left, top and side of a patch in pixels of the frame."""
    left, top, width, height = box
    side = _PATCH_SHARE * max(width, height)
    return round(left + width / 2 - side / 2), round(top + height / 2 - side / 2), max(2, round(side))


def _mapped(found: Found, back: NDArray[np.float64]) -> Found:
    box, score, landmarks = found
    left, top, width, height = (float(value) for value in np.array(box) * np.tile(back, 2))
    return (left, top, width, height), score, None if landmarks is None else landmarks * back


def _appearance(patch: NDArray[np.uint8], face_pixels: float) -> NDArray[np.float32]:
    """Square roots of a histogram of the colours of face, hair and collar, in CIE L*a*b*; the dot product of two equal
    ones is 1.

    Of thumbnails and histograms of several kinds and sizes, this one separated people in real clips best: for one
    person within 0.6 s, 95 % of the products are above 0.77; for two people in the same light, 99 % are below 0.68.

    Args:
        patch: (side, side, 3) uint8 RGB, the face in its middle.
        face_pixels: the face's larger side, in pixels of the patch.
    """
    margin = max(0, round((patch.shape[0] - _APPEARANCE_SHARE * face_pixels) / 2))
    inner = patch[margin : patch.shape[0] - margin, margin : patch.shape[1] - margin]
    lab = (
        cv2.cvtColor(
            cv2.resize(inner, (_APPEARANCE_PIXELS, _APPEARANCE_PIXELS), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2LAB
        )
        .reshape(-1, 3)
        .astype(np.intp)
    )
    light = lab[:, 0] * _LIGHT_BINS // 256
    # Of the 256 levels of a* and b* the middle 64 hold all faces and most clothes; the rest counts as the nearest.
    red, blue = ((np.clip(lab[:, channel], 96, 159) - 96) * _COLOUR_BINS // 64 for channel in (1, 2))
    counts = np.bincount((light * _COLOUR_BINS + red) * _COLOUR_BINS + blue, minlength=APPEARANCE)
    return np.sqrt(counts / len(lab)).astype(np.float32)


def eyes_of(sighting: Sighting) -> NDArray[np.float64]:
    """(2, 2) x, y of the eyes in pixels of the frame: from the landmarks, else from an eye cascade, else the typical
    position.

    The cascade's detections count only as a pair, and only near the usual place of eyes, so that a brow never rotates a
    crop.
    """
    if sighting.landmarks is not None:
        return sighting.landmarks[:2]
    found = _search_eyes(sighting)
    return typical_eyes(sighting.box) if found is None else _in_box(sighting.box, found)


def typical_eyes(box: tuple[float, float, float, float]) -> NDArray[np.float64]:
    """(2, 2) x, y of the typical position of the eyes in a box of the cascade."""
    return _in_box(box, _TYPICAL_EYES)


def _in_box(box: tuple[float, float, float, float], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    left, top, width, height = box
    return np.asarray(np.array([left, top]) + shares * np.array([width, height]), dtype=np.float64)


def _search_eyes(sighting: Sighting) -> NDArray[np.float64] | None:
    """(2, 2) shares of the box; None unless both eyes are found in plausible places."""
    left, top, width, height = sighting.box
    x, y = (
        (edge - corner) * sighting.patch_scale for edge, corner in zip((left, top), sighting.patch_corner, strict=True)
    )
    w, h = width * sighting.patch_scale, height * sighting.patch_scale
    face = sighting.patch[max(0, round(y)) : round(y + h), max(0, round(x)) : round(x + w)]
    grey = cv2.cvtColor(
        cv2.resize(face, (_EYE_SEARCH_PIXELS, _EYE_SEARCH_PIXELS), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY
    )
    upper = cv2.equalizeHist(grey)[: round(_EYE_SEARCH_PIXELS * 0.6)]
    boxes = np.asarray(
        _cascade("haarcascade_eye.xml").detectMultiScale(
            upper, scaleFactor=1.1, minNeighbors=3, minSize=(24, 24), maxSize=(64, 64)
        )
    )
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
def finder(config: Config, model: Path | None) -> FaceFinder:
    """The finder of this process; loaded only once, since loading takes as long as a clip."""
    return FaceFinder(config, model)


def crop(sighting: Sighting, config: Config) -> NDArray[np.uint8]:
    """Square crop with the face upright, at a fixed place and in a fixed size: aligned by five landmarks if known, else
    by the eyes.

    Returns:
        (``face_size_pixels``, ``face_size_pixels``, 3) uint8 RGB; beyond the frame's border, the border pixels are
        repeated.
    """
    size = config.face_size_pixels
    shape = np.array([0.5, config.eye_height_share]) * size + config.eye_distance_share * size * FRONTAL_FACE
    if sighting.landmarks is not None:
        matrix = similarity(_in_patch(sighting, sighting.landmarks), shape)
    else:
        matrix = similarity(
            _apart(_in_patch(sighting, eyes_of(sighting)), sighting.box[2] * sighting.patch_scale), shape[:2]
        )
    warped = cv2.warpAffine(
        sighting.patch, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(warped, dtype=np.uint8)


def _in_patch(sighting: Sighting, points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((points - np.array(sighting.patch_corner)) * sighting.patch_scale, dtype=np.float64)


def _apart(eyes: NDArray[np.float64], face_width: float) -> NDArray[np.float64]:
    """The eyes, moved apart to 0.3 of the face's width if they are closer than that, as in a face seen from the side:
    one cheek must not fill the crop.

    Frontal faces have them 0.38 of the cascade's width apart.
    """
    middle, half = eyes.mean(axis=0), (eyes[1] - eyes[0]) / 2
    length = float(np.hypot(*half))
    along = half / length if length > 0 else np.array([1.0, 0.0])
    reach = max(length, 0.15 * face_width, 0.5)
    return np.asarray(middle + np.outer([-1.0, 1.0], reach * along), dtype=np.float64)


def similarity(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation, scale and shift, without reflection, that map points onto others with the least sum of squared
    distances.

    The closed form of Umeyama (IEEE PAMI 13(4), 1991, eq. 40 to 42) in the plane, where rotation with scale is a
    complex factor.

    Args:
        source: (points, 2), not all the same.
        target: (points, 2).

    Returns:
        (2, 3) matrix for ``cv2.warpAffine``.

    >>> similarity(np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([[5.0, 1.0], [5.0, 3.0]])).round(3) + 0.0
    array([[ 0., -2.,  5.],
           [ 2.,  0.,  1.]])
    """
    from_, to = source @ np.array([1, 1j]), target @ np.array([1, 1j])
    away = from_ - from_.mean()
    factor = np.vdot(away, to - to.mean()) / np.vdot(away, away).real
    shift = to.mean() - factor * from_.mean()
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def jpeg(picture_HWC: NDArray[np.uint8], quality_percent: int) -> bytes:
    """An RGB frame as JPEG.

    Raises:
        ValueError: if OpenCV cannot write it.
    """
    written, data = cv2.imencode(
        ".jpg", cv2.cvtColor(picture_HWC, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality_percent]
    )
    if not written:
        raise ValueError(f"OpenCV wrote no JPEG of a picture of shape {picture_HWC.shape}")
    return bytes(data)


def check(config: Config, model: Path | None) -> None:
    """Loads the detector once before any worker starts, so that a wrong file stops the run at once. Raises
    ``BadSettings``.
    """
    finder(config, model)
