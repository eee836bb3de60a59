"""Which tracks of an utterance are the same person: decided by a face embedding if the settings name its file;
otherwise each track counts as a separate person.

Colours do not distinguish people across a cut, so nothing else is tried: without an embedding, anyone seen in two shots
counts as two people, of whom one is chosen. That loses some frames of the right face but never adds frames of a wrong
one.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from merc.errors import BadSettings
from merc.media import networks
from merc.media.config import Config
from merc.media.faces import similarity
from merc.media.following import Track

Persons = list[tuple[int, ...]]
"""For each person, the numbers of their tracks, in order of first appearance."""

_INPUT_PIXELS = 112
# Where the network expects the eyes, from the left of the frame: the first two of the five points of OpenCV's
# FaceRecognizerSF.
_EYES = np.array([[38.2946, 51.6963], [73.5318, 51.5014]])
# A track's vector is the mean over this many of its crops with the highest confidence.
_CROPS = 3


class Embedder:
    """SFace through OpenCV (see ``merc/encoders/visual/sface.py``): faces to vectors of length one.

    Args:
        path: its ONNX file.

    Raises:
        BadSettings: if OpenCV cannot run it.
    """

    def __init__(self, path: Path) -> None:
        cv2.setNumThreads(1)
        try:
            self._network = cv2.FaceRecognizerSF.create(str(path), "")
            self._network.feature(np.zeros((_INPUT_PIXELS, _INPUT_PIXELS, 3), np.uint8))
        except cv2.error as error:
            raise BadSettings(f"media.same_person_file: OpenCV cannot run {path} as SFace: {error}") from error

    def vector(self, track: Track, config: Config) -> NDArray[np.float32] | None:
        """The mean vector of a track's most confident crops; None if it has none."""
        surest = sorted((spot for spot in track.spots if spot.jpeg), key=lambda spot: (-spot.score, spot.picture))[
            :_CROPS
        ]
        vectors = [self._of_crop(spot.jpeg, config) for spot in surest]
        whole = np.sum(vectors, axis=0) if vectors else np.zeros(1, np.float32)
        length = float(np.linalg.norm(whole))
        return np.asarray(whole / length, dtype=np.float32) if length > 0 else None

    def _of_crop(self, jpeg: bytes, config: Config) -> NDArray[np.float32]:
        crop_HWC: Any = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        size, apart = crop_HWC.shape[1], config.eye_distance_share * crop_HWC.shape[1] / 2
        eyes = np.array(
            [[size / 2 - apart, config.eye_height_share * size], [size / 2 + apart, config.eye_height_share * size]]
        )
        aligned = cv2.warpAffine(
            crop_HWC,
            similarity(eyes, _EYES),
            (_INPUT_PIXELS, _INPUT_PIXELS),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        vector = np.asarray(self._network.feature(aligned), dtype=np.float32)[0]
        return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9), dtype=np.float32)


@lru_cache(maxsize=1)
def embedder(config: Config) -> Embedder | None:
    """The embedding of this process; None if the settings name no file.

    Raises:
        BadSettings: if the file does not exist or is something else.
    """
    if not config.same_person_file:
        return None
    return Embedder(networks.same_person(config))


def join(tracks: Sequence[Track], config: Config) -> Persons:
    """Joins tracks that are never visible at the same time and similar enough, the most similar first.

    Args:
        tracks: of one utterance, in order of first appearance.
        config: ``same_person_file``, ``same_person_likeness``.
    """
    network = embedder(config)
    vectors = [None if network is None else network.vector(track, config) for track in tracks]
    persons: list[tuple[int, ...]] = [(number,) for number in range(len(tracks))]
    pairs = [
        (-float(one @ other), a, b)
        for a, one in enumerate(vectors)
        for b, other in enumerate(vectors)
        if a < b and one is not None and other is not None and float(one @ other) >= config.same_person_likeness
    ]
    for _, a, b in sorted(pairs):
        of_a, of_b = (next(person for person in persons if number in person) for number in (a, b))
        if of_a != of_b and not any(_at_once(tracks[one], tracks[other]) for one in of_a for other in of_b):
            persons = [person for person in persons if person not in (of_a, of_b)] + [tuple(sorted((*of_a, *of_b)))]
    return sorted(persons)


def _at_once(one: Track, other: Track) -> bool:
    return one.spots[0].picture <= other.spots[-1].picture and other.spots[0].picture <= one.spots[-1].picture
