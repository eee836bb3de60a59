"""``merc-extract --dry-run``: what is done already, what would run, and what it would take. Nothing is written, torch is not imported."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from merc.corpora.stage import read_corpus, will_be_made
from merc.errors import BadTable
from merc.job import RunOptions
from merc.layout import Layout
from merc.records import manifest

if TYPE_CHECKING:
    from merc.commands.extract import Order

_Question = Callable[[], dict[str, Any]]

# What decoding takes, measured by benchmarks/stage_costs.py (2026-11-20, clips of 640x360 and 1.3 s; larger ones take more).
_DECODE_CPU_SECONDS = 0.224
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
        order: what is wanted.
        layout: where everything lies.
        run: how it would run.

    Raises:
        PipelineError: whatever the run itself would refuse before it begins: missing raw data, other settings, an unknown encoder.
    """
    from merc.extraction import stage as extraction
    from merc.media import stage as media
    from merc.shards import stage as shards
    from merc.trajectories import stage as trajectories

    if will_be_made(order.corpus, layout):
        yield f"{'corpus':<17} would be made by code in {layout.raw / layout.dataset} first; the rest can be told after that"
        return
    streams, encoders = order.streams, order.names
    table, _ = read_corpus(order.corpus, layout, run, modalities=tuple(encoders), splits=order.splits, limit=order.limit)
    hours = float(pc.sum(pc.subtract(table["end_seconds"], table["start_seconds"])).as_py()) / 3600
    yield f"{'corpus':<17} {table.num_rows} utterances in {len(manifest.dialogue_bounds(table))} dialogues, {hours:.1f} hours by their annotation"

    # Only what stands on finished work can be finished itself: after the first stage that would run, all that need it would.
    there = _same(layout.manifest, table)
    yield _line("manifest", there, {})
    told = f"{table.num_rows} utterances"
    decoded = there
    if streams:
        decoded, facts = _ask(there, partial(media.dry_run, order.media, layout, run, streams=streams))
        wanted = int(facts.get("utterances_to_decode", table.num_rows))
        cost = f"about {wanted * _DECODE_CPU_SECONDS / 60:.0f} CPU minutes and {wanted * _DECODE_BYTES / 1e6:.0f} MB, by what small clips took"
        yield _line("media", decoded, facts, f"{' and '.join(sorted(streams))} of {told}, {cost}")
    extracted = True
    for one in order.encoders:
        ready = there if one.modality == "text" else decoded
        done, facts = _ask(ready, partial(extraction.dry_run, one, order.extraction, layout, run))
        extracted = extracted and done
        yield _line(f"{one.modality}/{one.name}", done, facts, told)
    joined, facts = _ask(extracted, partial(shards.dry_run, order.shards, layout, run, encoders=encoders))
    yield _line("shards", joined, facts, told)
    done, _ = _ask(joined, partial(trajectories.dry_run, order.trajectories, layout, run))
    yield _line("trajectories", done, {}, told)


def _same(path: Path, table: pa.Table) -> bool:
    """Whether the manifest that is there is this one; one of an older schema is not."""
    try:
        return path.is_file() and manifest.read(path).equals(table)
    except BadTable:
        return False


def _ask(ready: bool, question: _Question) -> tuple[bool, dict[str, Any]]:
    """Whether a stage's work is done, and its own facts; a stage whose input is not there yet is not asked."""
    facts = question() if ready else {}
    return bool(facts.get("cached")), facts


def _line(stage: str, done: bool, facts: dict[str, Any], told: str = "") -> str:
    if done:
        return f"{stage:<17} is there"
    shown = [f"{_readable(key, facts[key])} {words}" for key, words in _SHOWN.items() if facts.get(key) is not None]
    return f"{stage:<17} would run: {', '.join([told, *shown] if told else shown) or 'takes seconds'}"


def _readable(key: str, value: Any) -> str:
    return f"{value / 1e6:.1f} MB" if key == "bytes" else f"{value:.0f}"
