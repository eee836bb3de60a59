"""What decoding saw of an utterance: the frames with all faces, their tracks, and the row of the media table.

It is not in ``pipeline/merc/media``, because no decoding depends on it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from merc.media import faces, speaker
from merc.media.active import Verdict
from merc.media.active_speaker.scoring import FRAMES_PER_SECOND
from merc.media.clip import decode_dialogue
from merc.media.config import Config as MediaConfig
from merc.media.faces import Sighting
from merc.media.following import Followed
from merc.media.speaker import Choice, Evidence, Glimpse
from merc.media.tasks import DialogueTask
from merc.media.tracks import Track
from merc.media.video import Picture

# Frames are kept for people to look at, with this width and quality; crops are kept as stored.
_FRAME_WIDTH_PIXELS = 480
_FRAME_QUALITY_PERCENT = 88
NO_TRACK = -1
"""Track of a face that was seen too rarely to count as a person."""


@dataclass(frozen=True)
class Face:
    """One face in one frame.

    Attributes:
        box: left, top, width, height as shares of the frame's width and height.
        track: its track; ``NO_TRACK`` if it has none.
    """

    box: tuple[float, float, float, float]
    track: int


@dataclass(frozen=True)
class Look:
    """One frame that was searched for faces.

    Attributes:
        seconds: from the utterance's start.
        frame: JPEG of the image (or its half), reduced, upright, in square pixels.
        found: all faces in it.
        crop: JPEG of the chosen person's face, as stored; empty if that person is not in the frame.
    """

    seconds: float
    frame: bytes
    found: tuple[Face, ...]
    crop: bytes


@dataclass(frozen=True)
class Person:
    """One track.

    Attributes:
        frames: number of frames in which it was seen.
        evidence: evidence for it; None if nothing was chosen, or not by ``speaking``.
        seconds: time of each frame in which ``active_speaker`` judged it, in order. logits: one for each of these;
            above 0: it speaks.
    """

    frames: int
    evidence: Evidence | None
    seconds: tuple[float, ...] = ()
    logits: tuple[float, ...] = ()


@dataclass(frozen=True)
class Seen:
    """The complete result of decoding an utterance.

    Attributes:
        columns: its row of the media table.
        failures: its rows of the failure table.
        looks: the searched frames, in time order; empty if there is no video.
        persons: the tracks, in order; with ``active_speaker`` the people, each with one or several tracks.
        cuts: start times of shots, except the first.
    """

    columns: Mapping[str, Any]
    failures: Sequence[Mapping[str, Any]]
    looks: tuple[Look, ...] = ()
    persons: tuple[Person, ...] = ()
    cuts: tuple[float, ...] = ()

    @property
    def utterance_id(self) -> str:
        return str(self.columns["utterance_id"])

    @property
    def doubt(self) -> float:
        """See :func:`doubt_of`."""
        return doubt_of(self.columns)


def doubt_of(columns: Mapping[str, Any]) -> float:
    """The certainty of the face in a row of the media table, at most 1: the smaller, the more doubtful.

    Without a face it is -2. Otherwise it is the minimum of the coverage, the lead over other people, if there are any,
    and with ``active_speaker`` the probability corresponding to its logit; minus 1 if the speaker is off screen. A lead
    in logits counts from -1 to 1.
    """
    if columns["visual_status"] != "ok":
        return -2.0
    logit, margin = columns["speaking_logit"], columns["face_choice_margin"]
    sure = [float(columns["face_coverage"])]
    if margin is not None:
        sure.append(float(margin) if logit is None else math.tanh(float(margin) / 2))
    if logit is not None:
        sure.append((1 + math.tanh(float(logit) / 2)) / 2)
    return min(sure) - bool(columns["off_screen"])


def observe(task: DialogueTask) -> list[Seen]:
    """Decodes as the media stage does, and keeps what it saw.

    Returns:
        One result per utterance of the task, in order.
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
    """Records what decoding reports; see :class:`merc.media.watching.Observer`."""

    config: MediaConfig
    _frames: dict[tuple[str, float], bytes] = field(default_factory=dict)
    _sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    _chosen: dict[str, _Choosing] = field(default_factory=dict)
    _judged: dict[str, tuple[Followed, Verdict]] = field(default_factory=dict)

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
        evidence = (
            speaker.evidence(persons, looks, glimpses, waveform_S, self.config) if several else [None] * len(persons)
        )
        self._chosen[utterance_id] = _Choosing(
            looks,
            tuple(Person(len(track.members), one) for track, one in zip(persons, evidence, strict=True)),
            {member: number for number, track in enumerate(persons) for member in track.members},
        )

    def judge(self, utterance_id: str, followed: Followed, verdict: Verdict) -> None:
        self._judged[utterance_id] = followed, verdict

    def _of_judged(self, columns: Mapping[str, Any], failures: Sequence[Mapping[str, Any]]) -> Seen:
        utterance_id = columns["utterance_id"]
        followed, verdict = self._judged[utterance_id]
        width, height = followed.size
        crops = dict(zip(columns["face_seconds"], columns["faces"], strict=True))
        found: dict[int, list[Face]] = {}
        persons = []
        for number, person in enumerate(verdict.persons):
            spots = [spot for track in person.tracks for spot in followed.tracks[track].spots]
            for spot in spots:
                x, y, w, h = spot.box
                found.setdefault(spot.picture, []).append(Face((x / width, y / height, w / width, h / height), number))
            judged_at = tuple(((person.slots + 0.5) / FRAMES_PER_SECOND).tolist())
            persons.append(Person(len(spots), None, judged_at, tuple(person.logits.tolist())))
        looks = []
        for picture in followed.searched:
            seconds = followed.seconds[picture]
            looks.append(
                Look(
                    seconds,
                    self._frames[utterance_id, seconds],
                    tuple(found.get(picture, ())),
                    crops.get(max(0.0, seconds), b""),
                )
            )
        return Seen(
            columns,
            failures,
            tuple(looks),
            tuple(persons),
            tuple(followed.seconds[first] for first in followed.shots[1:]),
        )

    def seen(self, columns: Mapping[str, Any], failures: Sequence[Mapping[str, Any]]) -> Seen:
        """What was recorded of an utterance, together with its row."""
        utterance_id = columns["utterance_id"]
        if utterance_id in self._judged:
            return self._of_judged(columns, failures)
        if utterance_id not in self._chosen:
            return Seen(columns, failures)
        choosing, (width, height) = self._chosen[utterance_id], self._sizes[utterance_id]
        crops = iter(columns["faces"])
        looks = []
        for number, (seconds, sightings) in enumerate(choosing.looks):
            found = []
            for index, sighting in enumerate(sightings):
                x, y, w, h = sighting.box
                found.append(
                    Face((x / width, y / height, w / width, h / height), choosing.owners.get((number, index), NO_TRACK))
                )
            here = any(face.track == columns["face_track"] != NO_TRACK for face in found)
            looks.append(Look(seconds, self._frames[utterance_id, seconds], tuple(found), next(crops) if here else b""))
        return Seen(columns, failures, tuple(looks), choosing.persons)
