"""Encoders of a few lines, importable by worker processes too."""

import os
import time
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from merc.encoders.engine.base import Encoded, EncodedSequence, Encoder, EncoderConfig, UtteranceInput
from merc.encoders.engine.registry import ChosenEncoder
from merc.params import Laid


class FakeConfig(EncoderConfig):
    scale: float = 1.0


class Fake(Encoder):
    """Vectors of three predictable numbers; some texts make it misbehave."""

    Config: ClassVar[type[EncoderConfig]] = FakeConfig
    dim = 3
    config: FakeConfig

    def provenance(self) -> dict[str, Any]:
        return {"encoder": "fake", "revision": "1", "licence": "none"}

    def load(self, device: str) -> None:
        self.device = device

    def numbers(self, utterance: UtteranceInput) -> list[float]:
        if utterance.waveform is not None:
            return [len(utterance.waveform), float(np.abs(utterance.waveform).max()), 1.0]
        if utterance.faces is not None and utterance.face_seconds is not None:
            return [len(utterance.faces), float(utterance.faces[0, 0, 0, 0]), float(utterance.face_seconds[-1])]
        if utterance.text == "nan":
            return [1.0, float("nan"), float("inf")]
        if utterance.text in ("zeros", ""):
            return [0.0, 0.0, 0.0]
        return [
            float(len(utterance.text)),
            float(len(utterance.history)),
            float(sum(len(turn[1]) for turn in utterance.history)),
        ]

    def encode(self, utterances: Sequence[UtteranceInput]) -> Encoded:
        time.sleep(float(os.environ.get("FAKE_ENCODER_SECONDS", "0")))
        if os.environ.get("FAKE_ENCODER_DIES"):
            os._exit(9)
        values = np.array([self.numbers(one) for one in utterances], dtype=np.float32).reshape(
            len(utterances), 3
        ) * np.float32(self.config.scale)
        empty = np.array(
            [one.text == "" and one.waveform is None and one.faces is None for one in utterances], dtype=bool
        )
        remarks = [(int(index), "no_text", "") for index in np.flatnonzero(empty)]
        remarks += [
            (index, "padded", "from 3 to 8 letters") for index, one in enumerate(utterances) if one.text == "pad"
        ]
        if any(one.text == "silent about why" for one in utterances):
            return Encoded(np.zeros_like(values), np.zeros(len(values), dtype=bool), [])
        return Encoded(values, ~empty, remarks)


class FakeOnDevice(Fake):
    ACCELERATED = True


class FakeWithHistory(FakeOnDevice):
    history_turns = 2


class FakeWithSequences(FakeOnDevice):
    HAS_SEQUENCES = True
    sequence_dim = 2

    def encode(self, utterances: Sequence[UtteranceInput]) -> Encoded:
        encoded = super().encode(utterances)
        if self.sequences:
            seconds = np.zeros(0, dtype=np.float32)
            encoded.sequences = [
                EncodedSequence(np.array([[vector[0], turn] for turn in range(2)], dtype=np.float16), seconds)
                if present
                else None
                for vector, present in zip(encoded.embeddings, encoded.present, strict=True)
            ]
        return encoded


def chosen(modality: str, name: str, **settings: float) -> ChosenEncoder:
    kind = {"fake": Fake, "history": FakeWithHistory, "device": FakeOnDevice, "sequences": FakeWithSequences}[name]
    return ChosenEncoder(modality, name, kind, FakeConfig(family="fake", **settings), Laid())
