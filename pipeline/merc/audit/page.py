"""The page of an audit: the number of utterances per doubt, then the most doubtful ones. All text is escaped, since it
comes from corpora.
"""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jinja2 import Environment, PackageLoader, StrictUndefined

from merc import files, parquet
from merc.audit.config import Config
from merc.audit.doubts import Check, checks, most_doubtful
from merc.layout import Layout
from merc.records.failures import REASONS
from merc.shown import visible

_TEMPLATE = "page.html.j2"
_MOST_CHARACTERS = 2000


def write_page(
    path: Path, layout: Layout, config: Config, table: pa.Table, found: pa.Table, notes: Sequence[str]
) -> None:
    """Writes the page.

    Args:
        path: path of the HTML file. layout: layout of the dataset. config: thresholds, and the number of utterances.
        table: the manifest.
        found: the audit's table.
        notes: remarks on the whole corpus.
    """
    environment = Environment(
        loader=PackageLoader("merc.audit", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    every = checks(config)
    order = most_doubtful(found)
    doubtful = int(pc.sum(pc.greater(pc.list_value_length(found["doubts"]), 0)).as_py())
    shown = order[: min(config.page_utterances, doubtful)]
    utterances, rows = (one.take(pa.array(shown)).to_pylist() for one in (table, found))
    crops = _crops(layout, [row["utterance_id"] for row in rows])
    text = environment.get_template(_TEMPLATE).render(
        title=layout.dataset,
        utterances=table.num_rows,
        doubtful=doubtful,
        shown=len(shown),
        notes=notes,
        summary=[_line(check, found) for check in every],
        cards=[
            _card(every, utterance, row, crops.get(row["utterance_id"], b""))
            for utterance, row in zip(utterances, rows, strict=True)
        ],
    )
    files.write_text(path, visible(text))


def _line(check: Check, found: pa.Table) -> dict[str, str]:
    """One column of the table at the top."""
    values_N = check.values(found)
    known_N = values_N[np.isfinite(values_N)]
    doubtful = int(check.doubtful(found).sum())
    return {
        "column": check.column,
        "label": check.label,
        "threshold": check.threshold,
        "known": str(len(known_N)),
        "median": f"{np.median(known_N):.2f}" if len(known_N) and not check.flag else "–",
        "doubtful": f"{doubtful} ({100 * doubtful / len(known_N):.1f} %)" if len(known_N) else "–",
    }


def _card(every: Sequence[Check], utterance: Mapping[str, Any], row: Mapping[str, Any], crop: bytes) -> dict[str, Any]:
    return {
        "id": row["utterance_id"],
        "heading": _on_one_line(f"{utterance['speaker']} · {utterance['emotion'] or 'no label'}"),
        "split": utterance["split"],
        "text": _on_one_line(utterance["text"]),
        "heard": None if row["asr_text"] is None else _on_one_line(row["asr_text"]),
        "note": row["asr_note"] or "",
        "doubts": [tag for check in every if check.column in row["doubts"] for tag in _tags(check, row)],
        "numbers": [
            f"{check.column} {row[check.column]:.2f}" for check in every if isinstance(row[check.column], float)
        ],
        "crop": f"data:image/jpeg;base64,{base64.b64encode(crop).decode('ascii')}" if crop else "",
        "origin": _on_one_line(utterance["video_path"] or utterance["audio_path"] or "no file"),
    }


def _tags(check: Check, row: Mapping[str, Any]) -> list[str]:
    if check.column == "same_sound_as":
        return [f"same audio as {row['same_sound_as']}"]
    if check.column == "cut_or_short":
        return [REASONS[reason][1].partition(";")[0] for reason in row["cut_reasons"].split(",") if reason in REASONS]
    return [check.label if check.flag else f"{check.column} {row[check.column]:.2f}"]


def _crops(layout: Layout, utterance_ids: Sequence[str]) -> dict[str, bytes]:
    """The middle one of each utterance's stored faces."""
    wanted = pc.is_in(pc.field("utterance_id"), pa.array(list(utterance_ids), pa.string()))
    paths = sorted(layout.media.glob("part-*.parquet")) if utterance_ids else []
    rows = [row for path in paths for row in parquet.read(path, ["utterance_id", "faces"], filters=wanted).to_pylist()]
    return {row["utterance_id"]: row["faces"][len(row["faces"]) // 2] for row in rows if row["faces"]}


def _on_one_line(text: str) -> str:
    line = " ".join(text[:_MOST_CHARACTERS].split())
    return line if len(text) <= _MOST_CHARACTERS else f"{line} …"
