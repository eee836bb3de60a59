"""The labelled utterances of a corpus as input for an encoder, split by split."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from merc.encoders.engine.base import UtteranceInput
from merc.errors import BadSettings
from merc.extraction.inputs import Source, media_source, text_source
from merc.layout import Layout
from merc.records import manifest
from merc.records.features import OK


@dataclass(frozen=True, eq=False)
class Examples:
    """The labelled utterances of a split.

    Attributes:
        split: its name.
        utterances: N utterances with their history; one with unusable audio has none, but is included nevertheless.
        labels: (N,) int64, the class of each.
    """

    split: str
    utterances: list[UtteranceInput]
    labels: NDArray[np.int64]


def check_labels(table: pa.Table, dataset: str) -> None:
    """Checks that there are labels to learn from, and to select by.

    Args:
        table: the manifest.
        dataset: name for messages.

    Raises:
        BadSettings: if no train utterance is labelled, all have the same label, or no dev utterance is labelled.
    """
    labels, splits = table["emotion_index"].to_numpy(), np.array(table["split"].to_pylist(), dtype=object)
    label_set, classes = table.schema.metadata[b"label_set"].decode(), manifest.classes(table)
    for split in ("train", "dev"):
        of_split = labels[splits == split]
        if not (of_split >= 0).any():
            raise BadSettings(
                f"{dataset}: none of its {len(of_split)} {split} utterances has a label of {label_set}"
                f" ({', '.join(classes)}); an adaptation needs them to"
                f" {'learn from' if split == 'train' else 'select the epoch by'}"
            )
    found = np.unique(labels[(splits == "train") & (labels >= 0)])
    if len(found) == 1:
        raise BadSettings(
            f"{dataset}: all labelled train utterances are {classes[found[0]]!r}; an adaptation needs at least two"
            " classes to distinguish"
        )


def read_examples(layout: Layout, table: pa.Table, modality: str, history_turns: int) -> dict[str, Examples]:
    """All labelled utterances. The audio of the whole corpus is in memory: 64 kB per second, 2.8 GB for MELD's 12
    hours.

    Args:
        layout: paths of the dataset.
        table: the manifest.
        modality: ``text`` or ``audio``.
        history_turns: number of earlier turns given with each utterance.

    Returns:
        Split → its utterances, in manifest order; splits without utterances are included.

    Raises:
        BadTable: if there are no media that match the manifest.
    """
    source: Source = (
        text_source(layout.manifest, table, table.num_rows)
        if modality == "text"
        else media_source(layout.media, table, modality, table.num_rows)
    )
    inputs: list[UtteranceInput] = []
    for index in range(len(source.sizes)):
        part = source.read(index, history_turns)
        there = iter(part.utterances)
        inputs += [
            next(there) if status == OK else UtteranceInput(utterance_id=one)
            for one, status in zip(part.utterance_ids, part.status, strict=True)
        ]
    labels, splits = (
        table["emotion_index"].to_numpy().astype(np.int64),
        np.array(table["split"].to_pylist(), dtype=object),
    )
    rows = {split: np.flatnonzero((splits == split) & (labels >= 0)) for split in ("train", "dev", "test")}
    return {
        split: Examples(split, [inputs[row] for row in of_split], labels[of_split]) for split, of_split in rows.items()
    }
