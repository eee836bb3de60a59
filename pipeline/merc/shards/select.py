"""A part of shards as shards of its own: some splits, modalities or dialogues, with or without transcripts."""

import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from merc import files
from merc.errors import BadSettings, nearest
from merc.records.dialogue import SPLITS
from merc.shards.config import Config
from merc.shards.facts import Facts, dialogue_rows
from merc.shards.format import reader
from merc.shards.format.row_groups import files_of
from merc.shards.rewriting import Rewriting, read_failures
from merc.shards.target import new_shards


def select(
    root: Path,
    target: Path,
    config: Config,
    *,
    splits: Sequence[str] = (),
    modalities: Sequence[str] = (),
    dialogues: Collection[str] = (),
    transcripts: bool = True,
    overwrite: bool = False,
    wait: bool = False,
) -> list[str]:
    """Writes a part of the shards in ``root`` to ``target``.

    Dialogues keep their order. The statistics are those of the train dialogues that are kept; where the train split is left out they
    stay those of ``root``, by which a model was trained. Trajectories are copied where all dialogues of the chosen splits are kept;
    otherwise neighbours would be missing, and there are none.

    Args:
        root: folder of the shards.
        target: the new folder.
        config: where files and row groups are cut.
        splits: which ones; all by default.
        modalities: which vectors; all by default.
        dialogues: ids; all by default.
        transcripts: False leaves out the column ``texts``.
        overwrite: replace shards that are at ``target``.
        wait: until another process that writes there has finished.

    Returns:
        What was left out that nobody asked for, a line each.

    Raises:
        BadSettings: if there is no such split, modality or dialogue, naming the nearest.
        BadTable: if ``root`` holds no shards, or a file cannot be read.
        SettingsDiffer: if something is at ``target``.
    """
    info = reader.info(root)
    facts = Facts.of(info)
    chosen_splits = [split for split in SPLITS if split in _known("split", splits, info["splits"])]
    kept = [modality for modality in info["modalities"] if modality in _known("modality", modalities, info["modalities"])]
    if dialogues:
        _known("dialogue", dialogues, _dialogue_ids(root, chosen_splits, facts))
    part = replace(
        facts,
        dims={modality: facts.dims[modality] for modality in kept},
        encoders={modality: facts.encoders[modality] for modality in kept},
        transcripts=facts.transcripts and transcripts,
    )
    chosen = pa.array(sorted(dialogues), pa.string())
    notes: list[str] = []
    with new_shards(target, [root], overwrite=overwrite, wait=wait) as folder:
        writing = Rewriting(folder, part, config)
        for split in chosen_splits:
            writing.write_split(split, _rows(root, split, facts, part, chosen), _failures(root, split, facts, part, chosen))
        if dialogues and (root / "trajectories").is_dir():
            notes.append("the trajectories were left out: neighbours would be missing among the chosen dialogues")
        elif not dialogues:
            _copy_trajectories(root, folder, list(writing.counts))
        settings = {
            "shards": config.model_dump(mode="json", include={"row_group_dialogues", "max_file_bytes"}),
            "select": {"splits": chosen_splits, "modalities": kept, "dialogues": sorted(dialogues), "transcripts": part.transcripts},
        }
        more: dict[str, Any] = {key: info[key] for key in ("source", "corpus_settings", "counts_compared", "deviations") if key in info}
        writing.finish(settings, {"info": files.digest(info)}, more | {"made_from": [origin(info)]}, reader.stats(root))
    return notes


def origin(info: Mapping[str, Any]) -> dict[str, Any]:
    """What ``made_from`` in ``meta/info.json`` says of shards that others were made from."""
    return {key: info[key] for key in ("corpus", "fingerprint", "settings", "versions", "made_from") if key in info}


def _known(what: str, given: Collection[str], valid: Sequence[str]) -> Collection[str]:
    """The given names, or all where none is given."""
    there = set(valid)
    for name in given:
        if name not in there:
            told = nearest(name, list(valid)) if len(valid) <= 20 else f"{nearest(name, list(valid)).partition('valid:')[0]}there are {len(valid)}"
            raise BadSettings(f"no {what} {name!r} in these shards; {told}")
    return given or valid


def _dialogue_ids(root: Path, splits: Sequence[str], facts: Facts) -> list[str]:
    return [one for split in splits for rows in dialogue_rows(root, split, facts, ["dialogue_id"]) for one in rows["dialogue_id"].to_pylist()]


def _rows(root: Path, split: str, facts: Facts, part: Facts, chosen: pa.Array) -> Iterator[pa.Table]:
    for rows in dialogue_rows(root, split, facts, part.schema.names):
        kept = rows.filter(pc.is_in(rows["dialogue_id"], value_set=chosen)) if len(chosen) else rows
        yield kept.select(part.schema.names).cast(part.schema)


def _failures(root: Path, split: str, facts: Facts, part: Facts, chosen: pa.Array) -> pa.Table:
    """The failure rows of the chosen dialogues and modalities; as in the stage, those on the annotations stay whatever they concern."""
    failed = read_failures(root, split)
    of_part = pc.is_in(failed["modality"], value_set=pa.array([*part.dims, "all"]))
    failed = failed.filter(pc.or_(of_part, pc.equal(failed["stage"], "manifest")))
    if not len(chosen):
        return failed
    groups = (rows.filter(pc.is_in(rows["dialogue_id"], value_set=chosen)) for rows in dialogue_rows(root, split, facts, ["dialogue_id", "utterance_ids"]))
    ids = [chunk for rows in groups for chunk in pc.list_flatten(rows["utterance_ids"]).chunks]
    return failed.filter(pc.is_in(failed["utterance_id"], value_set=pa.chunked_array(ids, pa.string())))


def _copy_trajectories(root: Path, folder: Path, splits: Sequence[str]) -> None:
    for path in (path for split in splits for path in files_of(root, "trajectories", split)):
        (folder / "trajectories").mkdir(exist_ok=True)
        shutil.copyfile(path, folder / "trajectories" / path.name)
