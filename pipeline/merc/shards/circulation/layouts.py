"""The layouts of feature files in circulation, told apart by their structure, and read into one form.

| layout | file | content |
| --- | --- | --- |
| ``mmgcn`` | MMGCN, MM-DFN, DialogueGCN, DialogueCRN, COGMEN: ``IEMOCAP_features.pkl`` | 9 entries, see :data:`SLOTS` |
| ``mmgcn_meld`` | MMGCN, MM-DFN: ``MELD_features_raw1.pkl`` | 10, the last one is the sentiment |
| ``cosmic``, ``cosmic_meld`` | COSMIC: ``iemocap_features_roberta.pkl``, ``meld_features_roberta.pkl`` | 10 and 11, four layers of RoBERTa |
| ``idcl`` | IDCL: ``data_iemocap.pkl`` | split → list of dictionaries |

Entries are dictionaries by dialogue, but for the ids of the splits. No file is trusted: numbers of entries, lengths and types are checked here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from merc.errors import BadTable
from merc.layout import MODALITIES

_MMGCN = ("ids", "speakers", "labels", "text", "audio", "visual", "sentences", "train", "test")
_ROBERTA = ("roberta1", "roberta2", "roberta3", "roberta4")
_COSMIC_IDS = ("sentences", "train", "test", "dev")
SLOTS: Mapping[str, tuple[str, ...]] = {
    "mmgcn": _MMGCN,
    "mmgcn_meld": (*_MMGCN, "sentiments"),
    "cosmic": ("speakers", "labels", *_ROBERTA, *_COSMIC_IDS),
    "cosmic_meld": ("speakers", "labels", "sentiments", *_ROBERTA, *_COSMIC_IDS),
}
IDCL_KEYS = {"vid": "key", "speakers": "speakers", "labels": "labels", "text": "text", "audio": "audio", "visual": "visual", "sentence": "sentences"}
"""What IDCL's dictionaries call the entries."""
_ADVICE = "layouts that can be read: 9 or 10 entries of MMGCN or COGMEN, 10 or 11 of COSMIC, a dictionary of splits of IDCL"

RobertaLayer = Literal["mean", "1", "2", "3", "4"]


@dataclass(frozen=True)
class Conversation:
    """A dialogue of N utterances as a file holds it.

    Attributes:
        key: the file's own id: a name (IEMOCAP) or a number (MELD).
        split: ``train``, ``dev``, ``test``; ``train`` may hold the dialogues of dev, where the file tells them not apart.
        ids: of the utterances, names or numbers; empty where the file has none.
        speakers: ``M`` and ``F``, or the number of a slot.
        labels: class indices.
        sentiments: indices; empty where the file has none.
        sentences: transcripts.
        vectors: modality → float64 [N, D].
    """

    key: str | int
    split: str
    ids: tuple[str | int, ...]
    speakers: tuple[str | int, ...]
    labels: tuple[int, ...]
    sentiments: tuple[int, ...]
    sentences: tuple[str, ...]
    vectors: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class FeatureFile:
    """What a file in circulation holds.

    Attributes:
        layout: a key of :data:`SLOTS`, or ``idcl``.
        conversations: of all splits, in the file's order.
        left_out: keys of dialogues that are in no split.
        has_dev: whether the file tells dev from train.
    """

    layout: str
    conversations: tuple[Conversation, ...]
    left_out: tuple[str | int, ...]
    has_dev: bool


def read(content: Any, layer: RobertaLayer = "mean") -> FeatureFile:
    """Reads the content of a pickle in one of the layouts.

    Args:
        content: what :func:`merc.shards.circulation.unpickling.load` gave.
        layer: of COSMIC's four layers of RoBERTa: one of them, or their mean, as COSMIC uses them.

    Raises:
        BadTable: if it has another structure, lengths disagree, or something is not of the type that it should be.
    """
    if isinstance(content, dict):
        return _read_idcl(content)
    layout = _layout_of(content)
    slots = dict(zip(SLOTS[layout], content, strict=True))
    splits = {name: _keys(slots.pop(name), name) for name in ("train", "dev", "test") if name in slots}
    if not _by_dialogue(slots.get("sentiments"), slots["labels"]):
        slots.pop("sentiments", None)
    for name, table in slots.items():
        if not isinstance(table, dict):
            raise BadTable(f"{name} (entry {SLOTS[layout].index(name) + 1} of {len(content)}) is a {type(table).__name__} instead of a dictionary by dialogue")
    conversations = [_conversation(key, split, _values_of(key, split, slots), layer) for split, keys in splits.items() for key in keys]
    placed = {one.key for one in conversations}
    if len(placed) != len(conversations):
        raise BadTable("a dialogue is in two splits, or twice in one")
    left_out = tuple(key for key in map(_key, slots["labels"]) if key not in placed)
    return _checked(FeatureFile(layout, tuple(conversations), left_out, "dev" in splits))


def _layout_of(content: Any) -> str:
    """The layout of a list or tuple. MMGCN's for MELD and COSMIC's for IEMOCAP both have ten entries, of which COSMIC's second holds the labels."""
    if not isinstance(content, list | tuple):
        raise BadTable(f"the file holds a {type(content).__name__}; {_ADVICE}")
    for layout, slots in SLOTS.items():
        if len(content) == len(slots) and _holds_numbers(content[slots.index("labels")]):
            return layout
    raise BadTable(f"the file holds {len(content)} entries, and no labels where they should be; {_ADVICE}")


def _holds_numbers(table: Any) -> bool:
    """Whether an entry is a dictionary of rows of whole numbers, as labels are."""
    first = next(iter(table.values()), None) if isinstance(table, dict) else None
    return isinstance(first, list | tuple | np.ndarray) and len(first) > 0 and isinstance(first[0], int | np.integer)


def _by_dialogue(sentiments: Any, labels: Mapping[Any, Any]) -> bool:
    """Whether an entry has as many numbers as there are labels. MMGCN's code passes over its last entry, so that other things may stand there."""
    return _holds_numbers(sentiments) and {key: len(row) for key, row in sentiments.items()} == {key: len(row) for key, row in labels.items()}


def _keys(value: Any, name: str) -> list[str | int]:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple | set | frozenset | dict):
        raise BadTable(f"the ids of {name} are a {type(value).__name__} instead of a list or a set")
    return [_key(one) for one in value]


def _key(value: Any) -> str | int:
    """An id; one that is a number is given as such."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadTable(f"the id of a dialogue is {str(value)[:80]!r}: neither a name nor a number")
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


def _values_of(key: str | int, split: str, slots: Mapping[str, Mapping[Any, Any]]) -> dict[str, Any]:
    values = {}
    for name, table in slots.items():
        if key not in table and str(key) not in table:
            raise BadTable(f"the dialogue {key!r} is in {split}, but not in {name}")
        values[name] = table[key] if key in table else table[str(key)]
    return values


def _read_idcl(content: Mapping[Any, Any]) -> FeatureFile:
    if set(content) != {"train", "dev", "test"}:
        raise BadTable(f"the file holds a dictionary of {', '.join(str(key)[:20] for key in list(content)[:6]) or 'nothing'}; {_ADVICE}")
    conversations = []
    for split, samples in content.items():
        if not isinstance(samples, list | tuple):
            raise BadTable(f"{split} is a {type(samples).__name__} instead of a list of dialogues")
        for number, sample in enumerate(samples):
            if not isinstance(sample, dict) or not IDCL_KEYS.keys() <= sample.keys():
                raise BadTable(f"{split}: dialogue {number} is no dictionary of {', '.join(IDCL_KEYS)}")
            values = {ours: sample[theirs] for theirs, ours in IDCL_KEYS.items()}
            conversations.append(_conversation(_key(values.pop("key")), split, values, "mean"))
    if len({one.key for one in conversations}) != len(conversations):
        raise BadTable("a dialogue is in two splits, or twice in one")
    return _checked(FeatureFile("idcl", tuple(conversations), (), True))


def _conversation(key: str | int, split: str, values: dict[str, Any], layer: RobertaLayer) -> Conversation:
    """Checks one dialogue's entries against each other."""
    where = f"dialogue {key!r}"
    vectors = {name: _vectors(values[name], f"{where}: {name}") for name in (*MODALITIES, *_ROBERTA) if name in values}
    rows = {name: _row(values[name], f"{where}: {name}") for name in ("ids", "speakers", "labels", "sentiments", "sentences") if name in values}
    lengths = {name: len(rows[name]) for name in rows} | {name: len(vectors[name]) for name in vectors}
    if len(set(lengths.values())) != 1:
        raise BadTable(f"{where}: its entries differ in length: {', '.join(f'{name} {length}' for name, length in lengths.items())}")
    if not lengths["labels"]:
        raise BadTable(f"{where}: holds no utterance")
    if "roberta1" in vectors:
        layers = [vectors.pop(name) for name in _ROBERTA]
        if len({one.shape for one in layers}) != 1:
            raise BadTable(f"{where}: the layers of RoBERTa differ in shape: {', '.join(str(one.shape) for one in layers)}")
        vectors["text"] = np.mean(layers, axis=0) if layer == "mean" else layers[int(layer) - 1]
    for name in ("labels", "sentiments"):
        if not all(isinstance(one, int) and not isinstance(one, bool) for one in rows.get(name, ())):
            raise BadTable(f"{where}: {name} are not whole numbers")
    if not all(isinstance(one, str) for one in rows["sentences"]):
        raise BadTable(f"{where}: sentences are not all text")
    if not all(isinstance(one, str | int) for one in rows.get("ids", ())):
        raise BadTable(f"{where}: ids of utterances are neither names nor numbers")
    return Conversation(
        key=key,
        split=split,
        ids=tuple(rows.get("ids", ())),
        speakers=tuple(_speaker(one, where) for one in rows["speakers"]),
        labels=tuple(rows["labels"]),
        sentiments=tuple(rows.get("sentiments", ())),
        sentences=tuple(rows["sentences"]),
        vectors=vectors,
    )


def _row(value: Any, where: str) -> Sequence[Any]:
    """One entry per utterance, with Python's numbers and strings."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        raise BadTable(f"{where} is a {type(value).__name__} instead of a list")
    return value


def _speaker(value: Any, where: str) -> str | int:
    """``M``, ``F``, or the number of the slot that holds the 1."""
    if isinstance(value, str) and value in ("M", "F"):
        return value
    slots = np.asarray(value).tolist() if isinstance(value, list | tuple | np.ndarray) else []
    if sorted(slots, key=str) == [0] * (len(slots) - 1) + [1]:
        return slots.index(1)
    raise BadTable(f"{where}: the speaker {str(value)[:80]!r} is neither M nor F, nor a row of zeros with a single 1")


def _vectors(value: Any, where: str) -> NDArray[np.float64]:
    """Float64 [N, D] of an array or a list of rows."""
    try:
        values = np.asarray(value)
    except ValueError as error:
        raise BadTable(f"{where}: its rows differ in length") from error
    if values.ndim != 2 or values.dtype.kind not in "fiu" or not values.shape[1]:
        raise BadTable(f"{where} is an array of {values.dtype} of the shape {values.shape} instead of numbers [utterances, features]")
    return values.astype(np.float64)


def _checked(file: FeatureFile) -> FeatureFile:
    """The file, if it holds anything and all its vectors of a modality have one length."""
    if not file.conversations:
        raise BadTable("the file holds no dialogue")
    for modality, wrong in _of_other_length(file.conversations):
        raise BadTable(f"dialogue {wrong.key!r}: {modality} has {wrong.vectors[modality].shape[1]} features, others have other numbers")
    return file


def _of_other_length(conversations: Sequence[Conversation]) -> Iterator[tuple[str, Conversation]]:
    for modality, first in conversations[0].vectors.items():
        for one in conversations:
            if one.vectors[modality].shape[1] != first.shape[1]:
                yield modality, one
