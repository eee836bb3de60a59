"""Exports shards as feature files in circulating layouts, so that existing research code runs on our features."""

import io
import pickle
import pickletools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from merc import files
from merc.corpora.engine.iemocap_files import session_of
from merc.errors import BadSettings, BadTable, nearest
from merc.layout import MODALITIES
from merc.records.dialogue import SPLITS
from merc.shards.circulation.choices import FORMATS, Format
from merc.shards.circulation.layouts import IDCL_KEYS, SLOTS
from merc.shards.circulation.naming import MELD_OFFSETS, SENTIMENTS, SPEAKER_SLOTS
from merc.shards.format import reader

PROTOCOL = 2  # readable by Python 2.3 and later

_COLUMNS = ["dialogue_id", "speakers", "speaker_index", "source_utterance_ids", "texts", "emotion_index", "sentiments"]
# Label set → corpus. Not iemocap4_merged: in these files, four classes mean that excited is left out.
_CORPORA = {"iemocap6": "iemocap", "iemocap4": "iemocap", "meld7": "meld"}
_NUMBERED = re.compile(r"dia[0-9]+_(?:utt|turn)([0-9]{1,18})")
_SLOT = re.compile(r"speaker_([0-9]{1,18})")


@dataclass
class Exported:
    """What was written, and what the layouts cannot represent.

    Attributes:
        dialogues, utterances: numbers written.
        unlabelled: number of utterances outside the label set, left out.
        emptied: number of dialogues that had no others, left out.
        absent: modality → number of vectors that represent an absent one.
    """

    dialogues: int = 0
    utterances: int = 0
    unlabelled: int = 0
    emptied: int = 0
    absent: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MODALITIES, 0))


def export(root: Path, path: Path, form: Format, *, absent: Literal["zeros", "nan"] = "zeros") -> Exported:
    """Writes the shards of MELD, of IEMOCAP, or of another corpus with their ids and label sets, as a pickle.

    ``mmgcn`` is the tuple that MMGCN and MM-DFN read; ``cogmen`` the same only for IEMOCAP, as COGMEN's preprocessing
    reads it; ``idcl`` IDCL's dictionary of splits. Vectors are lists of float32 arrays. The training ids of the tuples
    include dev; those of dev come first: code that validates on the first tenth, like COGMEN's and MMGCN's, then uses
    the dev dialogues if they are a tenth.

    Args:
        root: folder of the shards.
        path: the file; it is replaced.
        form: ``mmgcn``, ``cogmen`` or ``idcl``.
        absent: what represents an absent vector: ``zeros``, as research code expects, or ``nan``.

    Raises:
        BadSettings: if the shards lack a modality, or belong to a corpus whose ids or labels the layout cannot
            represent.
        BadTable: if these are not shards, or a dialogue has more than nine speakers.
        CannotWrite: if the file cannot be written.
    """
    info = reader.info(root)
    corpus = _corpus(info, form)
    missing = [modality for modality in MODALITIES if modality not in info["modalities"]]
    if missing:
        raise BadSettings(
            f"{root}: the layout {form} needs {', '.join(MODALITIES)}; these shards have no {' and no '.join(missing)}"
        )
    exported = Exported()
    by_split = {split: list(_samples(root, split, corpus, absent, exported)) for split in reader.splits(root)}
    content = _splits(by_split) if form == "idcl" else _tuple(by_split, corpus)
    with files.replacing(path) as temporary:
        temporary.write_bytes(_portable(pickle.dumps(content, protocol=PROTOCOL)))
    return exported


def _corpus(info: Mapping[str, Any], form: str) -> str:
    if form not in FORMATS:
        raise BadSettings(f"no format {form!r}; {nearest(form, list(FORMATS))}")
    corpus = _CORPORA.get(info["label_set"])
    if corpus is None:
        raise BadSettings(
            f"the layouts hold labels of {', '.join(_CORPORA)}; these shards have {info['label_set']}:"
            f" {', '.join(info['classes'])}"
        )
    if corpus == "meld" and form != "mmgcn":
        raise BadSettings(f"the layout {form} supports only IEMOCAP; write MELD as mmgcn")
    return corpus


def _samples(root: Path, split: str, corpus: str, absent: str, exported: Exported) -> Iterator[dict[str, Any]]:
    """Yields the labelled utterances of each dialogue, slot by slot."""
    columns = [*_COLUMNS, *MODALITIES, *(f"{modality}_present" for modality in MODALITIES)]
    table = reader.read_split(root, split, columns=columns)
    vectors = {modality: reader.vectors_of(table[modality]) for modality in MODALITIES}
    for row, dialogue in enumerate(table.select([name for name in columns if name not in MODALITIES]).to_pylist()):
        labels_N = np.array(dialogue["emotion_index"])
        kept_N = np.flatnonzero(labels_N >= 0)
        exported.unlabelled += len(labels_N) - len(kept_N)
        if not len(kept_N):
            exported.emptied += 1
            continue
        exported.dialogues += 1
        exported.utterances += len(kept_N)
        sample = {
            **_named(dialogue, split, corpus, kept_N),
            "labels": labels_N[kept_N].tolist(),
            "sentences": [dialogue["texts"][turn] for turn in kept_N],
            "sentiments": [dialogue["sentiments"][turn] for turn in kept_N],
        }
        for modality, (values_ND, offsets) in vectors.items():
            present_N = np.array(dialogue[f"{modality}_present"])[kept_N]
            chosen_ND = values_ND[offsets[row] : offsets[row + 1]][kept_N]
            chosen_ND[~present_N] = np.nan if absent == "nan" else 0
            exported.absent[modality] += int((~present_N).sum())
            sample[modality] = list(chosen_ND)
        yield sample


def _named(dialogue: Mapping[str, Any], split: str, corpus: str, kept_N: NDArray[np.intp]) -> dict[str, Any]:
    """Key, ids and speakers of a dialogue in terms of the layouts."""
    name = dialogue["dialogue_id"].partition("/")[2]
    ids = [dialogue["source_utterance_ids"][turn] for turn in kept_N]
    speakers = [dialogue["speakers"][turn] for turn in kept_N]
    if corpus == "iemocap":
        try:
            session_of(name)
        except BadTable as error:
            raise BadSettings(f"the layouts name dialogues as IEMOCAP does: {error}") from error
        letters = [one[-1:] for one in speakers]
        if not {"M", "F"}.issuperset(letters):
            raise BadSettings(
                f"the layouts have the speakers M and F; {dialogue['dialogue_id']} has"
                f" {', '.join(sorted(set(speakers)))}"
            )
        return {"key": name, "ids": ids, "speakers": letters}
    numbers = [_NUMBERED.fullmatch(one) for one in ids]
    if not re.fullmatch(r"dia[0-9]{1,18}", name) or not all(numbers):
        raise BadSettings(
            f"the layout numbers dialogues and utterances as MELD does, dia0 and dia0_utt0; these shards hold {name!r}"
            f" and {ids[0]!r}"
        )
    found = [_SLOT.fullmatch(one) for one in speakers]
    # Imported shards keep their original slots; other speakers are numbered by appearance.
    slots = (
        [int(one[1]) for one in found if one] if all(found) else [dialogue["speaker_index"][turn] for turn in kept_N]
    )
    if max(slots) >= SPEAKER_SLOTS:
        raise BadTable(
            f"{dialogue['dialogue_id']} has {max(slots) + 1} speakers; the layout has only {SPEAKER_SLOTS} slots"
        )
    one_hot = np.eye(SPEAKER_SLOTS, dtype=int)[slots].tolist()
    return {
        "key": int(name[3:]) + MELD_OFFSETS[split],
        "ids": [int(one[1]) for one in numbers if one],
        "speakers": one_hot,
    }


def _tuple(by_split: Mapping[str, list[dict[str, Any]]], corpus: str) -> tuple[Any, ...]:
    """MMGCN's entries, in their order (:data:`merc.shards.circulation.layouts.SLOTS`)."""
    keys = {split: [sample["key"] for sample in samples] for split, samples in by_split.items()}
    splits: dict[str, Any] = {"train": keys.get("dev", []) + keys.get("train", []), "test": keys.get("test", [])}
    samples = [sample for of_split in by_split.values() for sample in of_split]
    entries = splits | {
        name: {sample["key"]: sample[name] for sample in samples} for name in SLOTS["mmgcn_meld"] if name not in splits
    }
    if any(one not in SENTIMENTS for row in entries["sentiments"].values() for one in row):
        entries["sentiments"] = {}
    entries["sentiments"] = {key: [SENTIMENTS.index(one) for one in row] for key, row in entries["sentiments"].items()}
    return tuple(entries[name] for name in SLOTS["mmgcn_meld" if corpus == "meld" else "mmgcn"])


def _splits(by_split: Mapping[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """IDCL's dictionary, which has all three splits; its dialogues have no ids of utterances."""
    return {
        split: [{theirs: sample[ours] for theirs, ours in IDCL_KEYS.items()} for sample in by_split.get(split, [])]
        for split in SPLITS
    }


def _portable(data: bytes) -> bytes:
    """The pickle with numpy's functions under their names from before numpy 2, which numpy 2 still knows."""
    pieces, end = [], 0
    for opcode, argument, position in pickletools.genops(io.BytesIO(data)):
        if opcode.name == "GLOBAL" and position is not None and str(argument).startswith("numpy._core."):
            begin = position + len(b"c")
            pieces += [data[end:begin], b"numpy.core."]
            end = begin + len(b"numpy._core.")
    return b"".join([*pieces, data[end:]])
