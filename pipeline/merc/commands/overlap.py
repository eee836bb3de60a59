"""Decodes and encodes at the same time: finished parts are encoded while the rest is being decoded.

    thread        decode 0 │ decode 1 │ decode 2 │ decode 3 │ …             worker processes do the work
    main thread   text 0   │ audio 0  │ faces 0  │ audio 1  │ faces 1  │ …  encoders with a model share their device

Media parts go to the disk, marked as done, and an encoder takes them from there: so the faster side waits for the
other, and no more memory is used than one after the other, except for the models, which are all loaded. The bytes are
the same, and so is the state from which a killed run resumes.

Encoders without a model would compete with the decoder for cores, and are left for later; so is everything on a CPU
whose cores are all in use.
"""

import os
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Self

from merc.compute import device
from merc.encoders.engine.registry import ChosenEncoder
from merc.extraction import stage as extraction
from merc.extraction.config import Config
from merc.extraction.inputs import MediaSource, MediaToCome
from merc.extraction.runner import EncoderFacts
from merc.interrupts import stoppable
from merc.job import RunOptions
from merc.layout import Layout
from merc.media import stage as media
from merc.media.config import Config as MediaConfig
from merc.media.parts import Decoding
from merc.records import features as feature_tables

# A decoder that is asked to stop does so at its next clip; a hanging one is abandoned, and ends with this process.
_FAREWELL_SECONDS = 5.0


def decode_and_extract(
    media_config: MediaConfig,
    chosen: Sequence[ChosenEncoder],
    config: Config,
    layout: Layout,
    run: RunOptions,
    *,
    streams: frozenset[str],
) -> tuple[ChosenEncoder, ...]:
    """Decodes audio and faces as :func:`merc.media.stage.decode` does, and meanwhile encodes as
    :func:`merc.extraction.stage.extract` does.

    Args:
        media_config: settings of the media.
        chosen: encoders with their settings.
        config: settings of the extraction.
        layout: paths of the dataset.
        run: how to run.
        streams: ``audio``, ``visual`` or both.

    Returns:
        The encoders whose features are finished; the others must be extracted now that there are media.

    Raises:
        PipelineError: as either of the two. Finished parts are kept.
    """
    if not _room(chosen, run):
        media.decode(media_config, layout, run, streams=streams)
        return ()
    decoding = media.prepare(media_config, layout, run, streams)
    if decoding.job.done_before():
        return ()
    decoding = media.with_networks(decoding, run)
    with_model = [one for one in chosen if one.kind.ACCELERATED]
    to_make = [
        one
        for one in (extraction.prepare(one, config, layout, run, to_come(decoding)) for one in with_model)
        if not one.job.done_before()
    ]
    with stoppable(), _Decoder(decoding, run) as decoder, ExitStack() as ends:
        turns = [_Turns(one, run, decoder) for one in to_make]
        for one in turns:
            ends.enter_context(closing(one.steps))
        _take_turns(turns, decoder)
        decoder.wait_for_the_end()
        media.finish(decoding, run)
        for one in turns:
            extraction.finish(one.prepared, one.facts, run.max_failed)
    return tuple(with_model)


def to_come(decoding: Decoding) -> MediaToCome:
    """The media that a run makes."""
    return MediaToCome(
        tuple((decoding.job.part(index), decoding.utterances([index])) for index in range(len(decoding.bounds))),
        decoding.job.fingerprint,
    )


def _room(chosen: Sequence[ChosenEncoder], run: RunOptions) -> bool:
    """Whether decoding leaves encoders with a model something to compute on: a GPU, or cores. On a cluster, either
    stage keeps all nodes busy.
    """
    if run.executor != "local" or not any(one.kind.ACCELERATED for one in chosen):
        return False
    import torch

    return device.resolve(run.device) != "cpu" or run.workers + torch.get_num_threads() <= (os.cpu_count() or 1)


class _Stopped(Exception):
    """The decoder was told to stop."""


class _Decoder:
    """A thread that decodes. A context manager: at its end the thread is finished.

    Args:
        decoding: what to decode. run: how to run.
    """

    def __init__(self, decoding: Decoding, run: RunOptions) -> None:
        self._decoding, self._run = decoding, run
        self._changed = threading.Condition()
        self._there = {decoding.job.part(index) for index in range(len(decoding.bounds)) if decoding.job.is_done(index)}
        self._ended = self._stopped = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._decode, name="decode", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = True
        self._thread.join(None if kind is None else _FAREWELL_SECONDS)

    def _decode(self) -> None:
        try:
            with closing(media.make(self._decoding, self._run, self._go_on)) as made:
                for index in made:
                    with self._changed:
                        self._there.add(self._decoding.job.part(index))
                        self._changed.notify_all()
            # Too many failures end the run at once, not only after the encoding.
            feature_tables.write_failures(
                self._decoding.job, len(self._decoding.bounds), self._decoding.table.num_rows, self._run.max_failed
            )
        except BaseException as error:  # raised again in the main thread
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _go_on(self, _utterances: int) -> None:
        if self._stopped:
            raise _Stopped

    def has(self, parts: Sequence[Path]) -> bool:
        """Whether media parts are decoded."""
        return self._there.issuperset(parts)

    def wait(self, enough: Callable[[], bool]) -> None:
        """Waits for a condition that further parts may make true. Raises what the decoding raised."""
        with self._changed:
            while not (enough() or self._ended):
                self._changed.wait(1.0)  # so that Ctrl-C is noticed
        self.check()

    def wait_for_the_end(self) -> None:
        """Raises what the decoding raised."""
        self.wait(lambda: False)

    def check(self) -> None:
        """Raises what the decoding raised."""
        if self._error is not None:
            raise self._error


class _Turns:
    """An encoder that makes one part of its features on each turn.

    Attributes:
        prepared: what it has to do.
        steps: yields the number of each finished part; it never waits for media if it is advanced only if
            :attr:`can_go_on`.
        facts: facts about the encoder at the end.
    """

    facts: EncoderFacts

    def __init__(self, prepared: extraction.Prepared, run: RunOptions, decoder: _Decoder) -> None:
        self.prepared = prepared
        self.steps: Generator[int, None, EncoderFacts] = extraction.make(prepared, run, self)
        self._decoder = decoder
        self._left = prepared.left()
        self._under_way = 0

    def _next_ready(self) -> int | None:
        source = self.prepared.source
        return next(
            (
                index
                for index in self._left
                if not isinstance(source, MediaSource) or self._decoder.has(source.groups[index])
            ),
            None,
        )

    def take(self, *, wait: bool) -> int | None:
        """See :meth:`merc.compute.executors.base.Parts.take`."""
        if wait and self._left:
            self._decoder.wait(lambda: self._next_ready() is not None)
        index = self._next_ready()
        if index is not None:
            self._left.remove(index)
            self._under_way += 1
        return index

    @property
    def can_go_on(self) -> bool:
        """Whether it can do something now; finishing counts, too."""
        return self._under_way > 0 or not self._left or self._next_ready() is not None

    def go_on(self) -> bool:
        """Makes a part; False if it was the last one."""
        try:
            next(self.steps)
        except StopIteration as ended:
            self.facts = ended.value
            return False
        self._under_way -= 1
        return True


def _take_turns(turns: Sequence[_Turns], decoder: _Decoder) -> None:
    left = list(turns)
    while left:
        decoder.wait(lambda: any(one.can_go_on for one in left))
        for one in [one for one in left if one.can_go_on]:
            decoder.check()
            if not one.go_on():
                left.remove(one)
