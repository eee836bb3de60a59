"""Which detections are the same person, by place and appearance, and which person is largest or seen most often.

frame      0     1     2     3     4
track 0    A     A     A           A      largest sum of areas, and seen the most
track 1          b     b     b
(dropped)                          x      one frame of five: below min_track_share
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from merc.media.config import Config
from merc.media.faces import Sighting

Box = tuple[float, float, float, float]
"""Left, top, width, height."""

# A track's appearance is that of the most similar of its last few sightings: a head that turns away and back is
# recognised.
_REMEMBERED = 3
# Weight of proximity relative to appearance, which is usually 0.98 for one person and 0.5 for two; so proximity decides
# between people who look alike.
_PLACE_WEIGHT = 0.3


@dataclass(frozen=True)
class Track:
    """One person.

    Attributes:
        members: (frame, index of the sighting in that frame), in time order, at most one per frame.
        area: sum of the boxes' areas, that is, size times persistence.
    """

    members: tuple[tuple[int, int], ...]
    area: float


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes.

    >>> overlap((0, 0, 2, 2), (1, 0, 2, 2))
    0.3333333333333333
    """
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def likeness(one: Box, other: Box, alike: float, config: Config) -> float:
    """The confidence that two sightings in different frames are one person; 0: they are not.

    If the boxes overlap, a moderate similarity of appearance suffices; the farther apart they are, the more is
    required, since it may be a neighbour; and none suffices beyond ``track_max_distance``, or if one box is twice as
    wide as the other.

    Args:
        one, other: boxes in the same pixels.
        alike: of their appearances, 0 to 1.
        config: the limits.

    Returns:
        0 to 1.
    """
    small, large = sorted((one[2], other[2]))
    shared = overlap(one, other)
    if shared >= config.track_min_overlap:
        place, least = (1 + shared) / 2, config.track_min_likeness
    else:
        distance = math.hypot(
            one[0] + one[2] / 2 - other[0] - other[2] / 2, one[1] + one[3] / 2 - other[1] - other[3] / 2
        )
        away = distance / (config.track_max_distance * (small + large) / 2)
        if away >= 1 or large >= 2 * small:
            return 0.0
        place = (1 - away) / 2
        least = config.track_min_likeness + (config.track_jump_likeness - config.track_min_likeness) * min(
            1.0, distance / large
        )
    if alike < least:
        return 0.0
    return (alike + _PLACE_WEIGHT * place) / (1 + _PLACE_WEIGHT)


def link(frames: Sequence[Sequence[Sighting]], config: Config, shots: Sequence[int] | None = None) -> list[Track]:
    """Links sightings to tracks: frame by frame, starting with the most likely pair of a track and a new sighting.

    Args:
        frames: the sightings of each frame, in time order.
        config: what counts as the same person, and how often a person must be seen.
        shots: number of the shot of each frame; no track crosses a cut. None: unknown.

    Returns:
        The tracks that are seen often enough within their shot, in order of first appearance.
    """
    shots = [0] * len(frames) if shots is None else shots
    tracks: list[list[tuple[int, int]]] = []
    for number, sightings in enumerate(frames):
        pairs = []
        for at, track in enumerate(tracks):
            if shots[track[-1][0]] != shots[number]:
                continue
            past = [frames[frame][index] for frame, index in track[-_REMEMBERED:]]
            for index, new in enumerate(sightings):
                alike = max(float(old.appearance @ new.appearance) for old in past)
                pairs.append((-likeness(past[-1].box, new.box, alike, config), at, index))
        taken_tracks: set[int] = set()
        taken_sightings: set[int] = set()
        for minus_likeness, at, index in sorted(pairs):
            if minus_likeness < 0 and at not in taken_tracks and index not in taken_sightings:
                tracks[at].append((number, index))
                taken_tracks.add(at)
                taken_sightings.add(index)
        tracks.extend([(number, index)] for index in range(len(sightings)) if index not in taken_sightings)
    return [
        Track(
            tuple(members), sum(frames[frame][index].box[2] * frames[frame][index].box[3] for frame, index in members)
        )
        for members in tracks
        if len(members) >= max(1, math.ceil(config.min_track_share * shots.count(shots[members[0][0]])))
    ]


def largest(tracks: Sequence[Track]) -> int:
    """Index of the track with the largest area, the first one in case of ties; -1 if there is none."""
    return max(range(len(tracks)), key=lambda index: (tracks[index].area, -index), default=-1)


def persistent(tracks: Sequence[Track]) -> int:
    """Index of the track that is seen in the most frames, the largest one in case of ties; -1 if there is none."""
    return max(
        range(len(tracks)), key=lambda index: (len(tracks[index].members), tracks[index].area, -index), default=-1
    )
