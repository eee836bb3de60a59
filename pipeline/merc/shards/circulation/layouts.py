"""The layouts of circulating feature files, distinguished by their structure, and read into one form.

| layout | file | content |
| --- | --- | --- |
| ``mmgcn`` | MMGCN, MM-DFN, DialogueGCN, DialogueCRN, COGMEN, M3NET: ``IEMOCAP_features.pkl`` | 9 entries, see :data:`SLOTS` |
| ``mmgcn_meld`` | MMGCN, MM-DFN, M3NET: ``MELD_features_raw1.pkl`` | 10, the last one is the sentiment |
| ``bc_lstm_meld`` | bc-LSTM, DialogueRNN: ``MELD_features_raw.pkl`` | 9, text and audio |
| ``cosmic`` | COSMIC: ``iemocap_``, ``emorynlp_``, ``dailydialog_features_roberta.pkl`` | 10, four layers of RoBERTa |
| ``cosmic_meld`` | COSMIC: ``meld_features_roberta.pkl`` | 11, the same with the sentiment |
| ``sdt`` | SDT: ``iemocap_multimodal_features.pkl`` | 12, COSMIC's layers, MMGCN's audio and faces |
| ``sdt_meld`` | SDT: ``meld_multimodal_features.pkl`` | 13, the last one is skipped there |
| ``idcl`` | IDCL: ``data_iemocap.pkl`` | split → list of dictionaries |
| ``meld_baseline`` | MELD's authors: ``text_glove_CNN_emotion.pkl`` and others | see :mod:`merc.shards.circulation.meld_baseline` |

The order of the entries is that of the unpacking in the authors' code: ``dataloader.py`` of butterfliesss/SDT and
feiyuchen7/M3NET, and in declare-lab/conv-emotion ``COSMIC/erc-training/dataloader.py`` and
``bc-LSTM-pytorch/dataloader.py``.

Entries are dictionaries by dialogue, except for the ids of the splits. No file is trusted: numbers of entries, lengths
and types are checked here.
"""  # noqa: E501

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from merc.errors import BadSettings, BadTable
from merc.layout import MODALITIES
from merc.shards.circulation.choices import RobertaLayer

_MMGCN = ("ids", "speakers", "labels", "text", "audio", "visual", "sentences", "train", "test")
_ROBERTA = ("roberta1", "roberta2", "roberta3", "roberta4")
_COSMIC_IDS = ("sentences", "train", "test", "dev")
_SDT = ("ids", "speakers", "labels", *_ROBERTA, "audio", "visual", "sentences", "train", "test")
SLOTS: Mapping[str, tuple[str, ...]] = {
    "mmgcn": _MMGCN,
    "mmgcn_meld": (*_MMGCN, "sentiments"),
    "bc_lstm_meld": ("ids", "speakers", "labels", "text", "audio", "sentences", "train", "test", "sentiments"),
    "cosmic": ("speakers", "labels", *_ROBERTA, *_COSMIC_IDS),
    "cosmic_meld": ("speakers", "labels", "sentiments", *_ROBERTA, *_COSMIC_IDS),
    "sdt": _SDT,
    "sdt_meld": (*_SDT, "sentiments"),
}
IDCL_KEYS = {
    "vid": "key",
    "speakers": "speakers",
    "labels": "labels",
    "text": "text",
    "audio": "audio",
    "visual": "visual",
    "sentence": "sentences",
}
"""Names of the entries in IDCL's dictionaries."""
_NUMBER = re.compile(r"[0-9]{1,18}")
_ADVICE = (
    f"layouts that can be read: {', '.join(f'{name} ({len(slots)} entries)' for name, slots in SLOTS.items())}, "
    "a dictionary of splits (idcl), a dictionary of vectors per split (meld_baseline)"
)

_LAYERS: Mapping[str, RobertaLayer] = {"cosmic": "mean", "cosmic_meld": "mean", "sdt": "1", "sdt_meld": "1"}
"""The entry that the authors' code uses as text."""

_NUMBERS, _TEXTS, _VECTORS, _IDS = "whole numbers by dialogue", "text by dialogue", "vectors by dialogue", "a list"
_HOLDS: Mapping[str, tuple[str, ...]] = {
    "ids": (_TEXTS, _NUMBERS),
    "speakers": (_TEXTS, _VECTORS),
    "labels": (_NUMBERS,),
    **dict.fromkeys((*MODALITIES, *_ROBERTA), (_VECTORS,)),
    "sentences": (_TEXTS,),
    **dict.fromkeys(("train", "dev", "test"), (_IDS,)),
}
"""The kind of an entry's content, judging by its first row; sentiments are not checked, since code that does not use
them leaves other things there.
"""


@dataclass(frozen=True)
class Conversation:
    """A dialogue of N utterances in a file.

    Attributes:
        key: the file's own id: a name (IEMOCAP) or a number (MELD).
        split: ``train``, ``dev``, ``test``; ``train`` may include the dialogues of dev if the file does not distinguish
            them.
        ids: ids of the utterances, names or numbers; empty if the file has none.
        speakers: ``M`` and ``F``, ``0`` and ``1`` (DailyDialog), or the number of a slot.
        labels: class indices.
        sentiments: indices; empty if the file has none.
        sentences: transcripts.
        vectors: modality → float64 [N, D].
        missing: positions of utterances without a vector in the file; filled with zeros.
    """

    key: str | int
    split: str
    ids: tuple[str | int, ...]
    speakers: tuple[str | int, ...]
    labels: tuple[int, ...]
    sentiments: tuple[int, ...]
    sentences: tuple[str, ...]
    vectors: Mapping[str, NDArray[np.float64]]
    missing: tuple[int, ...] = ()


@dataclass(frozen=True)
class FeatureFile:
    """The content of a circulating file.

    Attributes:
        layout: a key of :data:`SLOTS`, ``idcl`` or ``meld_baseline``.
        conversations: those of all splits, in the file's order.
        left_out: keys of dialogues that are in no split.
        has_dev: whether the file distinguishes dev from train.
        layer: RoBERTa layer of the text; None if the file contains none.
        learnt: modality → labels from which its vectors were learnt.
    """

    layout: str
    conversations: tuple[Conversation, ...]
    left_out: tuple[str | int, ...]
    has_dev: bool
    layer: RobertaLayer | None = None
    learnt: Mapping[str, str] = field(default_factory=dict)


def read(content: Any, layer: RobertaLayer | None = None) -> FeatureFile:
    """Reads the content of a pickle in one of the layouts.

    Args:
        content: result of :func:`merc.shards.circulation.unpickling.load`.
        layer: one of COSMIC's four layers of RoBERTa, or their mean; None: the authors' choice, which is the mean for
            COSMIC and the first for SDT.

    Raises:
        BadTable: if it has another structure, lengths disagree, or something has the wrong type.
        BadSettings: if a layer is requested and the layout has none.
    """
    layout = "idcl" if isinstance(content, dict) else _layout_of(content)
    if layer is not None and layout not in _LAYERS:
        raise BadSettings(
            f"--roberta {layer}: the file has the layout {layout}, which has no RoBERTa layers; {', '.join(_LAYERS)}"
            " have"
        )
    return _read_idcl(content) if layout == "idcl" else _read_slots(layout, content, layer or _LAYERS.get(layout))


def _read_slots(layout: str, content: Sequence[Any], layer: RobertaLayer | None) -> FeatureFile:
    """Reads the entries of a list or tuple."""
    slots = dict(zip(SLOTS[layout], content, strict=True))
    splits = {name: _keys(slots.pop(name)) for name in ("train", "dev", "test") if name in slots}
    if not _by_dialogue(slots.get("sentiments"), slots["labels"]):
        slots.pop("sentiments", None)
    conversations = [
        _conversation(key, split, _values_of(key, split, slots), layer)
        for split, keys in splits.items()
        for key in keys
    ]
    placed = {one.key for one in conversations}
    if len(placed) != len(conversations):
        raise BadTable("a dialogue is in two splits, or twice in one")
    left_out = tuple(key for key in map(_key, slots["labels"]) if key not in placed)
    learnt = {"text": "RoBERTa was fine-tuned on the emotion labels of the train split"} if layer else {}
    return checked(FeatureFile(layout, tuple(conversations), left_out, "dev" in splits, layer, learnt))


def _layout_of(content: Any) -> str:
    """The layout of a list or tuple: of those with the same number of entries, the one that most entries fit.

    Raises:
        BadTable: if no layout has this many, there are no labels where expected, or an entry's content does not fit the
            layout.
    """
    if not isinstance(content, list | tuple):
        raise BadTable(f"the file holds a {type(content).__name__}; {_ADVICE}")
    misfits = {layout: dict(_misfits(slots, content)) for layout, slots in SLOTS.items() if len(slots) == len(content)}
    if not misfits:
        raise BadTable(f"the file holds {len(content)} entries; {_ADVICE}")
    with_labels = {layout: found for layout, found in misfits.items() if "labels" not in found}
    if not with_labels:
        places = " and ".join(f"{layout} has them in entry {SLOTS[layout].index('labels') + 1}" for layout in misfits)
        raise BadTable(
            f"the file holds {len(content)} entries, but no labels where they should be: {places}; {_ADVICE}"
        )
    layout = min(with_labels, key=lambda name: len(with_labels[name]))
    if with_labels[layout]:
        raise BadTable(
            f"of the layouts with {len(content)} entries {layout} is the closest, but"
            f" {'; '.join(with_labels[layout].values())}; {_ADVICE}"
        )
    return layout


def _misfits(slots: Sequence[str], content: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """Each entry whose content does not fit the layout, and a description of the problem."""
    for number, (name, entry) in enumerate(zip(slots, content, strict=True), start=1):
        found, wanted = _held(entry), _HOLDS.get(name)
        if wanted is not None and found not in wanted:
            yield name, f"{name} (entry {number} of {len(content)}) is {found} instead of {' or '.join(wanted)}"


def _held(entry: Any) -> str:
    """The kind of an entry's content, by its first row; later rows are checked when they are read."""
    if not isinstance(entry, dict):
        return _IDS if isinstance(entry, list | tuple | set | frozenset | np.ndarray) else f"a {type(entry).__name__}"
    rows = (row for row in entry.values() if isinstance(row, str | list | tuple | np.ndarray) and len(row))
    first = next((row[0] for row in rows), None)
    for kind, types in ((_TEXTS, str), (_VECTORS, list | tuple | np.ndarray), (_NUMBERS, int | np.integer)):
        if isinstance(first, types):
            return kind
    return "a dictionary of something else" if entry else "an empty dictionary"


def _by_dialogue(sentiments: Any, labels: Mapping[Any, Any]) -> bool:
    """Whether an entry has as many numbers as there are labels. MMGCN's code skips its last entry, so it may contain
    other things.
    """
    return _held(sentiments) == _NUMBERS and {key: len(row) for key, row in sentiments.items()} == {
        key: len(row) for key, row in labels.items()
    }


def _keys(value: Any) -> list[str | int]:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    return [_key(one) for one in value]


def _key(value: Any) -> str | int:
    """An id; numeric ids are returned as numbers."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadTable(f"the id of a dialogue is {str(value)[:80]!r}: neither a name nor a number")
    return int(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value


def _values_of(key: str | int, split: str, slots: Mapping[str, Mapping[Any, Any]]) -> dict[str, Any]:
    values = {}
    for name, table in slots.items():
        if key not in table and str(key) not in table:
            raise BadTable(f"the dialogue {key!r} is in {split}, but not in {name}")
        values[name] = table[key] if key in table else table[str(key)]
    return values


def _read_idcl(content: Mapping[Any, Any]) -> FeatureFile:
    if set(content) != {"train", "dev", "test"}:
        raise BadTable(
            f"the file holds a dictionary of {', '.join(str(key)[:20] for key in list(content)[:6]) or 'nothing'};"
            f" {_ADVICE}"
        )
    conversations = []
    for split, samples in content.items():
        if not isinstance(samples, list | tuple):
            raise BadTable(f"{split} is a {type(samples).__name__} instead of a list of dialogues")
        for number, sample in enumerate(samples):
            if not isinstance(sample, dict) or not IDCL_KEYS.keys() <= sample.keys():
                raise BadTable(f"{split}: dialogue {number} is not a dictionary of {', '.join(IDCL_KEYS)}")
            values = {ours: sample[theirs] for theirs, ours in IDCL_KEYS.items()}
            conversations.append(_conversation(_key(values.pop("key")), split, values, None))
    if len({one.key for one in conversations}) != len(conversations):
        raise BadTable("a dialogue is in two splits, or twice in one")
    return checked(FeatureFile("idcl", tuple(conversations), (), True))


def _conversation(key: str | int, split: str, values: dict[str, Any], layer: RobertaLayer | None) -> Conversation:
    """Checks one dialogue's entries against each other."""
    where = f"dialogue {key!r}"
    vectors = {name: _vectors(values[name], f"{where}: {name}") for name in (*MODALITIES, *_ROBERTA) if name in values}
    rows = {
        name: _row(values[name], f"{where}: {name}")
        for name in ("ids", "speakers", "labels", "sentiments", "sentences")
        if name in values
    }
    lengths = {name: len(rows[name]) for name in rows} | {name: len(vectors[name]) for name in vectors}
    if len(set(lengths.values())) != 1:
        raise BadTable(
            f"{where}: its entries differ in length:"
            f" {', '.join(f'{name} {length}' for name, length in lengths.items())}"
        )
    if not lengths["labels"]:
        raise BadTable(f"{where}: holds no utterance")
    if "roberta1" in vectors:
        layers = [vectors.pop(name) for name in _ROBERTA]
        if len({one.shape for one in layers}) != 1:
            raise BadTable(
                f"{where}: the layers of RoBERTa differ in shape: {', '.join(str(one.shape) for one in layers)}"
            )
        vectors["text"] = np.mean(layers, axis=0) if layer in (None, "mean") else layers[int(layer) - 1]
    for name in ("labels", "sentiments"):
        if not all(isinstance(one, int) and not isinstance(one, bool) for one in rows.get(name, ())):
            raise BadTable(f"{where}: {name} are not whole numbers")
    if not all(isinstance(one, str) for one in rows["sentences"]):
        raise BadTable(f"{where}: sentences are not all text")
    if not all(isinstance(one, str | int) for one in rows.get("ids", ())):
        raise BadTable(f"{where}: utterance ids are neither names nor numbers")
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
    """``M``, ``F``, ``0``, ``1``, or the number of the slot that holds the 1."""
    if isinstance(value, str) and value in ("M", "F", "0", "1"):
        return value
    slots = np.asarray(value).tolist() if isinstance(value, list | tuple | np.ndarray) else []
    if sorted(slots, key=str) == [0] * (len(slots) - 1) + [1]:
        return slots.index(1)
    raise BadTable(
        f"{where}: the speaker {str(value)[:80]!r} is neither M nor F, neither 0 nor 1 as text, nor a row of zeros with"
        " a single 1"
    )


def _vectors(value: Any, where: str) -> NDArray[np.float64]:
    """Float64 [N, D] of an array or a list of rows."""
    try:
        values = np.asarray(value)
    except ValueError as error:
        raise BadTable(f"{where}: its rows differ in length") from error
    if values.ndim != 2 or values.dtype.kind not in "fiu" or not values.shape[1]:
        raise BadTable(
            f"{where} is an array of {values.dtype} of the shape {values.shape} instead of numbers [utterances,"
            " features]"
        )
    return values.astype(np.float64)


def checked(file: FeatureFile) -> FeatureFile:
    """The file, if it is not empty and all vectors of a modality have the same length; else ``BadTable``."""
    if not file.conversations:
        raise BadTable("the file holds no dialogue")
    for modality, wrong in _of_other_length(file.conversations):
        raise BadTable(
            f"dialogue {wrong.key!r}: {modality} has {wrong.vectors[modality].shape[1]} features, but others have a"
            " different number"
        )
    return file


def _of_other_length(conversations: Sequence[Conversation]) -> Iterator[tuple[str, Conversation]]:
    for modality, first in conversations[0].vectors.items():
        for one in conversations:
            if one.vectors[modality].shape[1] != first.shape[1]:
                yield modality, one
