"""Encoding one part: what becomes of an encoder's output, and what is refused."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from pipeline.encoders.base import Encoded, Encoder, EncoderConfig, UtteranceInput
from pipeline.errors import BadSettings, BadTable
from pipeline.extraction import device
from pipeline.extraction.inputs import PartInput
from pipeline.extraction.runner import encode_part


class Returning(Encoder):
    """Returns what it was told to, whatever it is given."""

    dim = 2

    def __init__(self, give: Callable[[], Encoded]) -> None:
        super().__init__(EncoderConfig(family="returning"))
        self.give = give

    def provenance(self) -> dict[str, Any]:
        return {}

    def load(self, device: str) -> None:
        pass

    def encode(self, utterances: Sequence[UtteranceInput]) -> Encoded:
        return self.give()


def _part(*status: str) -> PartInput:
    ids = [f"train/u{row}" for row in range(len(status))]
    return PartInput(ids, status, [UtteranceInput(utterance_id=one) for one, why in zip(ids, status, strict=True) if why == "ok"])


def _ones(rows: int) -> np.ndarray:
    return np.ones((rows, 2))


def test_vectors_go_to_the_rows_that_had_input() -> None:
    encoded = Encoded(_ones(2).astype(np.float32), np.array([True, False]), [(1, "silence", "all zeros"), (1, "padded", "to 0.1 s")])
    table, failures = encode_part(Returning(lambda: encoded), _part("no_audio_stream", "ok", "media_missing", "ok"), "audio")
    assert table["status"].to_pylist() == ["no_audio_stream", "ok", "media_missing", "silence"]
    assert table["embedding"].to_pylist() == [[0, 0], [1, 1], [0, 0], [0, 0]]  # also where an absent vector was not zeros
    assert [(one.utterance_id, one.reason, one.detail) for one in failures] == [("train/u3", "silence", "all zeros"), ("train/u3", "padded", "to 0.1 s")]


def test_numbers_beyond_float32_are_not_finite_and_those_below_it_are_zeros() -> None:
    values = np.array([[1e300, 1.0], [1e-300, 0.0], [1.0, 1.0]])
    with np.errstate(over="ignore"):
        table, _ = encode_part(Returning(lambda: Encoded(values, np.ones(3, dtype=bool))), _part("ok", "ok", "ok"), "text")
    assert table["status"].to_pylist() == ["not_finite", "zero_vector", "ok"]


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (Encoded(_ones(1), np.array([True])), r"Returning: vectors \(1, 2\), present \(1,\) for 2 utterances of dimension 2"),
        (Encoded(np.ones((2, 3)), np.array([True, True])), r"vectors \(2, 3\)"),
        (Encoded(_ones(2), np.array([True, False]), [(1, "padded", "")]), "train/u1 is absent without a remark"),
        (Encoded(_ones(2), np.array([True, True]), [(0, "mystery", "")]), "remark 'mystery' on utterance 0 of 2; reasons are media_missing"),
        (Encoded(_ones(2), np.array([True, True]), [(2, "padded", "")]), "remark 'padded' on utterance 2 of 2"),
    ],
)
def test_an_encoder_that_breaks_its_contract_is_named(encoded: Encoded, message: str) -> None:
    with pytest.raises(BadTable, match=message):
        encode_part(Returning(lambda: encoded), _part("ok", "ok"), "text")


def test_a_part_of_nothing_but_failures_has_only_absent_rows() -> None:
    empty = Encoded(np.zeros((0, 2), dtype=np.float32), np.zeros(0, dtype=bool))
    table, failures = encode_part(Returning(lambda: empty), _part("no_face", "no_face"), "visual")
    assert (table["present"].to_pylist(), failures) == ([False, False], [])


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "cuda:999", "mps", ""])
def test_a_device_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(BadSettings, match="valid: auto, cpu"):
        device.resolve(name)


def test_auto_is_a_device_that_is_there() -> None:
    import torch

    assert device.resolve("auto") == ("cuda:0" if torch.cuda.is_available() else "cpu")
    assert device.resolve("cpu") == "cpu"
