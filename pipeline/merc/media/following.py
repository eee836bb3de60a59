"""Faces followed through the frames of one utterance, 25 per second, within each of its shots.

    frames    0 1 2 3 4 5 6 7 8 9 …         each is kept, in grey and at reduced size, until the next search
    searched    x       x       x             by the detector, every few frames; the boxes between are interpolated
    shots       |-------------|-------        by :mod:`merc.media.shots`; no track crosses a cut
    crops       c c c c c c c c c c …         112 x 112 grey, the input of the active-speaker network

Memory does not grow with the number of faces: only the most plausible tracks of a shot keep crops, and a frame is
released as soon as no more crops will be cut from it.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from merc.media import shots
from merc.media.active_speaker.scoring import FRAMES_PER_SECOND, SIDE_PIXELS, crop_box
from merc.media.config import Config
from merc.media.faces import Found
from merc.media.tracks import Box, overlap

# A face missed in this many consecutive searches still counts as the same one if it reappears where it is expected.
_BRIDGED = 3
# Share of a face's larger side: the distance from its expected place within which it still counts as the same face.
_MOST_DISTANCE = 0.7
_MOST_GROWTH = 1.6
# The score is 1/2 where the mouth changes by this much more (mean grey levels from frame to frame) than the rest of the
# crop.
_HALF_MOTION = 2.0
# In a crop: below the nose, and from the eyes to above the mouth.
_MOUTH, _UPPER = (slice(56, 96), slice(28, 84)), (slice(0, 40), slice(14, 98))
# Motion is measured on one pair out of this many frames.
_MOTION_STEP = 2
# Extra crops (13 kB each) allowed for short tracks, which drop out in the end.
_SPARE_CROPS = 250
# Grey level of pixels beyond the frame's edge, as in the authors' crops.
_OUTSIDE = 110
# From this side length on, a crop is reduced by area averaging; smaller ones are placed with subpixel accuracy.
_LARGE_PIXELS = 1.5 * SIDE_PIXELS


@dataclass(frozen=True)
class Spot:
    """A face where the detector found it.

    Attributes:
        picture: number of the frame in the utterance.
        box: left, top, width, height in pixels of the (region of the) frame.
        score: confidence, 0 to 1.
        jpeg: the colour crop as stored; empty if the face was not a candidate at that time.
    """

    picture: int
    box: Box
    score: float
    jpeg: bytes = b""


@dataclass(eq=False)
class Track:
    """One face in one shot.

    Attributes:
        shot: number of the shot.
        spots: detections, in time order.
        first: number of the frame of the first crop.
        crops: (112, 112) uint8 grey, one per frame from ``first`` on; None if it is not a candidate.
    """

    shot: int
    spots: list[Spot]
    first: int = 0
    crops: list[NDArray[np.uint8]] | None = field(default_factory=list)

    @property
    def width(self) -> float:
        """Median width in pixels of the frame."""
        return float(np.median([spot.box[2] for spot in self.spots]))

    @property
    def area(self) -> float:
        """Sum of the boxes' areas, that is, size times persistence."""
        return sum(spot.box[2] * spot.box[3] for spot in self.spots)

    def motion(self) -> float:
        """How much more the mouth changes than the upper face, 0 to 1."""
        if self.crops is None or len(self.crops) < 2:
            return 0.0
        pairs = range(0, len(self.crops) - 1, _MOTION_STEP)
        changes = np.array(
            [[_difference(self.crops[at], self.crops[at + 1], part) for part in (_MOUTH, _UPPER)] for at in pairs]
        )
        more = max(0.0, float(np.median(changes[:, 0]) - np.median(changes[:, 1])))
        return more / (more + _HALF_MOTION)

    def moved(self, pictures: int, shots: int) -> "Track":
        """The same track, renumbered for this many preceding frames and shots."""
        return Track(
            self.shot + shots,
            [replace(spot, picture=spot.picture + pictures) for spot in self.spots],
            self.first + pictures,
            self.crops,
        )

    def drop(self) -> None:
        """Drops the grey and colour crops."""
        self.crops = None
        self.spots = [Spot(spot.picture, spot.box, spot.score) for spot in self.spots]


def _difference(one: NDArray[np.uint8], other: NDArray[np.uint8], part: tuple[slice, slice]) -> float:
    return float(np.abs(one[part].astype(np.int16) - other[part]).mean())


@dataclass(frozen=True, eq=False)
class Followed:
    """What was seen of an utterance. Can be pickled.

    Attributes:
        seconds: time of each frame, from the utterance's start.
        searched: numbers of the frames in which faces were searched for.
        faces_seen: number of detections in those frames.
        shots: number of the first frame of each shot.
        tracks: faces seen often enough within their shot, ordered by first appearance.
        until: seconds at which the last frame ends.
        lasts: requested length of the video in seconds, even if the frames end earlier.
        size: width and height of the (region of the) frame in pixels.
    """

    seconds: Sequence[float]
    searched: Sequence[int]
    faces_seen: int
    shots: Sequence[int]
    tracks: Sequence[Track]
    until: float
    lasts: float
    size: tuple[int, int]

    def steady(self, track: Track) -> tuple[int, NDArray[np.uint8]]:
        """The crops of a candidate at exactly 25 per second, regardless of the frame rate of the video: for each slot
        of 1/25 s, the crop on the screen at its middle.

        Returns:
            The first slot, and (slots, 112, 112) uint8; at least one.
        """
        crops = track.crops or []
        last = track.first + len(crops) - 1
        begin = self.seconds[track.first]
        end = self.seconds[last + 1] if last + 1 < len(self.seconds) else self.until
        first = max(0, math.ceil(begin * FRAMES_PER_SECOND - 0.5 - 1e-6))
        stop = max(first + 1, math.ceil(end * FRAMES_PER_SECOND - 0.5 - 1e-6))
        middles = (np.arange(first, stop) + 0.5) / FRAMES_PER_SECOND
        shown = np.searchsorted(np.asarray(self.seconds[track.first : last + 1]), middles + 1e-6, side="right") - 1
        return first, np.stack([crops[at] for at in np.clip(shown, 0, len(crops) - 1)])

    def slot(self, spot: Spot) -> int:
        """The slot in which a frame appears on the screen."""
        return max(0, math.floor(self.seconds[spot.picture] * FRAMES_PER_SECOND + 1e-6))


def joined(parts: Sequence[Followed]) -> Followed:
    """What was seen of an utterance of several spans, in order; each span starts a new shot.

    Args:
        parts: at least one; their seconds count from the utterance's start.
    """
    if len(parts) == 1:
        return parts[0]
    seconds: list[float] = []
    searched: list[int] = []
    shots_begin: list[int] = []
    tracks: list[Track] = []
    for part in parts:
        first, shot = len(seconds), len(shots_begin)
        seconds += part.seconds
        searched += [first + number for number in part.searched]
        shots_begin += [first + number for number in part.shots]
        tracks += [track.moved(first, shot) for track in part.tracks]
    faces_seen, last = sum(part.faces_seen for part in parts), parts[-1]
    return Followed(
        tuple(seconds), tuple(searched), faces_seen, tuple(shots_begin), tracks, last.until, last.lasts, parts[0].size
    )


@dataclass(eq=False)
class _Picture:
    """A frame from which crops may still be cut.

    Attributes:
        grey: (height, width) uint8, reduced.
        spots: what was found in it; None if it was not searched.
    """

    number: int
    grey: NDArray[np.uint8]
    spots: list[Spot] | None = None


class Follower:
    """Takes the frames of one utterance in time order.

    Args:
        config: ``max_speaker_candidates``, ``min_track_share``.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._seconds: list[float] = []
        self._changes: list[float] = []
        self._thumbnail: shots.Thumbnail | None = None
        self._undecided: deque[_Picture] = deque()
        self._held: deque[_Picture] = deque()
        self._searched: list[int] = []
        self._faces_seen = 0
        self._shots = [0]
        self._searched_here: list[int] = []  # of the settled part of this shot
        self._of_shot: list[Track] = []
        self._tracks: list[Track] = []
        self._scale = 1.0
        self._size = (0, 0)

    def add(self, seconds: float, grey: NDArray[np.uint8], size: tuple[int, int]) -> None:
        """Takes a frame.

        Args:
            seconds: when it appears on the screen, from the utterance's start.
            grey: (height, width) uint8, reduced.
            size: width and height of the frame itself.
        """
        small = shots.thumbnail(grey)
        if self._thumbnail is not None:
            self._changes.append(shots.change(self._thumbnail, small))
        self._thumbnail = small
        self._scale, self._size = grey.shape[1] / size[0], size
        self._undecided.append(_Picture(len(self._seconds), grey))
        self._seconds.append(seconds)
        while len(self._undecided) > shots.REACH + 1:
            self._settle(self._undecided.popleft())

    def search(self, seconds: float, found: Sequence[Found], jpegs: Sequence[bytes]) -> None:
        """Takes the faces in the frame that was added last.

        Args:
            seconds: of the frame.
            found: the largest first.
            jpegs: colour crops of the first of them.
        """
        last = self._undecided[-1]
        last.spots = [
            Spot(last.number, box, min(score, 1.0), jpegs[number] if number < len(jpegs) else b"")
            for number, (box, score, _) in enumerate(found)
        ]
        self._searched.append(last.number)
        self._faces_seen += len(found)

    def finish(self, lasts: float) -> Followed:
        """No more frames.

        Args:
            lasts: requested length of the video in seconds.
        """
        while self._undecided:
            self._settle(self._undecided.popleft())
        self._close_shot()
        self._held.clear()
        tracks = sorted(self._tracks, key=lambda track: track.spots[0].picture)
        return Followed(
            tuple(self._seconds),
            tuple(self._searched),
            self._faces_seen,
            tuple(self._shots),
            tracks,
            self._until(),
            lasts,
            self._size,
        )

    def _until(self) -> float:
        """The last frame stays on the screen for the usual duration of a frame: the audio may go on after the frames
        have ended.
        """
        usual = float(np.median(np.diff(self._seconds))) if len(self._seconds) > 1 else 0.0
        return self._seconds[-1] + max(usual, 1 / FRAMES_PER_SECOND) if self._seconds else 0.0

    def _settle(self, picture: _Picture) -> None:
        """Takes a frame once it is known whether it starts a shot."""
        if picture.number and shots.is_cut(self._changes, picture.number - 1):
            self._close_shot()
            self._shots.append(picture.number)
        self._held.append(picture)
        if picture.spots is not None:
            self._searched_here.append(picture.number)
            self._associate(picture, picture.spots)
            self._bound()
            self._forget(picture.number)

    def _associate(self, picture: _Picture, spots: Sequence[Spot]) -> None:
        """Gives each face to the track that fits best, or to a new one."""
        oldest = self._oldest()
        pairs = [
            (-fit, at, index)
            for at, track in enumerate(self._of_shot)
            if track.spots[-1].picture >= oldest
            for index, spot in enumerate(spots)
            if (fit := _fit(track, spot)) > 0
        ]
        taken_tracks: set[int] = set()
        taken_spots: set[int] = set()
        for _, at, index in sorted(pairs):
            if at not in taken_tracks and index not in taken_spots:
                self._extend(self._of_shot[at], spots[index])
                taken_tracks.add(at)
                taken_spots.add(index)
        first_search = self._searched_here[0] == picture.number
        for index, spot in enumerate(spots):
            if index not in taken_spots:
                self._begin(spot, self._shots[-1] if first_search else spot.picture)

    def _oldest(self) -> int:
        """A track last found before this frame is lost."""
        return self._searched_here[max(0, len(self._searched_here) - _BRIDGED - 2)]

    def _begin(self, spot: Spot, first: int) -> None:
        """A new track, with crops from the frame ``first`` on, where its box was not yet known."""
        track = Track(len(self._shots) - 1, [spot])
        begin = max(first, self._held[0].number)
        track.first = begin
        self._cut(track, [spot.box] * (spot.picture - begin + 1), begin)
        self._of_shot.append(track)

    def _extend(self, track: Track, spot: Spot) -> None:
        before = track.spots[-1]
        steps = spot.picture - before.picture
        shares = [(step + 1) / steps for step in range(steps)]
        track.spots.append(spot if track.crops is not None else Spot(spot.picture, spot.box, spot.score))
        self._cut(track, [_between(before.box, spot.box, share) for share in shares], before.picture + 1)

    def _cut(self, track: Track, boxes: Sequence[Box], first: int) -> None:
        """Cuts crops from the frames from number ``first`` on."""
        if track.crops is None:
            return
        offset = first - self._held[0].number
        for step, box in enumerate(boxes):
            left, top, side = crop_box(box)
            track.crops.append(
                cut(self._held[offset + step].grey, left * self._scale, top * self._scale, side * self._scale)
            )

    def _forget(self, searched: int) -> None:
        """Releases the frames that no track needs any more."""
        last = (track.spots[-1].picture for track in self._of_shot if track.crops is not None)
        oldest = self._oldest()
        needed = min((picture for picture in last if picture >= oldest), default=searched)
        while self._held and self._held[0].number <= min(needed, searched - 1):
            self._held.popleft()

    def _bound(self) -> None:
        """During a shot, the least plausible tracks lose their crops once all tracks together hold more than twice as
        many crops as the tracks to be kept can have.
        """
        candidates = [track for track in self._of_shot if track.crops is not None]
        left = 2 * self._config.max_speaker_candidates * (self._held[-1].number - self._shots[-1] + 1) + _SPARE_CROPS
        if sum(len(track.crops or ()) for track in candidates) > left:
            widest = max(track.width for track in candidates)
            for track in sorted(candidates, key=lambda one: (-_plausible(one, widest), one.spots[0].picture)):
                left -= len(track.crops or ())
                if left < 0:
                    track.drop()

    def _close_shot(self) -> None:
        """The shot has ended: tracks are extrapolated to its end, and only the most plausible ones stay candidates."""
        if not self._held:
            return
        searched = self._searched_here
        for track in self._of_shot:
            if track.crops is not None and searched and track.spots[-1].picture == searched[-1]:
                behind = range(searched[-1] + 1, self._held[-1].number + 1)
                self._cut(track, [_expected(track, number) for number in behind], behind.start)
        least = max(1, math.ceil(self._config.min_track_share * len(searched)))
        self._of_shot = [track for track in self._of_shot if len(track.spots) >= least]
        candidates = [track for track in self._of_shot if track.crops is not None]
        if len(candidates) > self._config.max_speaker_candidates:
            widest = max(track.width for track in candidates)
            ranked = sorted(
                candidates, key=lambda one: (-_plausible(one, widest) * (0.5 + one.motion()), one.spots[0].picture)
            )
            for track in ranked[self._config.max_speaker_candidates :]:
                track.drop()
        self._tracks += self._of_shot
        self._of_shot = []
        self._searched_here = []
        self._held.clear()


def _plausible(track: Track, widest: float) -> float:
    """Size, relative to the widest face, times the root of how often it was seen."""
    return track.width / widest * math.sqrt(len(track.spots))


def _fit(track: Track, spot: Spot) -> float:
    """How well a face fits the expected place of a track, from 0 (not at all) to 2."""
    box, now = _expected(track, spot.picture), spot.box
    small, large = sorted((max(box[2], box[3]), max(now[2], now[3])))
    away = math.hypot(box[0] + box[2] / 2 - now[0] - now[2] / 2, box[1] + box[3] / 2 - now[1] - now[3] / 2)
    if large > _MOST_GROWTH * small or away > _MOST_DISTANCE * large:
        return 0.0
    return overlap(box, now) + 1 - away / large


def _expected(track: Track, picture: int) -> Box:
    """The expected place of a track in a frame: the motion between the last two searches continues for as long as the
    time between them.
    """
    last = track.spots[-1]
    if len(track.spots) < 2:
        return last.box
    before = track.spots[-2]
    steps = min(1.0, (picture - last.picture) / (last.picture - before.picture))
    x, y = (last.box[axis] + steps * (last.box[axis] - before.box[axis]) for axis in (0, 1))
    return x, y, last.box[2], last.box[3]


def _between(one: Box, other: Box, share: float) -> Box:
    x, y, w, h = (a + share * (b - a) for a, b in zip(one, other, strict=True))
    return x, y, w, h


def cut(grey_HW: NDArray[np.uint8], left: float, top: float, side: float) -> NDArray[np.uint8]:
    """(112, 112) uint8: a square of a grey frame; it may extend beyond the frame's edge."""
    if side > _LARGE_PIXELS:
        x, y, whole = round(left), round(top), round(side)
        height, width = grey_HW.shape
        above, before = max(0, -y), max(0, -x)
        inside = grey_HW[max(0, y) : max(0, y + whole), max(0, x) : max(0, x + whole)]
        if inside.size:
            below, behind = max(0, y + whole - height), max(0, x + whole - width)
            square = cv2.copyMakeBorder(inside, above, below, before, behind, cv2.BORDER_CONSTANT, value=_OUTSIDE)
            return np.asarray(
                cv2.resize(square, (SIDE_PIXELS, SIDE_PIXELS), interpolation=cv2.INTER_AREA), dtype=np.uint8
            )
    step = max(side, 1.0) / SIDE_PIXELS
    # Pixel centres lie half a pixel after their corners.
    matrix = np.array([[step, 0, left + step / 2 - 0.5], [0, step, top + step / 2 - 0.5]])
    size = (SIDE_PIXELS, SIDE_PIXELS)
    warped = cv2.warpAffine(
        grey_HW,
        matrix,
        size,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=_OUTSIDE,
    )
    return np.asarray(warped, dtype=np.uint8)
