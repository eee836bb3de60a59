"""Half-open spans of seconds, and the samples and instants in them. The only place that rounds.

    seconds   start              end
                |------ span ------|
    samples  . . x x x x x x x x x . .      first = round(start · rate), stop = round(end · rate)

Two spans that meet share no sample and lose none, because both round the same border in the same way.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """Half-open span of seconds inside a file, counted from the start of the file.

    Attributes:
        start: where it starts.
        end: where it ends; infinite if it extends to the end of the file.
    """

    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start

    def capped(self, max_seconds: float) -> "Span":
        """The span, or its first ``max_seconds``."""
        return Span(self.start, min(self.end, self.start + max_seconds))


@dataclass(frozen=True)
class Place:
    """Position of a span in its utterance, which may consist of several.

        file      ....|--- span ---|........
        utterance |......|--- span ---|...|      offset_seconds before it, whole_seconds in all

    Attributes:
        offset_seconds: how much of the utterance comes before.
        whole_seconds: length of the utterance; None if the span is the whole utterance.
    """

    offset_seconds: float = 0.0
    whole_seconds: float | None = None

    def instants_in(self, kept: Span, instants: Sequence[float]) -> list[float]:
        """The instants of an utterance that lie in a span of it, as seconds of the file.

        >>> Place(2.0, 5.0).instants_in(Span(10.0, 11.0), [0.5, 1.5, 2.5, 3.5])
        [10.5]
        """
        return [
            kept.start + (one - self.offset_seconds)
            for one in instants
            if self.offset_seconds <= one < self.offset_seconds + kept.seconds
        ]


def span(start_seconds: float | None, end_seconds: float | None) -> Span:
    """The span of a manifest row, where None stands for the start or end of the file.

    Raises:
        ValueError: if it is not a number, starts before the file, or does not end after its start.
    """
    start = 0.0 if start_seconds is None else start_seconds
    end = math.inf if end_seconds is None else end_seconds
    if not (math.isfinite(start) and 0 <= start < end):
        raise ValueError(f"the span from {start_seconds} to {end_seconds} s holds nothing")
    return Span(start, end)


def sample(seconds: float, rate_hz: int) -> int:
    """Index of the sample at (nearest to) an instant; as the end of a half-open span, the first sample outside.

    >>> sample(0.25, 16_000), sample(0.1, 22_050)
    (4000, 2205)
    """
    return math.floor(seconds * rate_hz + 0.5)


def slice_centres(start: float, end: float, count: int) -> list[float]:
    """Instants in the middle of ``count`` equal slices of a span, in order; none if ``count`` is 0.

    >>> slice_centres(1.0, 3.0, 4)
    [1.25, 1.75, 2.25, 2.75]
    """
    width = (end - start) / max(1, count)
    return [start + (index + 0.5) * width for index in range(count)]
