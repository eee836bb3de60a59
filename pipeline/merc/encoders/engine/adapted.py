"""What a folder records about the fine-tuning that made it: ``record.json`` and ``seen.json`` next to the weights, as
:mod:`merc.adaptation` writes them.

An encoder that was fine-tuned on emotion labels is like any other, with three exceptions: it must be used with the
settings it was trained with, its features are tagged ``adapted``, and it must not encode dev or test utterances that it
was trained on.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from merc import files
from merc.errors import BadSettings, BadTable

RECORD = "record.json"
SEEN = "seen.json"
TAG = "adapted"
FROZEN = "frozen"
# What identifies an utterance: the corpus may have another name or other splits.
KEY_COLUMNS = ("source_utterance_id", "speaker", "text")
_KEY_DIGITS = 16
# Splits that an encoder must not have been trained on, and those that it must not even have been selected by.
_MUST_BE_UNSEEN = {"dev": ("train",), "test": ("train", "dev")}


@dataclass(frozen=True)
class Adaptation:
    """A completed fine-tuning.

    Attributes:
        folder: of the model.
        corpus: the corpus whose train labels were used.
        label_set: its name.
        base: the encoder that it started from: ``encoder``, ``revision``, and whatever else its provenance states.
        trained_with: the settings that determine the vectors, by name.
        method: ``full`` or ``lora``.
        seed: of the training.
        dev_weighted_f1: of the epoch that was selected, by the head of the training.
    """

    folder: Path
    corpus: str
    label_set: str
    base: Mapping[str, Any]
    trained_with: Mapping[str, Any]
    method: str
    seed: int
    dev_weighted_f1: float

    @classmethod
    def of(cls, folder: Path) -> "Adaptation | None":
        """The record in a folder; None if there is none, that is, if the model is not an adapted one.

        Raises:
            BadTable: if the record is damaged; the message names the missing key.
        """
        path = folder / RECORD
        if not path.is_file():
            return None
        record = files.read_json(path)
        keys = ("corpus", "label_set", "base", "trained_with", "method", "seed", "dev_weighted_f1")
        missing = [key for key in keys if not isinstance(record, dict) or key not in record]
        if missing:
            raise BadTable(
                f"{path}: not a record of an adaptation: it lacks {', '.join(missing)}; remake it with merc-adapt"
            )
        return cls(folder, **{key: record[key] for key in keys})

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Raises ``BadSettings`` unless the encoder's settings, by name, are those of the training: extraction must
        compute what was trained. A setting that is missing on one side has the value None there.
        """
        differing = [
            f"{key}: {self.trained_with.get(key)!r} in the training, {settings.get(key)!r} now"
            for key in {**self.trained_with, **settings}
            if settings.get(key) != self.trained_with.get(key)
        ]
        if differing:
            raise BadSettings(
                f"{self.folder}: it was adapted with other settings; {'; '.join(differing)}. Use those of the"
                " training, or adapt it again"
            )

    def check_unseen(self, manifest: pa.Table) -> None:
        """Checks that no dev or test utterance was used in the training, whatever the corpus or the split was called
        then.

        Args:
            manifest: manifest of the utterances to encode.

        Raises:
            BadSettings: if one was, since its features would leak its label; the message names the first one.
            BadTable: if the record of the training's utterances is missing.
        """
        if not (self.folder / SEEN).is_file():
            raise BadTable(
                f"{self.folder / SEEN}: missing, so it is unknown which utterances the encoder has seen; remake it"
                " with merc-adapt"
            )
        seen = {split: set(found) for split, found in files.read_json(self.folder / SEEN).items()}
        keys = np.array(utterance_keys(manifest), dtype=object)
        splits = np.array(manifest["split"].to_pylist(), dtype=object)
        for split, forbidden in _MUST_BE_UNSEEN.items():
            for by in forbidden:
                leaking = [row for row in np.flatnonzero(splits == split).tolist() if keys[row] in seen[by]]
                if leaking:
                    raise BadSettings(
                        f"{self.folder}: {len(leaking)} {split} utterances, the first"
                        f" {manifest['utterance_id'][leaking[0]].as_py()!r}, were in the {by} split of {self.corpus}"
                        " on which it was adapted, so scores on them would not be clean; adapt it on the train split"
                        " of this division"
                    )

    def provenance(self) -> dict[str, Any]:
        """Its entry in the shards' metadata."""
        before = self.base.get("training_data_overlap", "not recorded")
        return {
            "encoder": f"{self.base['encoder']}, adapted",
            "tag": TAG,
            "training_data_overlap": f"{self.corpus}: fine-tuned on the emotion labels of its train split, selected on dev; before that: {before}",  # noqa: E501
            "adapted": {
                "base": dict(self.base), "corpus": self.corpus, "label_set": self.label_set, "method": self.method,
                "seed": self.seed,
                "dev_weighted_f1": self.dev_weighted_f1,
            },
        }  # fmt: skip


def utterance_keys(manifest: pa.Table) -> list[str]:
    """The key of each utterance of a manifest: a digest of its id in the corpus, its speaker and its text."""
    columns = [manifest[name].to_pylist() for name in KEY_COLUMNS]
    return [hashlib.sha256("\0".join(row).encode()).hexdigest()[:_KEY_DIGITS] for row in zip(*columns, strict=True)]


def tag(encoders: Mapping[str, Mapping[str, Any]]) -> str:
    """``adapted`` if one of the encoders was fine-tuned on emotion labels, else ``frozen``; scores of the two kinds
    must not be ranked together.

    Args:
        encoders: name → provenance.
    """
    return TAG if any(facts.get("tag") == TAG for facts in encoders.values()) else FROZEN
