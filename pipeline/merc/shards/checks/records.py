"""Checks of what the shards say about themselves: ``meta/info.json``, ``meta/stats.json``, ``meta/manifest.json``."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from merc import files, parquet
from merc.errors import BadTable
from merc.job import flat
from merc.records.dialogue import SPLITS
from merc.shards.checks.dialogues import SeenSplit
from merc.shards.checks.problems import UNREADABLE, Problems
from merc.shards.format import reader
from merc.shards.format.moments import RunningMoments
from merc.shards.format.row_groups import TABLES, files_of

INFO, STATS, MANIFEST = "meta/info.json", "meta/stats.json", "meta/manifest.json"
_CLOSE = 1e-5  # relative to the deviation: sums in another order differ by less


def check_info(
    info: Mapping[str, Any], seen: Mapping[str, SeenSplit], failures: Mapping[str, int | None], problems: Problems
) -> None:
    """Compares the counts of ``meta/info.json`` with those of the tables.

    Args:
        info: its content.
        seen: split → its dialogues.
        failures: split → number of its failure rows; None if they cannot be read, and are not counted.
        problems: what is wrong is added to it.
    """
    there = [split for split in SPLITS if split in seen]
    if list(info["splits"]) != there:
        problems.add(
            "info", INFO, f"splits {', '.join(info['splits'])}, there are files of {', '.join(there) or 'none'}"
        )
    for split in there:
        if not seen[split].complete:
            continue
        wanted = flat(_counts(seen[split], info["classes"]) | {"failures": failures[split]})
        said = flat(info["counts"].get(split, {}))
        if failures[split] is None:
            said["failures"] = None
        for key in sorted({*wanted, *said}):
            if said.get(key) != wanted.get(key):
                problems.add(
                    "info", INFO, f"{said.get(key)} instead of {wanted.get(key)}", column=f"counts.{split}.{key}"
                )


def _counts(seen: SeenSplit, classes: list[str]) -> dict[str, Any]:
    labels = np.concatenate([np.zeros(0, dtype=np.int64), *seen.labels])
    return {
        "dialogues": len(seen.dialogues),
        "utterances": len(labels),
        "labels": {name: int((labels == index).sum()) for index, name in enumerate(classes)},
        "unlabelled": int((labels < 0).sum()),
        "present": {modality: int(sum(flags.sum() for flags in present)) for modality, present in seen.present.items()},
    }


def check_stats(
    root: Path, info: Mapping[str, Any], moments: Mapping[str, RunningMoments] | None, problems: Problems
) -> None:
    """Checks ``meta/stats.json``: one mean and deviation per feature, and those of the train split.

    Args:
        root: folder of the shards.
        info: content of ``meta/info.json``.
        moments: of the train split's present vectors; None if no train split could be read: the statistics may come
            from the train split of the shards from which these were selected.
        problems: what is wrong is added to it.
    """
    if _read(root, STATS, problems) is None:
        return
    try:
        found = reader.stats(root)
    except BadTable as error:
        problems.add("stats", STATS, str(error).removeprefix(f"{root / STATS}: "))
        return
    if set(found) != set(info["dims"]):
        problems.add(
            "stats", STATS, f"of {', '.join(sorted(found)) or 'nothing'} instead of {', '.join(sorted(info['dims']))}"
        )
    for modality in sorted(set(found) & set(info["dims"])):
        lengths = {key: len(found[modality].get(key, ())) for key in ("mean", "std")}
        if set(lengths.values()) != {info["dims"][modality]}:
            problems.add("stats", STATS, f"{lengths} numbers instead of {info['dims'][modality]}", column=modality)
        elif not all(math.isfinite(value) for key in lengths for value in found[modality][key]):
            problems.add("stats", STATS, "a value that is not finite", column=modality)
        elif moments is not None:
            _compare_stats(found[modality], moments[modality].as_json(), modality, problems)


def _compare_stats(said: Mapping[str, Any], wanted: Mapping[str, Any], modality: str, problems: Problems) -> None:
    if said.get("count") != wanted["count"]:
        problems.add(
            "stats",
            STATS,
            f"of {said.get('count')} vectors, but {wanted['count']} train utterances are present",
            column=modality,
        )
        return
    scale_D = np.maximum(np.abs(wanted["mean"]), np.maximum(wanted["std"], 1e-6))
    for key in ("mean", "std"):
        wrong = np.flatnonzero(np.abs(np.array(said[key]) - np.array(wanted[key])) > _CLOSE * scale_D)
        if len(wrong):
            told = (
                f"{key} of feature {wrong[0]} is {said[key][wrong[0]]:g} instead of {wanted[key][wrong[0]]:g};"
                f" {len(wrong)} features like it"
            )
            problems.add("stats", STATS, told, column=modality)


def check_manifest(root: Path, problems: Problems) -> None:
    """Compares every file with ``meta/manifest.json``: existence, listing, size, number of rows and content."""
    manifest = _read(root, MANIFEST, problems)
    if manifest is None:
        return
    listed = manifest.get("files")
    if not isinstance(listed, dict):
        problems.add(UNREADABLE, MANIFEST, "it names no files")
        return
    there = {path.relative_to(root).as_posix() for table in TABLES for path in (root / table).glob("*.parquet")}
    for name in sorted(there - set(listed)):
        problems.add("manifest", name, f"not listed in {MANIFEST}")
    for name, facts in sorted(listed.items()):
        try:
            path = files.confined(root, name)
        except ValueError as error:
            problems.add("manifest", MANIFEST, str(error))
            continue
        if not path.is_file():
            problems.add("manifest", name, f"listed in {MANIFEST}, but missing")
        elif not isinstance(facts, dict) or not {"bytes", "sha256"} <= facts.keys():
            problems.add("manifest", MANIFEST, f"says neither bytes nor sha256 of {name}")
        elif path.stat().st_size != facts["bytes"]:
            problems.add("manifest", name, f"{path.stat().st_size} bytes instead of {facts['bytes']}")
        elif files.sha256(path) != facts["sha256"]:
            problems.add("manifest", name, "another sha256: its content has changed")
        elif "rows" in facts:
            _check_rows(path, name, facts["rows"], problems)


def _check_rows(path: Path, name: str, wanted: int, problems: Problems) -> None:
    try:
        rows = parquet.rows(path)
    except BadTable as error:
        problems.add(UNREADABLE, name, str(error).removeprefix(f"{path}: "))
        return
    if rows != wanted:
        problems.add("manifest", name, f"{rows} rows instead of {wanted}")


def check_names(root: Path, splits: list[str], problems: Problems) -> None:
    """Checks that the files of each table are numbered without gaps, and that no table has a split without
    dialogues.
    """
    for table in TABLES:
        for split in (split for split in SPLITS if split not in splits and files_of(root, table, split)):
            problems.add("info", f"{table}/{split}", "a split without dialogues")
        for split in splits:
            paths = files_of(root, table, split)
            names = [f"{split}-{index:05d}-of-{len(paths):05d}.parquet" for index in range(len(paths))]
            if [path.name for path in paths] != names:
                problems.add(
                    "manifest",
                    f"{table}/{split}",
                    f"{len(paths)} files, but they are {', '.join(path.name for path in paths)}",
                )


def _read(root: Path, name: str, problems: Problems) -> dict[str, Any] | None:
    if not (root / name).is_file():
        problems.add("manifest", name, "no such file")
        return None
    try:
        found = files.read_json(root / name)
    except BadTable as error:
        problems.add(UNREADABLE, name, str(error))
        return None
    if not isinstance(found, dict):
        problems.add(UNREADABLE, name, "no JSON object")
        return None
    return found
