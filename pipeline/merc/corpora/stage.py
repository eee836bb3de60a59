"""DVC stage ``manifest``: reads one corpus and writes its manifest, with a record of settings, counts and repairs next
to it.

The annotations are read anew in every run (MELD takes a second), so a changed corpus is never mistaken for the old one.
Settings that differ from those of an existing manifest are refused, since everything downstream was made from that
manifest.
"""

import importlib
import importlib.util
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import pyarrow as pa

from merc import files, plugins
from merc.command_line import stage_command
from merc.corpora.engine import building, plausibility
from merc.corpora.engine.base import CorpusReader, Reading
from merc.corpora.engine.labels import label_set
from merc.errors import BadSettings, BadTable, RawDataMissing, SettingsDiffer, TooManyFailures, nearest
from merc.job import RunOptions, differing_settings
from merc.layout import MODALITIES, Layout
from merc.log import logger
from merc.params import Laid, Origin, Params, Settings, Shelf
from merc.records import manifest
from merc.records.dialogue import SPLITS, Dialogue
from merc.records.failures import limit_of

_PACKAGE = "merc.corpora"
_MEDIA = frozenset({"audio", "visual"})
# None of these changes the table: one makes a missing corpus, one only reports, one is for the card.
_NOT_COMPARED = {"made_by", "check_counts", "redistribution"}


@dataclass(frozen=True)
class Corpus:
    """A dataset that can be read.

    Attributes:
        name: of the dataset.
        reader: with its settings.
        make: makes a generated corpus in the folder of the corpora; None for a real one.
        laid: the settings with their origins.
    """

    name: str
    reader: CorpusReader
    make: Callable[[Path], None] | None
    laid: Laid


DATASETS = Shelf("corpora", _PACKAGE, "dataset", alone=partial(plugins.names, _PACKAGE, CorpusReader))


def choose(params: Params, dataset: str) -> Corpus:
    """Looks up a dataset: a file of this folder, a block under ``corpora``, or the name of a reader.

    Raises:
        BadSettings: if the dataset, its reader, its label set or a setting is invalid.
    """
    laid = DATASETS.read(params, dataset)
    readers = plugins.names(_PACKAGE, CorpusReader)
    if laid.at("reader") is None and dataset in readers:
        laid.lay("reader", dataset, Origin("its own name"))
    name = laid.at("reader")
    if not isinstance(name, str):
        raise BadSettings(f"corpora.{dataset}.reader is {name!r}; valid: {', '.join(readers)}")
    kind = plugins.load(_PACKAGE, name, CorpusReader)  # type: ignore[type-abstract]
    reader = kind(
        params.filled(laid, kind.Config, f"corpora.{dataset}"), dataset, set(DATASETS.names(params)) - {dataset}
    )
    if reader.config.label_set not in kind.LABEL_SETS:
        hint = nearest(reader.config.label_set, list(kind.LABEL_SETS))
        raise BadSettings(
            f"corpora.{dataset}.label_set: {reader.config.label_set!r} does not fit the reader {name}; {hint}"
        )
    if not reader.config.made_by:
        return Corpus(dataset, reader, None, laid)
    made_by = reader.config.made_by
    config = params.fill(made_by.split(".")[0], _config_of_maker(dataset, made_by))
    return Corpus(dataset, reader, partial(_make, dataset, made_by, config), laid)


def build_manifest(
    corpus: Corpus,
    layout: Layout,
    run: RunOptions,
    *,
    modalities: tuple[str, ...] = MODALITIES,
    splits: tuple[str, ...] = SPLITS,
    limit: int | None = None,
) -> pa.Table:
    """Reads the corpus ``layout.dataset`` and writes ``manifest.parquet``, and ``manifest.json`` next to it.

    Args:
        corpus: the dataset, with the settings of its reader.
        layout: paths of the corpus and the manifest.
        run: ``overwrite`` replaces a manifest made with other settings.
        modalities: what will be extracted; media files must exist only for ``audio`` and ``visual``.
        splits: the splits to read; their order does not matter.
        limit: only the first N dialogues of each split; None for all.

    Returns:
        The table as written (see :data:`merc.records.manifest.SCHEMA`).

    Raises:
        BadSettings: if a modality, a split or the limit is invalid.
        RawDataMissing: if the corpus is missing or has another format, or has no media at all.
        TooManyFailures: if more media are missing than ``run.max_failed`` allows.
        BadTable: if the corpus's content contradicts itself.
        SettingsDiffer: if the existing manifest has other settings; the message names the keys.
    """
    if corpus.make is not None and will_be_made(corpus, layout):
        logger.info("%s: making it in %s", corpus.name, layout.raw, extra={"stage": "manifest", "dataset": corpus.name})
        corpus.make(layout.raw)
    table, record = read_corpus(corpus, layout, run, modalities=modalities, splits=splits, limit=limit)
    for deviation in record["deviations"]:
        logger.warning("%s: %s", layout.dataset, deviation, extra={"stage": "manifest", "dataset": layout.dataset})
    manifest.write(layout.manifest, table)
    files.write_json(_record_path(layout), record)
    logger.info(
        "%s: %d utterances in %d dialogues",
        layout.dataset,
        table.num_rows,
        len(manifest.dialogue_bounds(table)),
        extra={"stage": "manifest", "dataset": layout.dataset},
    )
    return table


def read_corpus(
    corpus: Corpus,
    layout: Layout,
    run: RunOptions,
    *,
    modalities: tuple[str, ...] = MODALITIES,
    splits: tuple[str, ...] = SPLITS,
    limit: int | None = None,
) -> tuple[pa.Table, dict[str, Any]]:
    """The manifest and its record (settings, source, counts, deviations, failure rows), as :func:`build_manifest` would
    write them; nothing is written.

    Arguments and errors are those of :func:`build_manifest`.
    """
    _check_names("modality", modalities, MODALITIES)
    _check_names("split", splits, SPLITS)
    if limit is not None and limit < 1:
        raise BadSettings(f"the limit is {limit} dialogues per split; at least 1")
    reader = corpus.reader
    wanted = tuple(split for split in SPLITS if split in splits)
    settings = {
        "corpora": {layout.dataset: reader.config.model_dump(mode="json", exclude=_NOT_COMPARED, exclude_none=True)},
        "run": {"splits": list(wanted), "limit": limit},
    }
    if not run.overwrite:
        _compare(_record_path(layout), settings)
    if reader.config.links == "refuse":
        _refuse_links(layout)
    reading = reader.read(layout.corpus_root, layout.raw, media=_MEDIA & set(modalities), splits=wanted)
    dialogues = _first_of_each_split(reading.dialogues, limit)
    labels = reading.labels or label_set(reader.config.label_set)
    reading.deviations += plausibility.remarks(reading.dialogues, labels)
    table = building.build(
        layout.dataset, dialogues, labels, drop_unlabelled=reader.config.unlabelled == "drop", links=reader.config.links
    )
    _check_missing(layout.dataset, reading, table, run)
    terms = {"redistribution": reader.config.redistribution} if reader.config.redistribution else {}
    facts = {
        "source": _source(reader, reading),
        "counts_compared": reader.config.check_counts,
        **terms,
        **_facts(reading, table),
    }
    return table, {"settings": settings, **facts}


def _check_missing(dataset: str, reading: Reading, table: pa.Table, run: RunOptions) -> None:
    """Raises ``TooManyFailures`` if more utterances lack a file than ``--max-failed`` allows: otherwise decoding would
    fail hours later.
    """
    kept = set(table["utterance_id"].to_pylist())
    missing = {
        modality: {one: path for one, path in files.items() if one in kept}
        for modality, files in reading.missing.items()
    }
    without = {one: path for files in missing.values() for one, path in files.items()}
    if len(without) > limit_of(run.max_failed, table.num_rows):
        by_modality = ", ".join(f"{modality} {len(files)}" for modality, files in sorted(missing.items()) if files)
        raise TooManyFailures(
            f"{dataset}: the media of {len(without)} of {table.num_rows} utterances are missing ({by_modality}; the"
            f" first is {next(iter(without.values())) or 'an empty cell of the table'}), more than --max-failed"
            f" {run.max_failed} allows. Was the archive unpacked completely? A higher --max-failed continues without"
            " them."
        )


def _refuse_links(layout: Layout) -> None:
    """Raises ``RawDataMissing`` if a link in the corpus's folder leads out of it; the folder itself may be a link."""
    root = Path(os.path.realpath(layout.corpus_root))
    for link in _links_below(root) if root.is_dir() else ():
        if not (target := Path(os.path.realpath(link))).is_relative_to(root):
            raise RawDataMissing(
                f"{link}: a link that leads outside {root}, to {target}, and corpora.{layout.dataset}.links is refuse;"
                " put the file itself there, or allow links for a corpus that you trust"
            )


def _links_below(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                yield Path(entry.path)
            elif entry.is_dir():
                yield from _links_below(Path(entry.path))


def will_be_made(corpus: Corpus, layout: Layout) -> bool:
    """True if the corpus is missing and is a generated one."""
    return corpus.make is not None and not (layout.raw / layout.dataset).exists()


def _source(reader: CorpusReader, reading: Reading) -> str:
    """Where the corpus comes from, for the dataset card and the report, in paragraphs."""
    source = reader.SOURCE
    if reader.config.made_by:
        source = (
            f"Made by code ({_PACKAGE}.{reader.config.made_by}) in the raw layout of {reader.config.reader}; nothing in"
            " it comes from a real corpus."
        )
    return f"{source}\n\n{reading.source}" if reading.source else source


def _record_path(layout: Layout) -> Path:
    return layout.folder / "manifest.json"


def _check_names(what: str, given: tuple[str, ...], valid: tuple[str, ...]) -> None:
    if not given:
        raise BadSettings(f"no {what} is given; valid: {', '.join(valid)}")
    for name in given:
        if name not in valid:
            raise BadSettings(f"no {what} {name!r}; {nearest(name, list(valid))}")


def _compare(record_path: Path, settings: dict[str, Any]) -> None:
    """Refuses to continue if the existing manifest was made with other settings."""
    if not record_path.is_file():
        return
    record = files.read_json(record_path)
    if not isinstance(record, dict) or not isinstance(record.get("settings"), dict):
        raise BadTable(f"{record_path}: not the record of a manifest; give --overwrite to remake it")
    keys = differing_settings(record["settings"], settings)
    if keys:
        raise SettingsDiffer(
            f"manifest: one made with other settings already exists at {record_path.parent}:\n  "
            + "\n  ".join(keys)
            + "\nUse the old settings, another --out, or --overwrite to replace it."
        )


def _config_of_maker(dataset: str, made_by: str) -> type[Settings]:
    """The settings of a generated corpus: in ``config.py`` next to its ``make.py``, so that the decoders it needs are
    not imported yet.

    Raises:
        BadSettings: if there is no such module, or no ``config.py`` next to it.
    """
    folder, _, module = made_by.partition(".")
    beside = f"{_PACKAGE}.{folder}.config"
    if not module or "." in module or not _there(f"{_PACKAGE}.{made_by}") or not _there(beside):
        words = "expected a module FOLDER.NAME with a function make(raw, config), and config.py next to it"
        raise BadSettings(f"corpora.{dataset}.made_by: there is no {_PACKAGE}.{made_by}; {words}")
    config: type[Settings] = importlib.import_module(beside).Config
    return config


def _there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is not a package
        return False


def _make(dataset: str, made_by: str, config: Settings, raw: Path) -> None:
    maker = importlib.import_module(f"{_PACKAGE}.{made_by}")
    if not hasattr(maker, "make"):
        raise BadSettings(f"corpora.{dataset}.made_by: {_PACKAGE}.{made_by} has no function make(raw, config)")
    maker.make(raw, config)


def _first_of_each_split(dialogues: list[Dialogue], limit: int | None) -> list[Dialogue]:
    if limit is None:
        return dialogues
    return [dialogue for split in SPLITS for dialogue in [one for one in dialogues if one.split == split][:limit]]


def _facts(reading: Reading, table: pa.Table) -> dict[str, Any]:
    """Counts per split and emotion, deviations, checks, and the failure rows of the utterances in the table."""
    utterances, dialogues = (
        Counter(table["split"].to_pylist()),
        Counter(split for split, _ in _distinct(table, "dialogue_id")),
    )
    emotions = Counter(zip(table["split"].to_pylist(), table["emotion"].to_pylist(), strict=True))
    counts = {
        split: {
            "utterances": utterances[split],
            "dialogues": dialogues[split],
            "emotions": {emotion: count for (where, emotion), count in emotions.items() if where == split},
        }
        for split in utterances
    }
    kept = set(table["utterance_id"].to_pylist())
    return {
        "counts": counts,
        "classes": list(manifest.classes(table)),
        "deviations": reading.deviations,
        "checks": reading.checks,
        "failures": [failure.row() for failure in reading.failures if failure.utterance_id in kept],
    }


def _distinct(table: pa.Table, column: str) -> set[tuple[str, str]]:
    return set(zip(table["split"].to_pylist(), table[column].to_pylist(), strict=True))


@stage_command
@click.option(
    "--modalities",
    help="What will be extracted, comma-separated; default: what params.yaml builds of the dataset, else all.",
)
def main(params: Params, layout: Layout, run: RunOptions, modalities: str | None) -> None:
    """Writes a corpus's manifest."""
    names = modalities.split(",") if modalities else list(params.block("build").get(layout.dataset) or MODALITIES)
    build_manifest(choose(params, layout.dataset), layout, run, modalities=tuple(names))


if __name__ == "__main__":
    sys.exit(main())
