"""``merc-extract --dry-run``: what is done already, what would run, and what it would take. Nothing is written, torch is not imported."""

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow.compute as pc

from pipeline.corpora import manifest
from pipeline.corpora.stage import read_corpus, will_be_made
from pipeline.layout import Layout
from pipeline.params import Params
from pipeline.parts import RunOptions


def describe(
    params: Params,
    layout: Layout,
    run: RunOptions,
    encoders: dict[str, str],
    streams: frozenset[str],
    splits: tuple[str, ...],
    limit: int | None,
) -> Iterator[str]:
    """One line per stage.

    Args:
        params, layout, run: as for the stages.
        encoders: modality → encoder.
        streams: what has to be decoded.
        splits, limit: which dialogues.

    Raises:
        PipelineError: whatever the run itself would refuse before it begins: missing raw data, other settings, an unknown encoder.
    """
    from pipeline.extraction import stage as extraction
    from pipeline.media import stage as media
    from pipeline.shards import stage as shards
    from pipeline.trajectories import stage as trajectories

    if will_be_made(params, layout):
        yield f"corpus        would be made by code in {layout.raw / layout.dataset} first; what follows is known after that"
        return
    table, _ = read_corpus(params, layout, run, modalities=tuple(encoders), splits=splits, limit=limit)
    seconds = float(pc.sum(pc.subtract(table["end_seconds"], table["start_seconds"])).as_py())
    yield f"corpus        {table.num_rows} utterances in {len(manifest.dialogue_bounds(table))} dialogues, {seconds / 3600:.1f} hours by their annotation"
    # Only what stands on finished work can be finished itself: from the first stage that would run on, all the others would.
    going = not layout.manifest.is_file() or not manifest.read(layout.manifest).equals(table)
    yield f"manifest      {'would be written' if going else 'is there'}: {layout.manifest}"

    def line(name: str, what: str, plan: Callable[[], dict[str, Any]], *, always: bool) -> str:
        facts = {} if always else plan()
        if facts.get("cached"):
            return f"{name:<13} is there"
        return f"{name:<13} would run: {what}" + "".join(
            f", {key.replace('_', ' ')} {_readable(key, value)}" for key, value in facts.items() if key != "cached" and value is not None
        )

    if streams:
        text = line(
            "media", f"{' and '.join(sorted(streams))} of {table.num_rows} utterances", lambda: media.plan(params, layout, run, streams=streams), always=going
        )
        yield text
    decoded = not streams or not (going or "would run" in text)
    done = True
    for modality, encoder in encoders.items():
        always = going if modality == "text" else going or not decoded
        text = line(
            f"{modality}/{encoder}",
            f"{table.num_rows} utterances",
            lambda m=modality, e=encoder: extraction.plan(params, layout, run, modality=m, encoder=e),
            always=always,
        )
        done = done and "would run" not in text
        yield text
    text = line("shards", f"{table.num_rows} utterances", lambda: shards.plan(params, layout, run, encoders=encoders), always=not done)
    yield text
    yield line("trajectories", "neighbours of the train dialogues", lambda: trajectories.plan(params, layout, run), always="would run" in text)


def _readable(key: str, value: Any) -> str:
    if key == "bytes":
        return f"{value / 1e6:.1f} MB"
    return f"{value:.0f}" if isinstance(value, float) else str(value)
