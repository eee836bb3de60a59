"""Punctuation marks of the transcript: a fixed rule, nothing to download."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from merc.encoders.engine.base import Encoded, Encoder, EncoderConfig, UtteranceInput
from merc.encoders.engine.batching import one_by_one


class Marks(Encoder):
    """How often each mark occurs, and how long the text is; as log(1 + n)."""

    class Config(EncoderConfig):
        """Settings of the marks."""

        marks: str = Field(default="!?.,", min_length=1)
        """The marks to count, one number each."""

    MODALITY = "text"
    VERSION = 1
    config: Config

    def provenance(self) -> dict[str, Any]:
        return self.rule_provenance(pooling="counts")

    @property
    def dim(self) -> int:
        return len(self.config.marks) + 1

    def planned_dim(self) -> int:
        return self.dim

    def load(self, device: str) -> None:
        """Nothing to load; a model would be imported and read here, never at the top of the file."""

    def encode(self, utterances: Sequence[UtteranceInput]) -> Encoded:
        return one_by_one(utterances, self.dim, self._one)

    def _one(self, utterance: UtteranceInput) -> tuple[NDArray[np.float32] | None, list[tuple[str, str]]]:
        text = utterance.text.strip()
        if not text:
            return None, [("no_text", "the transcript is empty")]
        counts = [*(text.count(mark) for mark in self.config.marks), len(text)]
        return np.log1p(np.array(counts, dtype=np.float32)), []
