"""Whose face an utterance gets with ``media.choice: active_speaker``: the one whose mouth matches the audio according
to a trained network.

Faces are followed through each shot (:mod:`merc.media.following`); for every candidate the network gives a logit per
frame of 1/25 s, above 0 where it speaks (:mod:`merc.media.active_speaker`). For each person this gives

    evidence    sum of the positive logits over time: highest for a person who speaks long and clearly, almost zero for
                a listener
    mean        mean logit over the frames in which the person is visible; recorded in the media table

The person with the most evidence is chosen; if no one has any, the one with the highest mean. A person is one track, or
several that an embedding joins (:mod:`merc.media.persons`). Without an embedding, the crops come from one track, and so
from one shot: two tracks that speak in two shots may be the same person, but the clip may also run into the next
utterance, and a wrong face does more harm than a missing one.

The crops are taken while the person speaks, evenly over that time. If no one reaches a mean of ``off_screen_logit``
over any second, the speaker is not visible. If there is no audio, or it is almost silent, the person with the largest
sum of areas is chosen, and there are no logits. Tracks of fewer than six frames have none either: so few frames show no
motion, and the network gives any face about +0.9 for one frame and +0.3 for three.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from merc.media import persons
from merc.media.active_speaker.scoring import FRAMES_PER_SECOND, FaceRun
from merc.media.config import Config
from merc.media.following import Followed, Spot
from merc.media.spans import slice_centres
from merc.media.video import looks_in
from merc.records.media import SAMPLE_RATE_HZ

# Frames of 1/25 s that the network looks at on either side.
_LEAST_JUDGED = 6


class Scorer(Protocol):
    """See :class:`merc.media.active_speaker.scoring.Scorer`."""

    def logits(self, runs: Sequence[FaceRun], waveform_S: NDArray[np.float32]) -> list[NDArray[np.float32]]: ...


@dataclass(frozen=True, eq=False)
class Person:
    """One person of an utterance.

    Attributes:
        tracks: numbers of its tracks.
        area: sum of its boxes' areas.
        slots: numbers of the frames of 1/25 s in which the person was judged, in order.
        logits: one for each of these; empty if the person was not judged.
    """

    tracks: tuple[int, ...]
    area: float
    slots: NDArray[np.intp]
    logits: NDArray[np.float32]

    @property
    def judged(self) -> bool:
        return len(self.logits) > 0

    @property
    def evidence(self) -> float:
        """Seconds times logit, while the person speaks."""
        return float(np.maximum(self.logits, 0.0).sum(dtype=np.float64)) / FRAMES_PER_SECOND

    @property
    def mean(self) -> float:
        """Mean logit; only for a person who was judged."""
        return float(self.logits.mean(dtype=np.float64))

    @property
    def best(self) -> float:
        """Highest mean logit over a second, or over everything if shorter; only for a person who was judged. Pauses do
        not lower it.
        """
        sums = np.concatenate([[0.0], np.cumsum(self.logits, dtype=np.float64)])
        window = min(FRAMES_PER_SECOND, len(self.logits))
        return float((sums[window:] - sums[:-window]).max()) / window


@dataclass(frozen=True, eq=False)
class Verdict:
    """Who was chosen, and why.

    Attributes:
        persons: all of them.
        chosen: index; -1 if there is none.
        off_screen: whether no mouth matches the audio; None if no one was judged.
        seconds: length of the utterance, to the end of video or audio, whichever is later.
    """

    persons: Sequence[Person]
    chosen: int
    off_screen: bool | None
    seconds: float


def judge(followed: Followed, waveform_S: NDArray[np.float32] | None, scorer: Scorer | None, config: Config) -> Verdict:
    """Chooses a person.

    Args:
        followed: what was seen.
        waveform_S: (samples,) 16 kHz mono audio of the utterance; None if it has none.
        scorer: may be None only if there is no audio.
        config: settings of the stage.
    """
    found = _persons(followed, waveform_S, scorer, config)
    seconds = max(followed.lasts, 0.0 if waveform_S is None else len(waveform_S) / SAMPLE_RATE_HZ)
    judged = [number for number, person in enumerate(found) if person.judged]
    if not judged:
        return Verdict(
            found, max(range(len(found)), key=lambda number: (found[number].area, -number), default=-1), None, seconds
        )
    chosen = max(judged, key=lambda number: (found[number].evidence, found[number].mean, -number))
    return Verdict(found, chosen, max(found[number].best for number in judged) < config.off_screen_logit, seconds)


def heard(waveform_S: NDArray[np.float32], config: Config) -> bool:
    """Whether there is usable audio; nothing is concluded from audio below ``quiet_sound_db``."""
    return float(np.std(waveform_S.astype(np.float64))) >= 10 ** (config.quiet_sound_db / 20)


def _persons(
    followed: Followed, waveform_S: NDArray[np.float32] | None, scorer: Scorer | None, config: Config
) -> list[Person]:
    candidates = [number for number, track in enumerate(followed.tracks) if track.crops]
    slots: dict[int, NDArray[np.intp]] = {}
    logits: dict[int, NDArray[np.float32]] = {}
    if candidates and scorer is not None and waveform_S is not None and heard(waveform_S, config):
        for number in candidates:  # one by one: same results, less memory
            first, faces_THW = followed.steady(followed.tracks[number])
            if len(faces_THW) < _LEAST_JUDGED:
                continue
            (logits[number],) = scorer.logits([FaceRun(first / FRAMES_PER_SECOND, faces_THW)], waveform_S)
            slots[number] = np.arange(first, first + len(faces_THW))
    return [
        Person(
            members,
            sum(followed.tracks[number].area for number in members),
            np.concatenate([np.zeros(0, np.intp), *(slots[number] for number in members if number in slots)]),
            np.concatenate([np.zeros(0, np.float32), *(logits[number] for number in members if number in logits)]),
        )
        for members in persons.join(followed.tracks, config)
    ]


def portrait(followed: Followed, verdict: Verdict, config: Config) -> dict[str, Any]:
    """The face columns of an utterance."""
    seen: dict[str, Any] = {
        "frames_seen": len(followed.searched),
        "faces_seen": followed.faces_seen,
        "face_tracks": len(verdict.persons),
        "face_track": verdict.chosen,
        "shots": len(followed.shots),
        "off_screen": verdict.off_screen,
    }
    if verdict.chosen < 0:
        return seen
    person = verdict.persons[verdict.chosen]
    spots = [spot for number in person.tracks for spot in followed.tracks[number].spots]
    kept = [] if verdict.off_screen and config.off_screen == "absent" else speaking_spots(followed, verdict, config)
    return seen | _scores(verdict) | {
        "faces": [spot.jpeg for spot in kept],
        "face_seconds": [max(0.0, followed.seconds[spot.picture]) for spot in kept],
        "face_scores": [spot.score for spot in kept],
        "face_coverage": len(spots) / len(followed.searched),
    }  # fmt: skip


def _scores(verdict: Verdict) -> dict[str, Any]:
    """The columns that state how certain the choice is."""
    person = verdict.persons[verdict.chosen]
    others = [one for number, one in enumerate(verdict.persons) if number != verdict.chosen]
    if not person.judged:
        whole = sum(one.area for one in verdict.persons)
        margin = (person.area - max(one.area for one in others)) / whole if others else None
        return {"face_choice_score": person.area / whole, "face_choice_margin": margin}
    rival = max((one.mean for one in others if one.judged), default=None)
    return {
        "face_choice_score": float(1 / (1 + np.exp(-person.mean))),
        "face_choice_margin": None if rival is None else person.mean - rival,
        "speaking_logit": person.mean,
        "speaking_share": min(1.0, int((person.logits > 0).sum()) / max(1, round(verdict.seconds * FRAMES_PER_SECOND))),
        "runner_up_logit": rival,
    }


def speaking_spots(followed: Followed, verdict: Verdict, config: Config) -> list[Spot]:
    """When the chosen person's crops are taken: while the person speaks or, failing that, is visible; evenly over that
    time.
    """
    person = verdict.persons[verdict.chosen]
    spots = sorted(
        (spot for number in person.tracks for spot in followed.tracks[number].spots if spot.jpeg),
        key=lambda spot: spot.picture,
    )
    speaks = set(person.slots[person.logits > 0].tolist())
    spoken = [spot for spot in spots if followed.slot(spot) in speaks] or spots
    wanted = min(len(spoken), looks_in(followed.lasts, config))
    return [spoken[int(middle)] for middle in slice_centres(0, len(spoken), wanted)]
