"""Combines modalities of two shards of one corpus: M3NET, for example, takes its text from COSMIC's file, and its audio
and faces from MMGCN's.

Utterances are matched by their ids. Circulating files may have none; the import numbers such utterances in their
dialogue (``dia0_turn3``), and they are matched by position, in dialogues of equal length in which all labels must be
equal. If ids match, a few labels may differ, as between releases of a corpus (MELD's ``data_emotion.p`` and its tables
differ in one label).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from merc import files
from merc.errors import BadSettings, BadTable, nearest
from merc.layout import MODALITIES
from merc.records import failures
from merc.records import features as feature_tables
from merc.records.dialogue import SPLITS
from merc.records.feature_parts import Vectors
from merc.shards.config import Config
from merc.shards.facts import Facts, dialogue_rows
from merc.shards.format import reader
from merc.shards.format.row_groups import column
from merc.shards.format.schema import TRANSCRIPTS
from merc.shards.rewriting import Rewriting, read_failures
from merc.shards.select import origin, terms_of_all
from merc.shards.target import new_shards

_COMPARED = ["dialogue_id", "utterance_ids", "source_utterance_ids", "speaker_index", "emotion_index"]
_LABELS = "utterances have other labels"
_SHOWN = 3  # examples of each kind of difference
_OTHER_LABELS = 0.01  # share of utterances; more would be another annotation, or other utterances with the same ids


@dataclass(frozen=True)
class _Side:
    """One of the two shards."""

    root: Path
    info: Mapping[str, Any]
    facts: Facts

    @classmethod
    def of(cls, root: Path) -> "_Side":
        info = reader.info(root)
        return cls(root, info, Facts.of(info))

    @property
    def splits(self) -> list[str]:
        return [split for split in SPLITS if split in self.info["splits"]]


@dataclass(frozen=True)
class _Dialogue:
    """The compared data of a dialogue; ``start`` is the index of its first utterance in its shards."""

    start: int
    utterance_ids: list[str]
    source_ids: list[str]
    speakers: list[int]
    labels: list[int]
    texts: list[str] | None

    def is_numbered(self, name: str) -> bool:
        """Whether its utterances have no ids except their positions, assigned by an import."""
        return self.source_ids == [f"{name}_turn{turn}" for turn in range(len(self.source_ids))]


@dataclass
class _Differences:
    """The differences: kind, in words that follow a number → places; ``labels``: utterances matched by id with
    different labels.
    """

    faults: dict[str, list[str]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)

    def told(self, kinds: Mapping[str, Sequence[str]]) -> list[str]:
        return [
            f"{len(found)} {kind}: {', '.join(found[:_SHOWN])}{', …' if len(found) > _SHOWN else ''}"
            for kind, found in kinds.items()
            if found
        ]


def join_modalities(
    one: Path,
    other: Path,
    target: Path,
    config: Config,
    *,
    modalities: Sequence[str] = (),
    overwrite: bool = False,
    wait: bool = False,
) -> list[str]:
    """Writes the shards in ``one`` to ``target``, with modalities of the shards in ``other``.

    Ids, splits, speakers, labels, texts and times are those of ``one``. Failure rows and encoders are copied with their
    vectors; counts, statistics, card and checksums are recomputed. Trajectories are left out, since neighbours may have
    been found by vectors that are no longer there. The vectors from ``other`` are in memory; everything else is read
    one row group at a time.

    Args:
        one, other: folders of shards of one corpus, with the same label set and the same dialogues in the same splits.
        target: the new folder.
        config: where files and row groups are cut.
        modalities: modalities to take from ``other``; they replace those of ``one``. By default those that ``one``
            lacks.
        overwrite: replace shards that are at ``target``.
        wait: until another process that writes there has finished.

    Returns:
        Differences that were resolved in favour of ``one``, and what was left out, one line each.

    Raises:
        BadSettings: if the corpora or label sets differ, or there is no such modality, or none that ``one`` lacks.
        BadTable: if the dialogues, utterances or labels differ, with a list of the differences; or if a folder contains
            no shards.
        SettingsDiffer: if something is at ``target``.
    """
    first, second = _Side.of(one), _Side.of(other)
    _check_fit(first, second)
    taken = _taken(first, second, modalities)
    dialogues = dict(_dialogues(first)), dict(_dialogues(second))
    places, notes = _matched(first, second, *dialogues)
    vectors = _vectors(second, taken)
    ids = _renamed(*dialogues, places)
    whole = _together(first.facts, second.facts, taken)
    if (one / "trajectories").is_dir():
        notes.append("the trajectories were left out: their neighbours may have been found with other vectors")
    with new_shards(target, [one, other], overwrite=overwrite, wait=wait) as folder:
        writing = Rewriting(folder, whole, config)
        for split in first.splits:
            writing.write_split(
                split, _rows(first, split, whole, vectors, places), _failures(first, second, split, taken, ids)
            )
        settings = {
            "shards": config.model_dump(mode="json", include={"row_group_dialogues", "max_file_bytes"}),
            "join": {"modalities": taken},
        }
        inputs = {"info": [files.digest(dict(side.info)) for side in (first, second)]}
        stats = {**reader.stats(one), **{modality: reader.stats(other)[modality] for modality in taken}}
        writing.finish(settings, inputs, _about(first, second) | {"notes": notes}, stats)
    return notes


def _check_fit(first: _Side, second: _Side) -> None:
    for what, found in (
        ("corpora", [side.facts.corpus for side in (first, second)]),
        (
            "label sets",
            [f"{side.facts.labels.name} ({', '.join(side.facts.labels.classes)})" for side in (first, second)],
        ),
    ):
        if found[0] != found[1]:
            raise BadSettings(
                f"different {what}: {first.root} has {found[0]}, {second.root} has {found[1]}; modalities can be"
                " joined only within one corpus"
            )


def _taken(first: _Side, second: _Side, wanted: Sequence[str]) -> list[str]:
    """The modalities taken from the second."""
    has = list(second.facts.dims)
    for name in wanted:
        if name not in has:
            raise BadSettings(f"--modalities: {second.root} has no {name!r}; {nearest(name, has)}")
    taken = [name for name in has if (name in wanted if wanted else name not in first.facts.dims)]
    if not taken:
        raise BadSettings(
            f"{first.root} has all that {second.root} has ({', '.join(has)}); choose with --modalities which of these"
            " replace its own"
        )
    return taken


def _together(first: Facts, second: Facts, taken: Sequence[str]) -> Facts:
    source = {
        modality: second if modality in taken else first
        for modality in MODALITIES
        if modality in taken or modality in first.dims
    }
    return replace(
        first,
        dims={modality: facts.dims[modality] for modality, facts in source.items()},
        encoders={modality: facts.encoders[modality] for modality, facts in source.items()},
    )


def _dialogues(side: _Side) -> Iterator[tuple[str, _Dialogue]]:
    """Dialogue id → dialogue, in the order of the shards."""
    columns = [*_COMPARED, *([TRANSCRIPTS] if side.facts.transcripts else [])]
    start = 0
    for split in side.splits:
        for rows in dialogue_rows(side.root, split, side.facts, columns):
            for row in rows.to_pylist():
                yield (
                    row["dialogue_id"],
                    _Dialogue(
                        start=start,
                        utterance_ids=row["utterance_ids"],
                        source_ids=row["source_utterance_ids"],
                        speakers=row["speaker_index"],
                        labels=row["emotion_index"],
                        texts=row.get(TRANSCRIPTS),
                    ),
                )
                start += len(row["utterance_ids"])


def _matched(
    first: _Side, second: _Side, ours: Mapping[str, _Dialogue], theirs: Mapping[str, _Dialogue]
) -> tuple[dict[str, NDArray[np.int64]], list[str]]:
    """For each dialogue of the first, the indices of its utterances among all of the second.

    Returns:
        Dialogue id → int64 [T]; and notes on harmless differences.

    Raises:
        BadTable: if there are other differences; the message lists them.
    """
    found = _Differences()
    _compare_dialogues(found, first, second, ours, theirs)
    places: dict[str, NDArray[np.int64]] = {}
    for name in (name for name in ours if name in theirs):
        turns = _turns(name, ours[name], theirs[name])
        if turns is None:
            kind = f"dialogues have other utterances in {second.root}"
            found.faults.setdefault(kind, []).append(
                f"{name} ({len(ours[name].labels)} and {len(theirs[name].labels)})"
            )
            continue
        places[name] = theirs[name].start + turns
        _compare_utterances(found, first.root, ours[name], theirs[name], turns.tolist(), name)
    many = len(found.labels) > _OTHER_LABELS * sum(len(one.labels) for one in ours.values())
    found.faults.setdefault(_LABELS, []).extend(found.labels if many else [])
    found.notes[f"{_LABELS}; those of {first.root} were kept"] = [] if many else found.labels
    faults = found.told(found.faults)
    if faults:
        raise BadTable("\n  ".join([f"{second.root} does not fit {first.root}; nothing was written:", *faults]))
    return places, found.told(found.notes)


def _compare_dialogues(
    found: _Differences, first: _Side, second: _Side, ours: Mapping[str, _Dialogue], theirs: Mapping[str, _Dialogue]
) -> None:
    missing, strange = ([name for name in one if name not in other] for one, other in ((ours, theirs), (theirs, ours)))
    elsewhere = {name.partition("/")[2]: name for name in strange}
    moved = {name: elsewhere[name.partition("/")[2]] for name in missing if name.partition("/")[2] in elsewhere}
    found.faults |= {
        f"dialogues are in another split in {second.root} (of IEMOCAP, --validation of the import decides)": [
            f"{name} is {there}" for name, there in moved.items()
        ],
        f"dialogues are only in {first.root}": [name for name in missing if name not in moved],
        f"dialogues are only in {second.root}": [name for name in strange if name not in moved.values()],
    }


def _turns(dialogue_id: str, ours: _Dialogue, theirs: _Dialogue) -> NDArray[np.int64] | None:
    """For each of our utterances, the matching one of theirs; None if they do not match."""
    name = dialogue_id.rpartition("/")[2]
    if len(ours.source_ids) != len(theirs.source_ids):
        return None
    if set(ours.source_ids) == set(theirs.source_ids):
        place = {one: index for index, one in enumerate(theirs.source_ids)}
        return np.array([place[one] for one in ours.source_ids], dtype=np.int64)
    return np.arange(len(ours.source_ids)) if ours.is_numbered(name) or theirs.is_numbered(name) else None


def _compare_utterances(
    found: _Differences, root: Path, ours: _Dialogue, theirs: _Dialogue, turns: Sequence[int], name: str
) -> None:
    """Records the differences in the utterances of one dialogue."""
    labels = [ours.utterance_ids[turn] for turn, there in enumerate(turns) if ours.labels[turn] != theirs.labels[there]]
    if ours.source_ids == [theirs.source_ids[turn] for turn in turns]:
        found.labels += labels
    else:
        found.faults.setdefault(_LABELS, []).extend(labels)
        found.notes.setdefault(
            "dialogues were matched by the order of their utterances, since one side has no utterance ids", []
        ).append(name)
    if ours.texts is not None and theirs.texts is not None:
        texts = [
            ours.utterance_ids[turn] for turn, there in enumerate(turns) if ours.texts[turn] != theirs.texts[there]
        ]
        found.notes.setdefault(f"utterances have other texts; those of {root} were kept", []).extend(texts)
    if ours.speakers != _numbered([theirs.speakers[turn] for turn in turns]):
        found.notes.setdefault(
            f"dialogues have their utterances assigned to other speakers; those of {root} were kept", []
        ).append(name)


def _numbered(speakers: Sequence[int]) -> list[int]:
    """Speakers numbered by appearance, as in every dialogue of shards; in another order of utterances they must be
    renumbered.
    """
    order = list(dict.fromkeys(speakers))
    return [order.index(one) for one in speakers]


def _renamed(
    ours: Mapping[str, _Dialogue], theirs: Mapping[str, _Dialogue], places: Mapping[str, NDArray[np.int64]]
) -> dict[str, str]:
    """The second's utterance ids → the first's."""
    return {
        theirs[name].utterance_ids[there]: ours[name].utterance_ids[turn]
        for name, found in places.items()
        for turn, there in enumerate((found - theirs[name].start).tolist())
    }


def _vectors(side: _Side, modalities: Sequence[str]) -> dict[str, Vectors]:
    """All vectors of each modality, in the order of the shards."""
    names = [name for modality in modalities for name in (modality, f"{modality}_present")]
    pieces = [rows for split in side.splits for rows in dialogue_rows(side.root, split, side.facts, names)]
    return {
        modality: Vectors(
            np.concatenate([reader.vectors_of(rows[modality])[0] for rows in pieces]),
            np.concatenate(
                [column(rows, f"{modality}_present").flatten().to_numpy(zero_copy_only=False) for rows in pieces]
            ),
        )
        for modality in modalities
    }


def _rows(
    side: _Side, split: str, whole: Facts, vectors: Mapping[str, Vectors], places: Mapping[str, NDArray[np.int64]]
) -> Iterator[pa.Table]:
    """The first's dialogues of a split, with the vectors of the second."""
    for rows in dialogue_rows(side.root, split, side.facts):
        picked_N = np.concatenate([places[name] for name in rows["dialogue_id"].to_pylist()])
        offsets = pa.array(np.r_[0, np.cumsum(rows["n_utterances"].to_numpy())].astype(np.int32))
        columns = {name: rows[name] for name in rows.column_names}
        for modality, found in vectors.items():
            for name, values in (
                (modality, feature_tables.vectors(found.values[picked_N])),
                (f"{modality}_present", pa.array(found.present[picked_N])),
            ):
                columns[name] = pa.ListArray.from_arrays(offsets, values, type=whole.schema.field(name).type)
        yield pa.table({name: columns[name] for name in whole.schema.names}).cast(whole.schema)


def _failures(first: _Side, second: _Side, split: str, taken: Sequence[str], ids: Mapping[str, str]) -> pa.Table:
    """The rows of both on the vectors that each contributes, and the first's on the annotations; by utterance, the
    first's before the second's.
    """
    own = [
        row
        for row in read_failures(first.root, split).to_pylist()
        if row["modality"] not in taken or _on_annotations(row)
    ]
    others = [
        {**row, "utterance_id": ids[row["utterance_id"]]}
        for row in read_failures(second.root, split).to_pylist()
        if row["modality"] in (*taken, "all") and not _on_annotations(row)
    ]
    place = {name: index for index, name in enumerate(ids.values())}
    known = {tuple(row.values()) for row in own}
    rows = own + [row for row in others if tuple(row.values()) not in known]
    return failures.table(sorted(rows, key=lambda row: place[row["utterance_id"]]))


def _on_annotations(row: Mapping[str, Any]) -> bool:
    """Whether a failure row is about a repaired annotation, not about a vector."""
    return bool(row["stage"] == "manifest" and row["kind"] == "altered")


def _about(first: _Side, second: _Side) -> dict[str, Any]:
    """What the record says about the corpus and both shards."""
    sides = (first, second)
    return {
        "source": "\n\n".join(dict.fromkeys(str(side.info["source"]) for side in sides if side.info.get("source"))),
        **terms_of_all([side.info for side in sides]),
        "corpus_settings": first.info.get("corpus_settings", {}),
        "counts_compared": first.info.get("counts_compared", True),
        "deviations": first.info.get("deviations", []),
        **({"selection": first.info["selection"]} if first.info.get("selection") else {}),
        "made_from": [origin(side.info) for side in sides],
    }
