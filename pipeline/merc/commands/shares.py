"""``merc-extract --part K/N`` and ``--finish``: many machines without an engine, such as an array of batch jobs on a
shared file system.

    --part 1/3   decodes and encodes parts 0, 1, 2   ┐
    --part 2/3   decodes and encodes parts 3, 4      ├──► --finish: moves all into place, builds shards and trajectories
    --part 3/3   decodes and encodes parts 5, 6, 7   ┘

A share is a contiguous part of the manifest, and independent of the others: it is cut where a part of every encoder
starts. A killed process can be restarted, and resumes.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from merc import lock
from merc.commands.overlap import to_come
from merc.compute.executors.base import Listed
from merc.errors import PipelineError
from merc.extraction import stage as extraction
from merc.extraction.inputs import MediaSource
from merc.job import RunOptions
from merc.layout import Layout
from merc.log import logger
from merc.media import stage as media

if TYPE_CHECKING:
    from merc.commands.extract import Order
    from merc.media.parts import Decoding


@dataclass(frozen=True)
class Share:
    """One of several shares.

    Attributes:
        number: its number, from 1. of: number of shares.
    """

    number: int
    of: int

    def among(self, sizes: Sequence[int]) -> set[int]:
        """The items, given their sizes, that belong to this share: a contiguous range; together, the shares cover every
        item once.

        >>> [sorted(Share(number, 3).among([4, 1, 1, 1, 1])) for number in (1, 2, 3)]
        [[0], [1], [2, 3, 4]]
        """
        total = sum(sizes)
        middles = [end - size / 2 for end, size in zip(accumulate(sizes), sizes, strict=True)]
        return {index for index, middle in enumerate(middles) if int(middle / total * self.of) == self.number - 1}


def make(order: "Order", layout: Layout, run: RunOptions, share: Share) -> None:
    """Decodes and encodes one of several shares.

    Args:
        order: the requested extraction, the same for all shares. layout: paths of the dataset. run: how to run. share:
            the share.

    Raises:
        OutputInUse: if another process is making this share.
        PipelineError: as the stages, except for too many failures, which ``--finish`` counts.
    """
    from merc.commands.extract import begin

    with ExitStack() as kept:
        with lock.held(layout.folder, wait=True, beside_shares=True):  # other shares hold it while they start
            begin(order, layout, run)
            kept.enter_context(lock.held(lock.of_share(layout.folder, share.number, share.of), wait=run.wait))
        decoding, encodings = _prepared(order, layout, run)
        of_media = set() if decoding is None else _media_parts(share, decoding, encodings)
        made = len(of_media)
        if decoding is not None and of_media:
            _run_out(media.make(media.with_networks(decoding, run), run, share=of_media))
        there = set() if decoding is None else {decoding.job.part(index) for index in of_media}
        for one in encodings:
            parts = _parts(share, one, there if decoding is not None else None)
            made += len(parts)
            if left := [index for index in one.left() if index in parts]:
                _run_out(extraction.make(one, run, Listed(left), parts))
        logger.info(
            "part %d/%d: done%s",
            share.number,
            share.of,
            "" if made else "; there are fewer parts than shares, and this share has none",
        )


def _run_out(steps: Iterator[int]) -> None:
    for _ in steps:
        pass


def _parts(share: Share, encoding: extraction.Prepared, there: set[Path] | None) -> set[int]:
    """Its parts of an encoder: for media that are being made, those whose media parts are ``there``, else a range."""
    source = encoding.source
    if there is None or not isinstance(source, MediaSource):
        return share.among(source.sizes)
    return {index for index, group in enumerate(source.groups) if there.issuperset(group)}


def _prepared(order: "Order", layout: Layout, run: RunOptions) -> tuple["Decoding | None", list[extraction.Prepared]]:
    """The decoding, if there is anything to decode, and what is to be encoded."""
    decoding = media.prepare(order.media, layout, run, order.streams) if order.streams else None
    if decoding is not None and decoding.job.done_before():
        decoding = None
    coming = None if decoding is None else to_come(decoding)
    encodings = [extraction.prepare(one, order.extraction, layout, run, coming) for one in order.encoders]
    return decoding, [one for one in encodings if not one.job.done_before()]


def _media_parts(share: Share, decoding: "Decoding", encodings: Sequence[extraction.Prepared]) -> set[int]:
    """Its media parts; no part of an encoder needs media parts of two shares."""
    cuts = set(range(len(decoding.bounds) + 1))
    for one in encodings:
        if isinstance(one.source, MediaSource):
            cuts &= {0, *accumulate(len(group) for group in one.source.groups)}
    stretches = [range(*pair) for pair in pairwise(sorted(cuts))]
    return {
        part
        for index in share.among([decoding.utterances(stretch) for stretch in stretches])
        for part in stretches[index]
    }


def require_all(order: "Order", layout: Layout, run: RunOptions) -> None:
    """Raises ``PipelineError`` with what is missing if a share has not been made."""
    from merc.commands.extract import begin

    begin(order, layout, run)
    decoding, encodings = _prepared(order, layout, run)
    left = {} if decoding is None else {decoding.name: (decoding.left(), len(decoding.bounds))}
    left |= {one.job.name: (one.left(), len(one.source.sizes)) for one in encodings}
    missing = [
        f"{name}: {len(parts)} of {count} parts, the first is part {parts[0]}"
        for name, (parts, count) in left.items()
        if parts
    ]
    if missing:
        raise PipelineError(
            "--finish: some shares have not been made yet:\n  "
            + "\n  ".join(missing)
            + "\nGive their --part K/N again, or leave out --finish to make the rest here."
        )
