"""The pickles of MELD's own baseline (declare-lab/MELD, ``baseline/data_helpers.py``, and its README on pickle files).

- ``text_glove_average_emotion.pkl``, ``text_glove_CNN_emotion.pkl``,
  ``audio_embeddings_feature_selection_emotion.pkl``: a dictionary for each of train, val and test,
  ``<dialogue>_<utterance>`` → vector.
- ``text_emotion.pkl``, ``audio_emotion.pkl``: the same by dialogue, with rows in the order of the utterances, padded to
  the longest dialogue.
- ``data_emotion.p``: six entries, the first a list of dictionaries (``text, split, y, dialog, utterance``), the last
  label → index.

The files contain only vectors; labels and texts come from ``data_emotion.p``. None of them has speakers.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from merc.corpora.engine.labels import label_set
from merc.errors import BadSettings, BadTable, nearest
from merc.layout import MODALITIES
from merc.shards.circulation.layouts import Conversation, FeatureFile, checked
from merc.shards.circulation.naming import MELD_OFFSETS

LAYOUT = "meld_baseline"
UNKNOWN_SPEAKER = "unknown"
_SPLITS = {"train": "train", "val": "dev", "test": "test"}
_ENTRIES = 6  # of data_emotion.p
_FIELDS = {"text", "split", "y", "dialog", "utterance"}
_AVERAGES = "text_glove_average"  # the only kind of file that was made without labels
_LEARNT = "made or chosen by models that MELD's authors trained on labels of the train split (their README)"


def is_one(content: Any) -> bool:
    """Whether a pickle contains three dictionaries, as MELD's features do."""
    return (
        isinstance(content, list | tuple)
        and len(content) == len(_SPLITS)
        and all(isinstance(one, dict) for one in content)
    )


def modality_of(file_name: str, wanted: str | None) -> str:
    """The modality of a file: the requested one, else the first word of the file's name.

    Raises:
        BadSettings: if that is not a modality.
    """
    name = wanted or file_name.partition("_")[0].lower()
    if name not in MODALITIES:
        raise BadSettings(
            "--modality: neither the file nor its name gives the modality of its vectors;"
            f" {nearest(name, list(MODALITIES))}"
        )
    return name


def read(content: Any, annotations: Any, file_name: str, wanted: str | None = None) -> FeatureFile:
    """Combines the vectors of one file with the labels and texts of ``data_emotion.p``.

    Args:
        content: three dictionaries of vectors.
        annotations: content of ``data_emotion.p``.
        file_name: indicates the modality, and whether labels were used.
        wanted: the modality, if the name does not indicate it.

    Returns:
        All utterances in ``annotations``; those without a vector are reported.

    Raises:
        BadTable: if one of the two has another structure, or there is a vector of an utterance or dialogue that is not
            in ``annotations``.
        BadSettings: if the modality is not given.
    """
    modality = modality_of(file_name, wanted)
    annotated = _annotated(annotations)
    conversations: list[Conversation] = []
    for (theirs, split), table in zip(_SPLITS.items(), content, strict=True):
        vectors = _by_utterance(theirs, table, annotated[split])
        if not vectors:
            raise BadTable(f"{theirs}: there is no vector for any utterance of data_emotion.p")
        dim = len(next(iter(vectors.values())))
        for dialogue, rows in sorted(annotated[split].items()):
            conversations.append(_conversation(split, dialogue, rows, modality, vectors, dim))
    return checked(
        FeatureFile(
            LAYOUT, tuple(conversations), (), True, None, {} if file_name.startswith(_AVERAGES) else {modality: _LEARNT}
        )
    )


def _conversation(
    split: str,
    dialogue: int,
    rows: Mapping[int, Mapping[str, Any]],
    modality: str,
    vectors: Mapping[tuple[int, int], Any],
    dim: int,
) -> Conversation:
    turns = sorted(rows)
    values_ND = np.zeros((len(turns), dim))
    for position, turn in enumerate(turns):
        if (dialogue, turn) in vectors:
            values_ND[position] = vectors[dialogue, turn]
    classes = label_set("meld7").classes
    return Conversation(
        key=dialogue + MELD_OFFSETS[split],
        split=split,
        ids=tuple(turns),
        speakers=(UNKNOWN_SPEAKER,) * len(turns),
        labels=tuple(classes.index(rows[turn]["y"]) for turn in turns),
        sentiments=(),
        sentences=tuple(rows[turn]["text"] for turn in turns),
        vectors={modality: values_ND},
        missing=tuple(position for position, turn in enumerate(turns) if (dialogue, turn) not in vectors),
    )


def _annotated(content: Any) -> dict[str, dict[int, dict[int, Mapping[str, Any]]]]:
    """Split → dialogue → number of the utterance → its row of ``data_emotion.p``."""
    if not isinstance(content, list | tuple) or len(content) != _ENTRIES or not isinstance(content[0], list):
        raise BadTable(
            f"--annotations: this is not data_emotion.p, which holds {_ENTRIES} entries, the first of them a list with"
            " a dictionary per utterance"
        )
    found: dict[str, dict[int, dict[int, Mapping[str, Any]]]] = {split: defaultdict(dict) for split in _SPLITS.values()}
    classes = label_set("meld7").classes
    for number, row in enumerate(content[0]):
        where = f"--annotations: utterance {number}"
        if not isinstance(row, dict) or not row.keys() >= _FIELDS or not isinstance(row["text"], str):
            raise BadTable(f"{where} is not a dictionary of {', '.join(sorted(_FIELDS))}")
        if row["y"] not in classes:
            raise BadTable(
                f"{where} has the label {str(row['y'])[:40]!r}; in data_emotion.p they are {', '.join(classes)}"
                " (data_sentiment.p has others)"
            )
        if row["split"] not in _SPLITS:
            raise BadTable(
                f"{where} is in the split {str(row['split'])[:40]!r}; in data_emotion.p they are {', '.join(_SPLITS)}"
            )
        dialogue, turn = _number(row["dialog"], where), _number(row["utterance"], where)
        if turn in found[_SPLITS[row["split"]]][dialogue]:
            raise BadTable(f"{where}: utterance {turn} of dialogue {dialogue} occurs twice in {row['split']}")
        found[_SPLITS[row["split"]]][dialogue][turn] = row
    return found


def _by_utterance(
    split: str, table: Mapping[Any, Any], annotated: Mapping[int, Mapping[int, Any]]
) -> dict[tuple[int, int], Any]:
    """Dialogue and utterance → vector of a split's dictionary, whichever of the two kinds it is."""
    found: dict[tuple[int, int], Any] = {}
    for key, value in table.items():
        for place, vector in _vectors_of(f"{split}: {str(key)[:40]!r}", key, value, annotated):
            found[place] = vector
    lengths = {len(vector) for vector in found.values()}
    if len(lengths) > 1:
        raise BadTable(f"{split}: its vectors differ in length: {', '.join(map(str, sorted(lengths)))}")
    return found


def _vectors_of(
    where: str, key: Any, value: Any, annotated: Mapping[int, Mapping[int, Any]]
) -> Iterator[tuple[tuple[int, int], Any]]:
    """The vectors under one key: one, or one per utterance of the dialogue, possibly padded with zeros."""
    dialogue, _, turn = str(key).partition("_")
    number = _number(dialogue, where)
    try:
        values = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadTable(f"{where} is not a vector") from error
    if values.ndim != (1 if turn else 2) or not values.shape[-1]:
        raise BadTable(
            f"{where} has the shape {values.shape} instead of {'one vector' if turn else 'a vector per utterance'}"
        )
    turns = sorted(annotated.get(number, ()))
    if not turns or (turn and _number(turn, where) not in turns):
        raise BadTable(
            f"{where}: there is no such {'utterance' if turn else 'dialogue'} in data_emotion.p; are the two from the"
            " same release?"
        )
    if turn:
        yield (number, _number(turn, where)), values
    elif len(values) < len(turns):
        raise BadTable(f"{where} has {len(values)} vectors; in data_emotion.p the dialogue has {len(turns)} utterances")
    else:
        yield from (((number, one), row) for one, row in zip(turns, values, strict=False))


def _number(value: Any, where: str) -> int:
    text = str(value)
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise BadTable(f"{where}: {text[:40]!r} is not a number, as those of MELD's dialogues and utterances are")
    return int(text)
