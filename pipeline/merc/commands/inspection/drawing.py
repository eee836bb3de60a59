"""Decodes utterances again, with the media stage's own code and settings, and draws them: one image each, or a page of
a sample; also reports differences from finished media.
"""

import difflib
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from merc import files, parquet
from merc.commands.inspection import picture, sheet, words
from merc.commands.inspection.seen import Seen, doubt_of, observe
from merc.compute import pool
from merc.errors import BadSettings
from merc.interrupts import stoppable
from merc.job import RECORD, RunOptions, differing_settings
from merc.layout import Layout
from merc.log import logger, progress
from merc.media import networks, parts
from merc.media.config import Config as MediaConfig
from merc.media.tables import SCHEMA
from merc.media.tasks import NOT_DECODED, STREAMS
from merc.records import manifest
from merc.records.dialogue import SPLITS

PAGE = "index.html"
_NEAREST_IDS = 3
# A file's name may have 255 bytes.
_MOST_NAME_CHARACTERS = 100
_OF_TOTALS = [
    "utterance_id",
    "audio_status",
    "visual_status",
    "face_coverage",
    "face_tracks",
    "face_choice_margin",
    "speaking_logit",
    "off_screen",
]


def draw(config: MediaConfig, layout: Layout, run: RunOptions, utterance_ids: Sequence[str], out: Path) -> list[Path]:
    """Draws one image per utterance.

    Args:
        config: settings of the decoding.
        layout: layout of the dataset.
        run: workers, ``clip_timeout_seconds``.
        utterance_ids: distinct ids.
        out: a ``.png`` file for a single one, else a folder.

    Returns:
        The files, in the order of the manifest.

    Raises:
        RawDataMissing: if there is no manifest.
        BadSettings: for an unknown id (the message gives the nearest ones); for several images in one file; for invalid
            settings.
    """
    table = manifest.read(layout.manifest)
    wanted = list(dict.fromkeys(utterance_ids))
    _check_known(wanted, table["utterance_id"].to_pylist(), layout)
    in_one_file = out.suffix.lower() == ".png"
    if in_one_file and len(wanted) > 1:
        raise BadSettings(f"--out {out}: one file cannot hold {len(wanted)} images; name a folder")
    table = table.filter(pc.is_in(table["utterance_id"], pa.array(wanted)))
    seen = decode_anew(config, layout, run, table)
    general, of_each = compare(layout, config, seen)
    for note in general:
        logger.warning("%s", note)
    written = []
    for utterance in table.to_pylist():
        one = seen[utterance["utterance_id"]]
        path = out if in_one_file else out / f"{file_name(one.utterance_id)}.png"
        picture.write_picture(path, one, utterance, config.choice, [*of_each.get(one.utterance_id, []), *general])
        written.append(path)
    return written


def make_page(
    config: MediaConfig,
    layout: Layout,
    run: RunOptions,
    count: int,
    out: Path,
    *,
    seed: int = 0,
    splits: Sequence[str] = SPLITS,
    doubtful: bool = False,
) -> Path:
    """Makes the contact sheet of a sample.

    Args:
        config: settings of the decoding.
        layout: layout of the dataset.
        run: workers, ``clip_timeout_seconds``.
        count: number of utterances; all if there are not more.
        out: folder for ``index.html``, or a ``.html`` file.
        seed: determines the sample. splits: splits to sample from.
        doubtful: instead, take those with the most doubtful faces in the finished media; those without a face are left
            out.

    Returns:
        The HTML file.

    Raises:
        RawDataMissing: if there is no manifest.
        BadSettings: if there is nothing to sample from, or ``doubtful`` is set and there are no media.
    """
    table = manifest.read(layout.manifest)
    table = table.filter(pc.is_in(table["split"], pa.array(list(splits))))
    media = _media_rows(layout, _OF_TOTALS, table["utterance_id"].to_pylist())
    wanted = (
        _most_doubtful(media, count, layout) if doubtful else _drawn(table["utterance_id"].to_pylist(), count, seed)
    )
    of = "" if set(splits) == set(SPLITS) else f" of {', '.join(splits)}"
    if not wanted:
        raise BadSettings(f"{layout.dataset}: no utterance{of} to show{' has a face' if doubtful else ''}")
    whole = table.num_rows
    table = table.filter(pc.is_in(table["utterance_id"], pa.array(wanted)))
    seen = decode_anew(config, layout, run, table)
    general, of_each = compare(layout, config, seen)
    entries = [
        sheet.Entry(seen[row["utterance_id"]], row, of_each.get(row["utterance_id"], [])) for row in table.to_pylist()
    ]
    columns = {"on this page": words.totals([entry.seen.columns for entry in entries])}
    if media:
        columns[f"finished media{of}"] = words.totals(media)
    heading, drawn = (
        _doubtful_words(layout.dataset, len(wanted)) if doubtful else _drawn_words(layout.dataset, len(wanted), seed)
    )
    path = out if out.suffix.lower() in (".html", ".htm") else out / PAGE
    sheet.write_sheet(path, heading, entries, config.choice, drawn.format(f"out of {whole}{of}"), columns, general)
    return path


def _drawn_words(dataset: str, count: int, seed: int) -> tuple[str, str]:
    """The heading of a sheet, and how it was made, with a placeholder for the total number."""
    order = (
        "Doubtful utterances come first: those without a face, then those whose speaker is off screen, then the others"
    )
    return f"{dataset}: faces as decoded", f"{count} utterances drawn with seed {seed} {{}}. {order}"


def _doubtful_words(dataset: str, count: int) -> tuple[str, str]:
    """The same for the most doubtful ones."""
    several = f"{count} most doubtful faces" if count > 1 else "most doubtful face"
    order = "Utterances without a face are left out. Those whose speaker is off screen come first, then the others"
    return f"{dataset}: the {several}", f"The {several} {{}}, by the finished media. {order}"


def decode_anew(config: MediaConfig, layout: Layout, run: RunOptions, table: pa.Table) -> dict[str, Seen]:
    """Decodes rows of the manifest as the media stage does, in processes that a broken file may crash.

    Args:
        config: settings of the decoding.
        layout: paths of the dataset.
        run: maximum number of processes, ``clip_timeout_seconds``.
        table: the rows.

    Returns:
        Utterance id → result of decoding.
    """
    there = networks.found(config, offline=False)
    networks.check(config, there, "cpu")
    tasks = [task for _, task in parts.tasks_of(table, layout, frozenset(STREAMS), config, there)]
    found: dict[str, Seen] = {}
    with (
        stoppable(),
        pool.Crew(observe, min(run.workers, len(tasks))) as crew,
        progress(table.num_rows, "decode", "utterance") as bar,
    ):
        for key, task in enumerate(tasks):
            crew.submit(
                key, task, weight=task.seconds, limit_seconds=parts.time_limit_seconds(task, run.clip_timeout_seconds)
            )
        for _ in tasks:
            key, outcome = crew.next_outcome()
            of_task = (
                [Seen(*one) for one in parts.given_up(tasks[key], outcome)]
                if isinstance(outcome, pool.Lost)
                else outcome
            )
            found |= {one.utterance_id: one for one in of_task}
            bar.update(len(of_task))
    return found


def compare(layout: Layout, config: MediaConfig, seen: Mapping[str, Seen]) -> tuple[list[str], dict[str, list[str]]]:
    """Differences from the finished media, if there are any.

    Returns:
        Remarks on all of them, and remarks by utterance id.
    """
    record_path = layout.media / RECORD
    if not record_path.is_file():
        return [], {}
    differing = differing_settings(files.read_json(record_path)["settings"], {"media": config.model_dump(mode="json")})
    if differing:
        return [f"The finished media in {layout.media} were made with other settings: {'; '.join(differing)}."], {}
    there = {
        row["utterance_id"]: row
        for row in _media_rows(layout, [name for name in SCHEMA.names if name != "audio"], list(seen))
    }
    of_each = {}
    for utterance_id, one in seen.items():
        if utterance_id not in there:
            of_each[utterance_id] = [f"not in the finished media in {layout.media}"]
            continue
        # Media with only one stream legitimately lack the rest. Converted through Arrow, so that both have the table's
        # precision.
        now = pa.Table.from_pylist([dict(one.columns)], schema=SCHEMA).to_pylist()[0]
        stored = there[utterance_id]
        comparable = all(stored[f"{stream}_status"] != NOT_DECODED for stream in STREAMS)
        names = [name for name, value in stored.items() if value != now[name]]
        if comparable and names:
            of_each[utterance_id] = [
                f"the finished media in {layout.media} have other values here: {', '.join(names)}; merc-extract would"
                " decode again"
            ]
    return [], of_each


def file_name(utterance_id: str) -> str:
    """A name for an utterance's files, unique per id.

    >>> file_name("train/dia0_utt0")
    'train.dia0_utt0'
    >>> file_name("../so what?")
    'so_what_~82e08e66'
    """
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", utterance_id.replace("/", ".")).lstrip("._-")[:_MOST_NAME_CHARACTERS]
    if name and name == utterance_id.replace("/", ".") and "." not in utterance_id:
        return name
    return f"{name or 'utterance'}~{hashlib.sha256(utterance_id.encode('utf-8')).hexdigest()[:8]}"


def _check_known(wanted: Sequence[str], there: Sequence[str], layout: Layout) -> None:
    known = set(there)
    for one in wanted:
        if one not in known:
            close = difflib.get_close_matches(one, there, n=_NEAREST_IDS) or there[:_NEAREST_IDS]
            raise BadSettings(f"--utterance: {layout.dataset} has no {one!r}; near it: {', '.join(close)}")


def _media_rows(layout: Layout, columns: Sequence[str], utterance_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the finished media, in order; empty if there are no media."""
    if not (layout.media / RECORD).is_file():
        return []
    wanted = [("utterance_id", "in", list(utterance_ids))]
    return [
        row
        for path in sorted(layout.media.glob("part-*.parquet"))
        for row in parquet.read(path, list(columns), filters=wanted).to_pylist()
    ]


def _drawn(utterance_ids: Sequence[str], count: int, seed: int) -> list[str]:
    order = np.random.default_rng(seed).permutation(len(utterance_ids))
    return [utterance_ids[index] for index in order[:count]]


def _most_doubtful(media: Sequence[Mapping[str, Any]], count: int, layout: Layout) -> list[str]:
    if not media:
        raise BadSettings(
            f"--doubtful: there are no finished media in {layout.media} to choose from; run merc-extract first, or"
            " leave it out"
        )
    faces = sorted((row for row in media if row["visual_status"] == "ok"), key=doubt_of)
    return [row["utterance_id"] for row in faces[:count]]
