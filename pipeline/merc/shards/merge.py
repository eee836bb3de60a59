"""Merges shards: splits of one corpus that were made separately, or different corpora with the same encoders and
labels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from merc import files
from merc.errors import BadSettings, BadTable
from merc.records.dialogue import SPLITS
from merc.shards.config import Config
from merc.shards.facts import Facts, dialogue_rows
from merc.shards.format import reader
from merc.shards.format.row_groups import column
from merc.shards.rewriting import Rewriting, read_failures
from merc.shards.select import origin, terms_of_all
from merc.shards.target import new_shards

_ENCODER_IDENTITY = ("encoder", "revision", "settings_sha256")
_DIALOGUE, _UTTERANCES = "dialogue_id", "utterance_ids"


@dataclass(frozen=True)
class _Part:
    """One of the merged shards; ``prefix`` is inserted into its ids, if it is not empty."""

    root: Path
    info: dict[str, Any]
    facts: Facts
    prefix: str


def merge(
    roots: Sequence[Path],
    target: Path,
    config: Config,
    *,
    prefix: bool = False,
    overwrite: bool = False,
    wait: bool = False,
) -> list[str]:
    """Writes the shards in ``roots`` to ``target`` as one: split by split, the parts in sequence.

    Trajectories are left out: the neighbours were found within each part.

    Args:
        roots: folders of shards, at least two, with the same label set and the same encoders.
        target: the new folder.
        config: where files and row groups are split.
        prefix: insert the corpus into the ids, as in ``train/meld/dia0``, so that corpora that use the same ids can be
            merged.
        overwrite: replace shards that are at ``target``.
        wait: wait for another process that writes there.

    Returns:
        What was left out without being requested, one line each.

    Raises:
        BadSettings: if there are fewer than two parts, or their label sets, encoders or columns differ; the message
            names both folders and both values.
        BadTable: if an id is in two parts, or a folder contains no shards.
        SettingsDiffer: if something is at ``target``.
    """
    if len(roots) < 2:
        raise BadSettings("merging needs at least two folders of shards")
    infos = [reader.info(root) for root in roots]
    parts = [
        _Part(root, info, Facts.of(info), info["corpus"] if prefix else "")
        for root, info in zip(roots, infos, strict=True)
    ]
    for part in parts[1:]:
        _check_fit(parts[0], part)
    _check_ids(parts)
    corpora = list(dict.fromkeys(part.facts.corpus for part in parts))
    faces = parts[0].facts.faces
    same_faces = all(part.facts.faces == faces for part in parts)
    whole = replace(
        parts[0].facts, corpus="+".join(corpora), quality=_quality(parts), faces=faces if same_faces else None
    )
    with new_shards(target, roots, overwrite=overwrite, wait=wait) as folder:
        writing = Rewriting(folder, whole, config)
        for split in SPLITS:
            failed = [_prefixed(read_failures(part.root, split), ["utterance_id"], part.prefix) for part in parts]
            writing.write_split(split, _rows(parts, split, whole), pa.concat_tables(failed))
        settings = {
            "shards": config.model_dump(mode="json", include={"row_group_dialogues", "max_file_bytes"}),
            "merge": {"prefix": prefix},
        }
        writing.finish(settings, {"info": [files.digest(part.info) for part in parts]}, _about(parts, corpora))
    return (
        ["the trajectories were left out: their neighbours were found within each part"]
        if any((root / "trajectories").is_dir() for root in roots)
        else []
    )


def _check_fit(one: _Part, other: _Part) -> None:
    """Checks for the same labels, transcripts in all or none, and vectors by the same encoders."""
    _compare(
        one,
        other,
        "label sets",
        *(f"{part.facts.labels.name} ({', '.join(part.facts.labels.classes)})" for part in (one, other)),
    )
    _compare(one, other, "modalities", *(", ".join(part.facts.dims) for part in (one, other)))
    _compare(one, other, "vector lengths", one.facts.dims, other.facts.dims)
    if one.facts.transcripts != other.facts.transcripts:
        without, holds = (one, other) if other.facts.transcripts else (other, one)
        raise BadSettings(
            f"{without.root} has no transcripts and {holds.root} has; leave them out there, too: merc-shards select"
            f" {holds.root} NEW --no-text"
        )
    _compare(
        one, other, "columns of an audit", *(", ".join(part.facts.quality_columns) or "none" for part in (one, other))
    )
    _compare(
        one, other, "settings of the audit", *((part.facts.quality or {}).get("settings") for part in (one, other))
    )
    for modality in one.facts.dims:
        encoders = [part.facts.encoders[modality] for part in (one, other)]
        for key in _ENCODER_IDENTITY:
            _compare(one, other, f"{modality} encoders, by {key}", *(encoder.get(key) for encoder in encoders))


def _quality(parts: Sequence[_Part]) -> dict[str, Any] | None:
    """What made the audit columns, which are the same in all parts."""
    first = parts[0].facts.quality
    return (
        None
        if first is None
        else {
            **first,
            "fingerprints": [digest for part in parts for digest in (part.facts.quality or {}).get("fingerprints", [])],
        }
    )


def _compare(one: _Part, other: _Part, what: str, has: object, wanted: object) -> None:
    if has != wanted:
        raise BadSettings(f"different {what}: {one.root} has {has}, {other.root} has {wanted}; they cannot be merged")


def _check_ids(parts: Sequence[_Part]) -> None:
    """Checks that no dialogue or utterance id is in two parts."""
    for name in (_DIALOGUE, _UTTERANCES):
        found: list[pa.ChunkedArray] = []
        for part in parts:
            pieces = [
                column(_prefixed(rows, [name], part.prefix), name)
                for split in part.info["splits"]
                for rows in dialogue_rows(part.root, split, part.facts, [name])
            ]
            found.append(
                pa.chunked_array([piece.flatten() if name == _UTTERANCES else piece for piece in pieces], pa.string())
            )
        for index, ids in enumerate(found):
            for before in range(index):
                clash = ids.filter(pc.is_in(ids, value_set=found[before]))
                if len(clash):
                    cure = (
                        ""
                        if parts[index].prefix or parts[index].facts.corpus == parts[before].facts.corpus
                        else "; --prefix puts the corpus into the ids"
                    )
                    raise BadTable(
                        f"{name} {clash[0].as_py()!r} is in {parts[before].root} and in {parts[index].root}"
                        f" ({len(clash)} ids are in both){cure}"
                    )


def _rows(parts: Sequence[_Part], split: str, whole: Facts) -> Iterator[pa.Table]:
    for part in parts:
        for rows in dialogue_rows(part.root, split, part.facts):
            yield _prefixed(rows, [_DIALOGUE, _UTTERANCES], part.prefix).select(whole.schema.names).cast(whole.schema)


def _prefixed(rows: pa.Table, names: Sequence[str], prefix: str) -> pa.Table:
    """The rows with the prefix inserted after the split of their ids; unchanged if it is empty."""
    for name in names if prefix else ():
        values = column(rows, name)
        flat = pc.replace_substring(
            values.flatten() if name == _UTTERANCES else values, "/", f"/{prefix}/", max_replacements=1
        )
        index = rows.schema.get_field_index(name)
        if name == _UTTERANCES:
            offsets = pc.subtract(values.offsets, values.offsets[0])
            flat = pa.ListArray.from_arrays(offsets, flat, type=values.type)
        rows = rows.set_column(index, rows.schema.field(index), flat)
    return rows


def _about(parts: Sequence[_Part], corpora: Sequence[str]) -> dict[str, Any]:
    """What the record of the merged shards says about the corpora and the parts."""
    several = len(corpora) > 1
    settings = {part.facts.corpus: part.info.get("corpus_settings", {}) for part in parts}
    sources = dict.fromkeys(str(part.info.get("source", "")) for part in parts if part.info.get("source"))
    lines = {
        key: dict.fromkeys(
            f"{part.facts.corpus}: {line}" if several else line for part in parts for line in part.info.get(key, [])
        )
        for key in ("deviations", "selection")
    }
    return {
        "source": "\n\n".join(sources),
        **terms_of_all([part.info for part in parts]),
        "corpus_settings": settings if several else settings[corpora[0]],
        "counts_compared": all(part.info.get("counts_compared", True) for part in parts),
        "deviations": list(lines["deviations"]),
        **({"selection": list(lines["selection"])} if lines["selection"] else {}),
        "made_from": [origin(part.info) for part in parts],
    }
