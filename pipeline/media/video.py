"""Pictures: of a stream that is decoded once, in order, the few frames that the utterances want.

An utterance wants the frames that are on the screen at given instants. A frame is on the screen from its own time stamp to
that of the next one, so variable frame rates need no special care; nothing is computed from a nominal rate.

    instants         |       |       |       |
    frames     [a      )[b )[c             )[d     )      → a, b (on the screen at the 2nd), c, d
"""

from collections.abc import Callable, Sequence

import av
import numpy as np
from numpy.typing import NDArray

from pipeline.media.spans import Span, slice_centres


class FrameSpan:
    """What one utterance wants of a video.

    Args:
        wanted: the span inside the file; finite.
        begin: where the utterance begins; its own seconds count from there, also where the pictures start later.
        max_seconds: how much of it is kept.
        frames: how many instants.
        region: ``full``, ``left`` or ``right`` half of the picture.

    Attributes:
        kept: the span, cut at the cap.
        instants: the middles of equal slices of it.
        waiting: instants that have no frame yet.
        seen_seconds: times of the frames that were shown, different ones, in order.
    """

    def __init__(self, wanted: Span, begin: float, max_seconds: float, frames: int, region: str) -> None:
        self.wanted = wanted
        self.begin = begin
        self.kept = wanted.capped(max_seconds)
        self.region = region
        self.instants = slice_centres(self.kept.start, self.kept.end, frames)
        self.waiting = frames
        self.seen_seconds: list[float] = []

    @property
    def cut(self) -> bool:
        """The span is longer than the cap."""
        return self.kept.end < self.wanted.end


Look = Callable[[NDArray[np.uint8], float, Sequence[FrameSpan]], None]


class FrameStream:
    """Hands the frames of one stream to the utterances whose instants they cover. Spans may overlap.

    Args:
        spans: of all utterances in this file.
        look: called with an (height, width, 3) uint8 RGB picture, its seconds from the file's beginning, and the spans that
            want it; each picture at most once, in time order.
    """

    def __init__(self, spans: Sequence[FrameSpan], look: Look) -> None:
        self._queue = sorted(((instant, index) for index, one in enumerate(spans) for instant in one.instants), reverse=True)
        self._spans = spans
        self._look = look
        self._shown: tuple[av.VideoFrame, float, float] | None = None  # frame, its time, its end where no other follows
        self.frames = 0

    @property
    def done(self) -> bool:
        """Every instant has its frame."""
        return not self._queue

    @property
    def end_seconds(self) -> float:
        """Where the last frame so far ends."""
        return self._shown[2] if self._shown else 0.0

    def feed(self, frame: av.VideoFrame, seconds: float | None, duration_seconds: float) -> None:
        """Takes one decoded frame.

        Args:
            frame: in any pixel format.
            seconds: its time stamp from the file's beginning; None: it follows the frame before.
            duration_seconds: how long it is shown if no other follows.
        """
        seconds = self.end_seconds if seconds is None else max(seconds, self._shown[1] if self._shown else 0.0)
        self.frames += 1
        due = self._due(seconds)
        if due:
            # Instants before the very first frame get that frame, if it lies in their span.
            shown, since, _ = self._shown or (frame, seconds, 0.0)
            self._show(shown, since, due)
        self._shown = (frame, seconds, seconds + duration_seconds)

    def finish(self) -> None:
        """No more frames: instants that are left get the last one, if it was on the screen in their span."""
        due = self._due(float("inf"))
        if due and self._shown:
            frame, seconds, end = self._shown
            self._show(frame, seconds, [one for one in due if end > one.kept.start])

    def _due(self, seconds: float) -> list[FrameSpan]:
        """The spans with instants before ``seconds``; takes these from the queue."""
        found: dict[int, None] = {}
        while self._queue and self._queue[-1][0] < seconds:
            index = self._queue.pop()[1]
            self._spans[index].waiting -= 1
            found[index] = None
        return [self._spans[index] for index in found]

    def _show(self, frame: av.VideoFrame, seconds: float, spans: Sequence[FrameSpan]) -> None:
        wanting = [one for one in spans if seconds < one.kept.end and seconds not in one.seen_seconds]
        if not wanting:
            return
        picture = np.asarray(frame.reformat(format="rgb24", threads=1).to_ndarray(), dtype=np.uint8)
        for one in wanting:
            one.seen_seconds.append(seconds)
        self._look(picture, seconds, wanting)


def region_of(picture_HWC: NDArray[np.uint8], region: str) -> NDArray[np.uint8]:
    """The picture, or its ``left`` or ``right`` half (a view)."""
    middle = picture_HWC.shape[1] // 2
    return {"full": picture_HWC, "left": picture_HWC[:, :middle], "right": picture_HWC[:, middle:]}[region]
