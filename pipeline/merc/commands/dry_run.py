"""``merc-extract --dry-run``: what is done, what would run, and how long it would take. Nothing is written, no hub is
contacted, torch is not imported.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from merc.corpora.stage import read_corpus, will_be_made
from merc.errors import BadTable, ModelUnavailable
from merc.job import RunOptions
from merc.layout import Layout
from merc.records import manifest

if TYPE_CHECKING:
    from merc.commands.extract import Order
    from merc.encoders.engine.registry import ChosenEncoder
    from merc.extraction.config import Config as ExtractionConfig

_Question = Callable[[], dict[str, Any]]

# CPU seconds per second of media and per utterance, of which the larger sum counts
# (benchmarks/stage_costs_2026-11-20.md: clips of 640x360 and 1.3 s). With the choice active_speaker, from
# benchmarks/decode.py: clips of 1280x720 and 3.1 s, 1.4 faces in each frame. The time of encoders with a checkpoint
# depends on the model and the device: benchmarks/model_costs_2026-11-28.md.
_CPU_SECONDS = {
    "media": (0.171, 0.224),
    "active_speaker": (0.35, 0.45),
    "ngrams": (0.007, 0.009),
    "acoustic": (0.026, 0.034),
    "gradients": (0.005, 0.006),
}
_MEASURED_ON = "clips of 640x360 and 1.3 s, benchmarks/stage_costs_2026-11-20.md"
_DECODE_BYTES = 60_000
_SHOWN = {
    "utterances_to_decode": "utterances left",
    "utterances_to_do": "utterances left",
    "files": "files",
    "seconds": "seconds of media",
    "bytes": "before compression",
}


def describe(order: "Order", layout: Layout, run: RunOptions) -> Iterator[str]:
    """One line per stage.

    Args:
        order: the requested extraction. layout: paths of the dataset. run: how it would run.

    Raises:
        PipelineError: whatever the run itself would refuse before it starts: missing raw data, other settings, an
            unknown encoder.
    """
    from merc.media import stage as media
    from merc.shards import stage as shards
    from merc.trajectories import stage as trajectories

    if will_be_made(order.corpus, layout):
        yield (
            f"{'corpus':<17} would be generated in {layout.raw / layout.dataset} first; the rest is known after that"
        )
        return
    streams, encoders = order.streams, order.names
    table, _ = read_corpus(
        order.corpus, layout, run, modalities=tuple(encoders), splits=order.splits, limit=order.limit
    )
    hours = sum(manifest.annotated_seconds(table)) / 3600
    yield (
        f"{'corpus':<17} {table.num_rows} utterances in {len(manifest.dialogue_bounds(table))} dialogues, {hours:.1f}"
        " hours by their annotation"
    )

    # Only stages based on finished work can be finished: after the first stage that would run, all that depend on it
    # would.
    there = _same(layout.manifest, table)
    yield _line("manifest", there, {})
    told = f"{table.num_rows} utterances"
    costs = _Costs(table, order.media.max_clip_seconds, run.workers)
    decoded = there
    if streams:
        decoded, facts = _ask(there, partial(media.dry_run, order.media, layout, run, streams=streams))
        wanted = int(facts.get("utterances_to_decode", table.num_rows))
        judged = "active_speaker" if "visual" in streams and order.media.choice == "active_speaker" else "media"
        cost = "" if decoded else f"{costs.of('media', judged, wanted)} and {wanted * _DECODE_BYTES / 1e6:.0f} MB"
        yield _line("media", decoded, facts, f"{' and '.join(sorted(streams))} of {told}, {cost}")
    extracted = True
    for one in order.encoders:
        ready = there if one.modality == "text" else decoded
        name = f"{one.modality}/{one.name}"
        done, facts = _ask(ready, partial(_encoder_facts, one, order.extraction, layout, run))
        extracted = extracted and done
        cost = (
            ""
            if done
            else costs.of(
                name, one.kind.__module__.rpartition(".")[2], int(facts.get("utterances_to_do", table.num_rows))
            )
        )
        yield _line(name, done, facts, ", ".join(filter(None, (told, facts.get("fetch"), cost))))
    joined, facts = _ask(extracted, partial(shards.dry_run, order.shards, layout, run, encoders=encoders))
    yield _line("shards", joined, facts, told)
    done, _ = _ask(joined, partial(trajectories.dry_run, order.trajectories, layout, run))
    yield _line("trajectories", done, {}, told)
    yield from costs.lines()


class _Costs:
    """A rough estimate of the total time of the stages.

    Args:
        table: the manifest.
        max_clip_seconds: maximum decoded length of a clip.
        workers: processes that share the work.
    """

    def __init__(self, table: pa.Table, max_clip_seconds: float, workers: int) -> None:
        self._media_seconds = sum(min(seconds, max_clip_seconds) for seconds in manifest.annotated_seconds(table))
        self._utterances, self._workers = table.num_rows, workers
        self._seconds = 0.0
        self._unknown: list[str] = []

    def of(self, stage: str, kind: str, utterances: int) -> str:
        """Adds a stage; returns its own time as text, empty if unknown.

        Args:
            stage: name for messages.
            kind: ``media``, ``active_speaker`` for media with that choice, or the family of an encoder.
            utterances: number of remaining utterances.
        """
        if kind not in _CPU_SECONDS:
            self._unknown.append(stage)
            return ""
        per_second, per_utterance = _CPU_SECONDS[kind]
        share = utterances / self._utterances
        seconds = share * max(per_second * self._media_seconds, per_utterance * self._utterances) / self._workers
        self._seconds += seconds
        return f"about {_time(seconds)}"

    def lines(self) -> Iterator[str]:
        """The sum, if anything would run."""
        if self._seconds:
            yield (
                f"{'in all':<17} about {_time(self._seconds)} on {self._workers} processes, a rough estimate by"
                f" {_MEASURED_ON}"
            )
        if self._unknown:
            yield (
                f"{'and':<17} what {' and '.join(self._unknown)} takes, which depends on the device:"
                " benchmarks/model_costs_2026-11-28.md"
            )


def _time(seconds: float) -> str:
    """``a minute``, ``12 minutes``, ``3.4 hours``.

    >>> [_time(seconds) for seconds in (5, 720, 12_240)]
    ['a minute', '12 minutes', '3.4 hours']
    """
    if seconds < 90:
        return "a minute"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _encoder_facts(one: "ChosenEncoder", config: "ExtractionConfig", layout: Layout, run: RunOptions) -> dict[str, Any]:
    """The extraction's own forecast, without contacting a hub: a missing model would be fetched, unless that is
    forbidden.
    """
    from merc.extraction import stage as extraction

    try:
        return extraction.dry_run(one, config, layout, replace(run, offline=True))
    except ModelUnavailable:
        if run.offline:
            raise
        return {"cached": False, "fetch": "its model is not on this machine and would be downloaded first"}


def _same(path: Path, table: pa.Table) -> bool:
    """Whether the existing manifest is this one; one with an older schema is not."""
    try:
        return path.is_file() and manifest.read(path).equals(table)
    except BadTable:
        return False


def _ask(ready: bool, question: _Question) -> tuple[bool, dict[str, Any]]:
    """Whether a stage's work is done, and its own facts; a stage without its input is not queried."""
    facts = question() if ready else {}
    return bool(facts.get("cached")), facts


def _line(stage: str, done: bool, facts: dict[str, Any], told: str = "") -> str:
    if done:
        return f"{stage:<17} is there"
    shown = [f"{_readable(key, facts[key])} {words}" for key, words in _SHOWN.items() if facts.get(key) is not None]
    return f"{stage:<17} would run: {', '.join([told, *shown] if told else shown) or 'takes seconds'}"


def _readable(key: str, value: Any) -> str:
    return f"{value / 1e6:.1f} MB" if key == "bytes" else f"{value:.0f}"
