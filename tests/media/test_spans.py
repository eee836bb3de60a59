import itertools
import math

import pytest

from merc.media.spans import Place, Span, sample, slice_centres, span


def test_a_span_without_borders_is_the_whole_file() -> None:
    assert span(None, None) == Span(0.0, math.inf)
    assert span(1.5, None).capped(60.0) == Span(1.5, 61.5)
    assert span(None, 2.0).capped(60.0) == Span(0.0, 2.0)


@pytest.mark.parametrize(
    ("start", "end"), [(2.0, 2.0), (2.0, 1.0), (-1.0, 1.0), (math.nan, 1.0), (0.0, math.nan), (math.inf, None)]
)
def test_a_span_that_holds_nothing_is_refused(start: float, end: float | None) -> None:
    with pytest.raises(ValueError, match="holds nothing"):
        span(start, end)


@pytest.mark.parametrize("rate_hz", [16_000, 22_050, 44_100, 48_000])
def test_spans_that_meet_share_no_sample_and_lose_none(rate_hz: int) -> None:
    borders = [0.0, 0.1, 0.30001, 1 / 3, 0.7, 2.123456]
    pieces = [range(sample(begin, rate_hz), sample(end, rate_hz)) for begin, end in itertools.pairwise(borders)]
    assert [index for piece in pieces for index in piece] == list(range(sample(borders[-1], rate_hz)))


def test_instants_are_the_centres_of_equal_slices() -> None:
    assert slice_centres(0.0, 4.0, 4) == [0.5, 1.5, 2.5, 3.5]
    assert slice_centres(2.0, 3.0, 1) == [2.5]


def test_every_instant_of_an_utterance_falls_into_exactly_one_of_its_spans() -> None:
    spans = [Span(0.162, 0.282), Span(1.1, 1.4), Span(0.3, 0.7)]
    offsets = [0.0, *itertools.accumulate(one.seconds for one in spans)]
    whole = offsets.pop()
    # Instants in the middle of slices, and all borders.
    instants = sorted([*slice_centres(0.0, whole, 41), *offsets])
    found = [Place(offset, whole).instants_in(one, instants) for offset, one in zip(offsets, spans, strict=True)]
    assert sum(map(len, found)) == len(instants)
    for one, of_span in zip(spans, found, strict=True):
        assert all(one.start <= seconds < one.end for seconds in of_span)
