"""Frames: which frames of a stream the utterances need, and how these are converted.

An utterance needs the frames that are on the screen at given instants. A frame is on the screen from its time stamp to
that of the next one, so variable frame rates need no special care; nothing is computed from a nominal rate.

    instants         |       |       |       |
    frames     [a      )[b )[c             )[d     )      → a, b (on the screen at the 2nd), c, d
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import av
import cv2
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from merc.media.config import Config
from merc.media.spans import Place, Span, slice_centres

# Real formats have pixels up to 2.2 times as wide as high (half D1); a header that states more is broken, and is
# ignored.
_MAX_PIXEL_ASPECT = 3.0
ALONE = Place()
"""The place of a span that is a whole utterance."""
GLIMPSES_PER_SECOND = 25
"""Frames per second that ``active_speaker`` sees; its network was trained at this rate."""


@dataclass(frozen=True)
class Pose:
    """How a stored frame must be shown: of the eight orientations, the one nearest to its display matrix.

    Attributes:
        transposed: rows become columns; applied first.
        mirrored: left and right are swapped.
        upside_down: top and bottom are swapped.
    """

    transposed: bool = False
    mirrored: bool = False
    upside_down: bool = False

    @classmethod
    def of(cls, frame: av.VideoFrame) -> "Pose":
        """From the frame's display matrix, which comes from the container or the stream; as stored if there is none."""
        # Not frame.side_data: its result and the frame refer to each other, and neither is freed before Python collects
        # reference cycles.
        data: Any = SideDataContainer(frame).get("DISPLAYMATRIX")  # type: ignore[call-arg]
        if data is None:
            return cls()
        # x' = a x + c y, y' = b x + d y, y downwards (ISO/IEC 14496-12, 8.3.2); broken headers contain only zeros.
        a, b, _, c, d = np.frombuffer(data, dtype=np.int32)[:5].tolist()
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(True, c < 0, b < 0)
        return cls(False, a < 0, d < 0)

    def upright(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(height, width, …) in the orientation in which it must be shown; a view."""
        if self.transposed:
            picture = picture.swapaxes(0, 1)
        return picture[:: -1 if self.upside_down else 1, :: -1 if self.mirrored else 1]


@dataclass(eq=False)
class _Decoded:
    """A decoded frame and the requested conversions of it.

    Attributes:
        frame: as decoded.
        pose: what puts it upright.
        pixel_aspect: width of a pixel over its height, before turning.
        width, height: upright, in square pixels.
    """

    frame: av.VideoFrame
    pose: Pose
    pixel_aspect: float
    width: int = field(init=False)
    height: int = field(init=False)
    _made: dict[tuple[int, int, str], NDArray[np.uint8]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # The shorter side of a pixel is stretched, so no detail is lost.
        width, height = self.frame.width, self.frame.height
        if 1 < self.pixel_aspect <= _MAX_PIXEL_ASPECT:
            width = round(width * self.pixel_aspect)
        elif 1 / _MAX_PIXEL_ASPECT <= self.pixel_aspect < 1:
            height = round(height / self.pixel_aspect)
        self.width, self.height = (height, width) if self.pose.transposed else (width, height)

    def converted(self, width: int, height: int, pixel_format: str) -> NDArray[np.uint8]:
        """The whole frame, upright; converted from the decoder's format to the requested format and size in one
        step.
        """
        key = width, height, pixel_format
        if key not in self._made:
            wanted = (height, width) if self.pose.transposed else (width, height)
            frame: Any = self.frame.reformat(*wanted, format=pixel_format, interpolation=Interpolation.AREA, threads=1)
            self._made[key] = self.pose.upright(np.asarray(frame.to_ndarray(), dtype=np.uint8))
        return self._made[key]


_AS_STORED = Pose()


class Picture:
    """A frame, or one half of it, upright and in square pixels; each conversion happens on request, and once.

    Args:
        frame: in any pixel format.
        pose: what puts it upright.
        pixel_aspect: width of a pixel over its height.

    Attributes:
        size: (width, height) in pixels.
    """

    def __init__(self, frame: av.VideoFrame, pose: Pose = _AS_STORED, pixel_aspect: float = 1.0) -> None:
        self._source = _Decoded(frame, pose, pixel_aspect)
        self._columns = 0, self._source.width
        self.size = self._source.width, self._source.height

    @classmethod
    def from_rgb(cls, picture_HWC: NDArray[np.uint8]) -> "Picture":
        """A frame of (height, width, 3) uint8 RGB."""
        return cls(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture_HWC), format="rgb24"))

    def part(self, region: str) -> "Picture":
        """The whole frame, or its ``left`` or ``right`` half."""
        width = self._source.width
        half = object.__new__(Picture)
        half._source = self._source
        half._columns = {"full": (0, width), "left": (0, width // 2), "right": (width // 2, width)}[region]
        half.size = half._columns[1] - half._columns[0], self._source.height
        return half

    def rgb(self) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 RGB in full size; must not be written to."""
        return self._source.converted(self._source.width, self._source.height, "rgb24")[:, slice(*self._columns)]

    def reduced(self, width_pixels: int) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 RGB, reduced to a width, never enlarged; converted directly from the decoder's
        frame.
        """
        return self._reduced(width_pixels, "rgb24")

    def grey(self, width_pixels: int) -> NDArray[np.uint8]:
        """(height, width) uint8 brightness, reduced in the same way."""
        return self._reduced(width_pixels, "gray")

    def square(self, x: int, y: int, side: int, most: int) -> tuple[NDArray[np.uint8], float, tuple[float, float]]:
        """A square of the frame; beyond the border, the border's pixels are repeated. A large square is cut from the
        reduced frame.

        Args:
            x, y: its upper left corner; may be outside.
            side: in pixels.
            most: maximum side in pixels; a larger square is reduced to it.

        Returns:
            (pixels, pixels, 3) uint8 RGB, a copy; its scale in pixels per pixel of the frame; and its corner (x, y) in
            the frame.
        """
        if side <= most:
            return _square(self.rgb(), x, y, side), 1.0, (x, y)
        small_HWC = self.reduced(max(1, round(self.size[0] * most / side)))
        scale = small_HWC.shape[1] / self.size[0]
        left, top = round(x * scale), round(y * scale)
        return _square(small_HWC, left, top, round(side * scale)), scale, (left / scale, top / scale)

    def _reduced(self, width_pixels: int, pixel_format: str) -> NDArray[np.uint8]:
        scale = min(1.0, width_pixels / max(1, self.size[0]))
        width, height = max(1, round(self._source.width * scale)), max(1, round(self._source.height * scale))
        left, right = (round(column * scale) for column in self._columns)
        return self._source.converted(width, height, pixel_format)[:, left:right]


def _square(picture_HWC: NDArray[np.uint8], x: int, y: int, side: int) -> NDArray[np.uint8]:
    """(side, side, 3) copy of a square; pixels outside the frame are those of the nearest border."""
    rows, above, below = _inside(y, side, picture_HWC.shape[0])
    columns, left, right = _inside(x, side, picture_HWC.shape[1])
    inside = np.ascontiguousarray(picture_HWC[rows, columns])
    return np.asarray(cv2.copyMakeBorder(inside, above, below, left, right, cv2.BORDER_REPLICATE), dtype=np.uint8)


def _inside(begin: int, side: int, length: int) -> tuple[slice, int, int]:
    """The part of ``side`` pixels from ``begin`` that lies within ``length`` pixels, at least the nearest one, and the
    number of missing pixels before and after it.
    """
    first = min(max(begin, 0), length - 1)
    stop = min(max(begin + side, first + 1), length)
    before = min(max(0, first - begin), side - 1)
    return slice(first, stop), before, side - (stop - first) - before


class FrameSpan:
    """The frames that one utterance needs of a video.

    Args:
        number: its place among those of the file.
        wanted: the span of the file; finite.
        begin: where the utterance starts; its seconds count from there, even if the frames start later.
        region: ``full``, ``left`` or ``right`` half of the frame.
        config: the number of frames and the cap on the length.
        place: position of the span in the utterance; the instants are spread over the whole utterance.

    Attributes:
        kept: the span up to the cap.
        look_instants: instants whose frames are searched for faces: the middles of equal slices of the span.
        glimpse_instants: instants at which a small grey frame is needed; likewise.
        seen_seconds: times of the distinct frames that were shown, in order.
    """

    def __init__(
        self, number: int, wanted: Span, begin: float, region: str, config: Config, place: Place = ALONE
    ) -> None:
        self.number = number
        self.wanted = wanted
        self.begin = begin
        self.place = place
        self.kept = wanted.capped(config.max_clip_seconds - place.offset_seconds)
        self.region = region
        if place.whole_seconds is None:
            self.look_instants, self.glimpse_instants = instants_in(self.kept, config)
        else:
            whole = instants_in(Span(0.0, place.whole_seconds).capped(config.max_clip_seconds), config)
            self.look_instants, self.glimpse_instants = (place.instants_in(self.kept, instants) for instants in whole)
        self.seen_seconds: list[float] = []
        self._glimpsed_seconds = -1.0
        self._expected = len(self.look_instants) + len(self.glimpse_instants)

    def since(self, seconds: float) -> float:
        """A time in the file converted to a time in the utterance; a frame on the screen when a further span starts
        counts from the start of that span.
        """
        since = seconds - self.begin
        return since if self.place.whole_seconds is None else max(since, self.place.offset_seconds)

    @property
    def cut(self) -> bool:
        """The span is longer than the cap."""
        return self.kept.end < self.wanted.end

    @property
    def complete(self) -> bool:
        """Every instant has been served."""
        return self._expected == 0

    def served(self, instants: int) -> None:
        """Marks this many instants as served, with or without a frame."""
        self._expected -= instants

    def admit(self, seconds: float, *, glimpse: bool) -> bool:
        """Whether a frame that starts at ``seconds`` must be shown: it is in the span and has not been shown for an
        earlier instant.
        """
        if seconds >= self.kept.end:
            return False
        if glimpse:
            new = seconds > self._glimpsed_seconds
            self._glimpsed_seconds = max(seconds, self._glimpsed_seconds)
            return new
        if seconds in self.seen_seconds:
            return False
        self.seen_seconds.append(seconds)
        return True


def looks_in(seconds: float, config: Config) -> int:
    """Number of frames searched for faces in this many seconds, by the policy ``sampling``; at least one."""
    if config.sampling == "count":
        return config.frames_per_clip
    return min(config.max_frames_per_clip, max(1, round(seconds * config.frames_per_second)))


def instants_in(kept: Span, config: Config) -> tuple[list[float], list[float]]:
    """Instants at which faces are searched for, and at which small grey frames are taken. ``active_speaker`` takes 25
    grey frames per second and searches some of them for faces.
    """
    if config.choice == "active_speaker":
        glimpses = [
            kept.start + (number + 0.5) / GLIMPSES_PER_SECOND
            for number in range(max(1, round(kept.seconds * GLIMPSES_PER_SECOND)))
        ]
        searched = max(looks_in(kept.seconds, config), -(-len(glimpses) // config.pictures_per_search))
        return [
            glimpses[int(middle)] for middle in slice_centres(0, len(glimpses), min(searched, len(glimpses)))
        ], glimpses
    glimpses_per_second = config.glimpses_per_second if config.choice == "speaking" else 0.0
    return (
        slice_centres(kept.start, kept.end, looks_in(kept.seconds, config)),
        slice_centres(kept.start, kept.end, round(kept.seconds * glimpses_per_second)),
    )


class Watcher(Protocol):
    """Receives the frames; calls come in time order."""

    def look(self, picture: Picture, seconds: float, spans: Sequence[FrameSpan]) -> None:
        """A frame to search for faces: the whole frame, its time from the start of the file, and the spans that need
        it.
        """

    def glimpse(self, picture: Picture, seconds: float, spans: Sequence[FrameSpan]) -> None:
        """A frame of which a small grey copy is kept."""

    def complete(self, span: FrameSpan) -> None:
        """The span has had its last frame. Not called if the last instants bring no new frame."""

    def start_over(self) -> None:
        """Discards everything shown so far: the frames of the file come again from its start, for new spans."""


@dataclass(eq=False)
class Showing:
    """A frame that is needed.

    Attributes:
        seconds: its time.
        looks, glimpses: the spans that need it.
        served: number of instants that it serves, per span.
    """

    seconds: float
    looks: list[FrameSpan] = field(default_factory=list)
    glimpses: list[FrameSpan] = field(default_factory=list)
    served: list[tuple[FrameSpan, int]] = field(default_factory=list)

    def show(self, frame: av.VideoFrame, pixel_aspect: float, watcher: Watcher) -> None:
        """Hands the frame out."""
        picture = Picture(frame, Pose.of(frame), pixel_aspect)
        if self.glimpses:
            watcher.glimpse(picture, self.seconds, self.glimpses)
        if self.looks:
            watcher.look(picture, self.seconds, self.looks)
        for one, instants in self.served:
            one.served(instants)
            if one.complete:
                watcher.complete(one)


_Item = TypeVar("_Item")


class Timeline(Generic[_Item]):
    """Determines which frames are on the screen at the instants that the utterances need, from the times of the frames
    only.

    Items are frames, or packets that have yet to be decoded. Spans may overlap.

    Args:
        spans: of all utterances in this file.
    """

    def __init__(self, spans: Sequence[FrameSpan]) -> None:
        self._spans = spans
        looks = [(instant, index, False) for index, one in enumerate(spans) for instant in one.look_instants]
        glimpses = [(instant, index, True) for index, one in enumerate(spans) for instant in one.glimpse_instants]
        self._queue = sorted(looks + glimpses, reverse=True)
        self._shown: tuple[_Item, float, float] | None = None  # item, its time, its end if no other follows
        self.end_seconds = 0.0

    @property
    def done(self) -> bool:
        """Every instant has its frame."""
        return not self._queue

    def within(self, seconds: float) -> bool:
        """Whether a frame that starts at ``seconds`` is in a span."""
        return any(one.kept.start <= seconds < one.kept.end for one in self._spans)

    def feed(self, item: _Item, seconds: float | None, duration_seconds: float) -> tuple[_Item, Showing] | None:
        """Takes the next frame in order of presentation.

        Args:
            item: represents the frame.
            seconds: its time from the start of the file; None if it follows the previous frame.
            duration_seconds: how long it is shown if no other frame follows.

        Returns:
            The item needed for the instants up to here (the previous one; for the very first frame, that one) and the
            spans that need it; None if no span needs it.
        """
        seconds = self.end_seconds if seconds is None else max(seconds, self._shown[1] if self._shown else 0.0)
        # Instants before the very first frame get that frame, if it is in their span.
        shown, since, _ = self._shown or (item, seconds, 0.0)
        wanted = self._showing(since, seconds, self._spans)
        self._shown = (item, seconds, seconds + duration_seconds)
        self.end_seconds = seconds + duration_seconds
        return (shown, wanted) if wanted else None

    def finish(self) -> tuple[_Item, Showing] | None:
        """No more frames: the remaining instants get the last one, if it was on the screen in their span."""
        if not self._shown:
            return None
        item, seconds, end = self._shown
        wanted = self._showing(seconds, math.inf, [one for one in self._spans if end > one.kept.start])
        return (item, wanted) if wanted else None

    def _showing(self, since: float, until: float, admitted: Sequence[FrameSpan]) -> Showing | None:
        """The spans that need a frame shown from ``since`` on at an instant before ``until``; removes these instants
        from the queue.
        """
        due: dict[tuple[int, bool], int] = {}
        while self._queue and self._queue[-1][0] < until:
            _, index, glimpse = self._queue.pop()
            due[index, glimpse] = due.get((index, glimpse), 0) + 1
        showing = Showing(since)
        for (index, glimpse), instants in due.items():
            one = self._spans[index]
            if one in admitted and one.admit(since, glimpse=glimpse):
                (showing.glimpses if glimpse else showing.looks).append(one)
                showing.served.append((one, instants))
            else:
                one.served(instants)
        return showing if showing.served else None
