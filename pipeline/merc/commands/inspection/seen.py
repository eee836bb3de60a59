"""What decoding saw of an utterance: the frames with all faces in them, whose they are, and what the media table gets.

It stands beside the stages, and not in ``pipeline/merc/media``, because nothing that decodes depends on it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from merc.media import faces, speaker
from merc.media.clip import decode_dialogue
from merc.media.config import Config as MediaConfig
from merc.media.faces import Sighting
from merc.media.speaker import Choice, Evidence, Glimpse
from merc.media.tasks import DialogueTask
from merc.media.tracks import Track
from merc.media.video import Picture

# Frames are kept for people to look at, in this width and quality; the crops are kept as they are stored.
_FRAME_WIDTH_PIXELS = 480
_FRAME_QUALITY_PERCENT = 88
NO_TRACK = -1
"""Of a face that was seen too rarely to count as a person."""


@dataclass(frozen=True)
class Face:
    """One face in one frame.

    Attributes:
        box: left, top, width, height as shares of the frame's width and height.
        track: whose it is; ``NO_TRACK``: nobody's.
    """

    box: tuple[float, float, float, float]
    track: int


@dataclass(frozen=True)
class Look:
    """One frame that was searched for faces.

    Attributes:
        seconds: from the utterance's begin.
        frame: JPEG of the picture (or its half), reduced, upright, in square pixels.
        found: all faces in it.
        crop: JPEG of the chosen person's face, as stored; empty where that person is not in the frame.
    """

    seconds: float
    frame: bytes
    found: tuple[Face, ...]
    crop: bytes


@dataclass(frozen=True)
class Person:
    """One track.

    Attributes:
        frames: in how many it was seen.
        evidence: what speaks for it; None where nothing was to be chosen, or not by who speaks.
    """

    frames: int
    evidence: Evidence | None


@dataclass(frozen=True)
class Seen:
    """All that decoding gave of an utterance.

    Attributes:
        columns: its row of the media table.
        failures: its rows of the failure table.
        looks: the frames searched, in time order; none where there is no picture.
        persons: the tracks, in order.
    """

    columns: Mapping[str, Any]
    failures: Sequence[Mapping[str, Any]]
    looks: tuple[Look, ...] = ()
    persons: tuple[Person, ...] = ()

    @property
    def utterance_id(self) -> str:
        return str(self.columns["utterance_id"])

    @property
    def doubt(self) -> float:
        """How doubtful the face is: 0 where there is none, else the smaller of its coverage and of its lead over other persons; 1: beyond doubt."""
        return doubt_of(self.columns)


def doubt_of(columns: Mapping[str, Any]) -> float:
    """See :attr:`Seen.doubt`; of a row of the media table."""
    return min(float(columns["face_coverage"]), float(columns["face_choice_margin"])) if columns["visual_status"] == "ok" else 0.0


def observe(task: DialogueTask) -> list[Seen]:
    """Decodes as the media stage does, and keeps what it saw.

    Returns:
        One per utterance of the task, in order.
    """
    notes = _Notes(task.config)
    decoded = decode_dialogue(task, notes)
    return [notes.seen(columns, failures) for columns, failures in decoded]


@dataclass
class _Choosing:
    looks: Sequence[tuple[float, Sequence[Sighting]]]
    persons: tuple[Person, ...]
    owners: dict[tuple[int, int], int]


@dataclass
class _Notes:
    """Takes down what passes; see :class:`merc.media.clip.Observer`."""

    config: MediaConfig
    _frames: dict[tuple[str, float], bytes] = field(default_factory=dict)
    _sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    _chosen: dict[str, _Choosing] = field(default_factory=dict)

    def look(self, utterance_id: str, seconds: float, picture: Picture) -> None:
        small_HWC = np.ascontiguousarray(picture.reduced(_FRAME_WIDTH_PIXELS))
        self._frames[utterance_id, seconds] = faces.jpeg(small_HWC, _FRAME_QUALITY_PERCENT)
        self._sizes[utterance_id] = picture.size

    def choose(
        self,
        utterance_id: str,
        looks: Sequence[tuple[float, Sequence[Sighting]]],
        glimpses: Sequence[Glimpse],
        waveform_S: NDArray[np.float32] | None,
        persons: Sequence[Track],
        choice: Choice,
    ) -> None:
        several = len(persons) > 1 and self.config.choice == "speaking"
        evidence = speaker.evidence(persons, looks, glimpses, waveform_S, self.config) if several else [None] * len(persons)
        self._chosen[utterance_id] = _Choosing(
            looks,
            tuple(Person(len(track.members), one) for track, one in zip(persons, evidence, strict=True)),
            {member: number for number, track in enumerate(persons) for member in track.members},
        )

    def seen(self, columns: Mapping[str, Any], failures: Sequence[Mapping[str, Any]]) -> Seen:
        """What was taken down of an utterance, once it has its row."""
        utterance_id = columns["utterance_id"]
        if utterance_id not in self._chosen:
            return Seen(columns, failures)
        choosing, (width, height) = self._chosen[utterance_id], self._sizes[utterance_id]
        crops = iter(columns["faces"])
        looks = []
        for number, (seconds, sightings) in enumerate(choosing.looks):
            found = []
            for index, sighting in enumerate(sightings):
                x, y, w, h = sighting.box
                found.append(Face((x / width, y / height, w / width, h / height), choosing.owners.get((number, index), NO_TRACK)))
            here = any(face.track == columns["face_track"] != NO_TRACK for face in found)
            looks.append(Look(seconds, self._frames[utterance_id, seconds], tuple(found), next(crops) if here else b""))
        return Seen(columns, failures, tuple(looks), choosing.persons)
