"""Selects a part of shards as new shards: some splits, modalities or dialogues, with or without transcripts."""

import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from merc import files
from merc.errors import BadSettings, nearest
from merc.records.audit import PREFIX
from merc.records.dialogue import SPLITS
from merc.shards.config import Config
from merc.shards.facts import Facts, dialogue_rows
from merc.shards.filtering import Filtering
from merc.shards.format import reader
from merc.shards.format.meta import STATS_SPLIT
from merc.shards.format.row_groups import column, files_of
from merc.shards.rewriting import Rewriting, read_failures
from merc.shards.target import new_shards
from merc.shards.where import Condition


def select(
    root: Path,
    target: Path,
    config: Config,
    *,
    splits: Sequence[str] = (),
    modalities: Sequence[str] = (),
    dialogues: Collection[str] = (),
    transcripts: bool = True,
    where: str = "",
    where_splits: Sequence[str] = (),
    drop: bool = False,
    overwrite: bool = False,
    wait: bool = False,
) -> list[str]:
    """Writes a part of the shards in ``root`` to ``target``.

    Dialogues keep their order. The statistics are those of the kept train dialogues; if the train split is left out,
    they stay those of ``root``, with which a model may have been trained. Trajectories are copied if all utterances of
    the chosen splits are kept with their labels; otherwise they are left out, since neighbours would be missing or
    different.

    Args:
        root: folder of the shards.
        target: the new folder.
        config: where files and row groups are split.
        splits: splits to keep; all by default.
        modalities: vectors to keep; all by default.
        dialogues: ids to keep; all by default.
        transcripts: False leaves out the column ``texts``.
        where: a condition on the columns of an audit (:mod:`merc.shards.where`). Utterances for which it is not true
            lose their label: they are context for the others, but are neither trained on nor scored.
        where_splits: the splits to which ``where`` applies; all by default.
        drop: instead, leave out the utterances for which ``where`` is not true, and dialogues that become empty.
        overwrite: replace shards that are at ``target``.
        wait: wait for another process that writes there.

    Returns:
        What was left out without being requested, one line each.

    Raises:
        BadSettings: if there is no such split, modality or dialogue (the message gives the nearest); if ``where`` is
            not a condition, names a column that does not exist, or is not true for any utterance.
        BadTable: if ``root`` contains no shards, or a file cannot be read.
        SettingsDiffer: if something is at ``target``.
    """
    info = reader.info(root)
    facts = Facts.of(info)
    chosen_splits = [split for split in SPLITS if split in _known("split", splits, info["splits"])]
    kept = [
        modality for modality in info["modalities"] if modality in _known("modality", modalities, info["modalities"])
    ]
    if dialogues:
        _known("dialogue", dialogues, _dialogue_ids(root, chosen_splits, facts))
    filtering = _filtering(facts, chosen_splits, where, where_splits, drop=drop)
    part = replace(
        facts,
        dims={modality: facts.dims[modality] for modality in kept},
        encoders={modality: facts.encoders[modality] for modality in kept},
        transcripts=facts.transcripts and transcripts,
    )
    choice = _Choice(root, facts, part, pa.array(sorted(dialogues), pa.string()), filtering)
    with new_shards(target, [root], overwrite=overwrite, wait=wait) as folder:
        writing = Rewriting(folder, part, config)
        for split in chosen_splits:
            writing.write_split(split, choice.rows(split), choice.failures(split))
        selection = [] if filtering is None else filtering.told()
        if not dialogues and filtering is None:
            _copy_trajectories(root, folder, list(writing.counts))
        settings = {
            "shards": config.model_dump(mode="json", include={"row_group_dialogues", "max_file_bytes"}),
            "select": {
                "splits": chosen_splits,
                "modalities": kept,
                "dialogues": sorted(dialogues),
                "transcripts": part.transcripts,
            },
        }
        settings["select"] |= {} if filtering is None else filtering.settings()
        more: dict[str, Any] = {
            key: info[key]
            for key in ("source", "redistribution", "corpus_settings", "counts_compared", "deviations")
            if key in info
        }
        if selection or info.get("selection"):
            more["selection"] = [*info.get("selection", []), *selection]
        writing.finish(settings, {"info": files.digest(info)}, more | {"made_from": [origin(info)]}, reader.stats(root))
    return _left_out(root, bool(dialogues), filtering)


def _left_out(root: Path, dialogues: bool, filtering: Filtering | None) -> list[str]:
    """What was left out or changed without being requested."""
    notes = []
    if (root / "trajectories").is_dir() and (dialogues or filtering is not None):
        why = (
            "neighbours would be missing among the chosen dialogues"
            if dialogues
            else "they were computed from labels that were removed"
        )
        notes.append(f"the trajectories were left out: {why}")
    if filtering is not None and any(failed for split, (failed, _) in filtering.counts.items() if split != STATS_SPLIT):
        notes.append(
            "dev or test were filtered, too: scores on them cannot be compared with others'; --where-split train keeps"
            " them complete"
        )
    return notes


def _filtering(
    facts: Facts, chosen_splits: Sequence[str], where: str, where_splits: Sequence[str], *, drop: bool
) -> Filtering | None:
    if not where.strip():
        if drop or where_splits:
            raise BadSettings("--drop and --where-split need a condition in --where")
        return None
    columns = [name.removeprefix(PREFIX) for name in facts.quality_columns]
    if not columns:
        raise BadSettings(
            "--where: these shards have no columns of an audit. They come from merc-extract audit --dataset NAME, then"
            " merc-extract --dataset NAME --quality"
        )
    chosen = tuple(split for split in chosen_splits if split in _known("split", where_splits, chosen_splits))
    return Filtering(Condition.parse(where, columns), chosen, drop)


@dataclass(frozen=True)
class _Choice:
    """What is read from ``root``; an empty ``dialogues`` means all."""

    root: Path
    facts: Facts
    part: Facts
    dialogues: pa.Array
    filtering: Filtering | None

    def rows(self, split: str) -> Iterator[pa.Table]:
        """The dialogues of a split as they are written."""
        for rows in self._read(split, self.part.schema.names):
            kept = rows if self.filtering is None else self.filtering.applied(rows, split)
            yield kept.select(self.part.schema.names).cast(self.part.schema)

    def _read(self, split: str, names: Sequence[str]) -> Iterator[pa.Table]:
        for rows in dialogue_rows(self.root, split, self.facts, list(names)):
            yield rows.filter(pc.is_in(rows["dialogue_id"], value_set=self.dialogues)) if len(self.dialogues) else rows

    def failures(self, split: str) -> pa.Table:
        """The failure rows of the chosen utterances and modalities; as in the stage, rows about annotations are always
        kept.
        """
        failed = read_failures(self.root, split)
        of_part = pc.is_in(failed["modality"], value_set=pa.array([*self.part.dims, "all"]))
        failed = failed.filter(pc.or_(of_part, pc.equal(failed["stage"], "manifest")))
        dropping = self.filtering is not None and self.filtering.drop and split in self.filtering.splits
        if not len(self.dialogues) and not dropping:
            return failed
        names = ["dialogue_id", "utterance_ids", *(self.filtering.columns if self.filtering is not None else [])]
        ids: list[pa.Array] = []
        for rows in self._read(split, names):
            flat = pa.chunked_array([column(rows, "utterance_ids").flatten()])
            ids += (flat.filter(self.filtering.holds(rows)) if self.filtering is not None and dropping else flat).chunks
        return failed.filter(pc.is_in(failed["utterance_id"], value_set=pa.chunked_array(ids, pa.string())))


def origin(info: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of source shards under ``made_from`` in ``meta/info.json``."""
    return {key: info[key] for key in ("corpus", "fingerprint", "settings", "versions", "made_from") if key in info}


def terms_of_all(infos: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The recorded terms of shards that were made from several: those of all, and none if one of them must not be
    redistributed.
    """
    terms = [str(info.get("redistribution", "")) for info in infos]
    return {"redistribution": " ".join(dict.fromkeys(terms))} if all(terms) else {}


def _known(what: str, given: Collection[str], valid: Sequence[str]) -> Collection[str]:
    """The given names, or all if none is given."""
    there = set(valid)
    for name in given:
        if name not in there:
            told = (
                nearest(name, list(valid))
                if len(valid) <= 20
                else f"{nearest(name, list(valid)).partition('valid:')[0]}there are {len(valid)}"
            )
            raise BadSettings(f"no {what} {name!r} in these shards; {told}")
    return given or valid


def _dialogue_ids(root: Path, splits: Sequence[str], facts: Facts) -> list[str]:
    return [
        one
        for split in splits
        for rows in dialogue_rows(root, split, facts, ["dialogue_id"])
        for one in rows["dialogue_id"].to_pylist()
    ]


def _copy_trajectories(root: Path, folder: Path, splits: Sequence[str]) -> None:
    for path in (path for split in splits for path in files_of(root, "trajectories", split)):
        (folder / "trajectories").mkdir(exist_ok=True)
        shutil.copyfile(path, folder / "trajectories" / path.name)
