"""Encoding one part: what happens to an encoder's output, and what is refused."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from merc import parquet
from merc.compute import device
from merc.encoders.engine.base import Encoded, EncodedSequence, Encoder, EncoderConfig, UtteranceInput
from merc.errors import BadSettings, BadTable, ModelUnavailable
from merc.extraction import sequences
from merc.extraction.inputs import PartInput, TextSource
from merc.extraction.runner import Encoding, encode_part
from merc.job import Fingerprint, Job


class Returning(Encoder):
    """Returns what it was set up to return, whatever its input."""

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
    return PartInput(
        ids, status, [UtteranceInput(utterance_id=one) for one, why in zip(ids, status, strict=True) if why == "ok"]
    )


def _ones(rows: int) -> np.ndarray:
    return np.ones((rows, 2))


def test_vectors_go_to_the_rows_that_had_input() -> None:
    encoded = Encoded(
        _ones(2).astype(np.float32), np.array([True, False]), [(1, "silence", "all zeros"), (1, "padded", "to 0.1 s")]
    )
    part = encode_part(Returning(lambda: encoded), _part("no_audio_stream", "ok", "media_missing", "ok"), "audio")
    table = part.vectors
    assert table["status"].to_pylist() == ["no_audio_stream", "ok", "media_missing", "silence"]
    assert table["embedding"].to_pylist() == [
        [0, 0],
        [1, 1],
        [0, 0],
        [0, 0],
    ]  # even where an absent vector was not zeros
    assert [(one.utterance_id, one.reason, one.detail) for one in part.failures] == [
        ("train/u3", "silence", "all zeros"),
        ("train/u3", "padded", "to 0.1 s"),
    ]


def test_numbers_beyond_float32_are_not_finite_and_those_below_it_are_zeros() -> None:
    values = np.array([[1e300, 1.0], [1e-300, 0.0], [1.0, 1.0]])
    with np.errstate(over="ignore"):
        part = encode_part(Returning(lambda: Encoded(values, np.ones(3, dtype=bool))), _part("ok", "ok", "ok"), "text")
    assert part.vectors["status"].to_pylist() == ["not_finite", "zero_vector", "ok"]


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (
            Encoded(_ones(1), np.array([True])),
            r"Returning: vectors \(1, 2\), present \(1,\) for 2 utterances of dimension 2",
        ),
        (Encoded(np.ones((2, 3)), np.array([True, True])), r"vectors \(2, 3\)"),
        (Encoded(_ones(2), np.array([True, False]), [(1, "padded", "")]), "train/u1 is absent without a remark"),
        (
            Encoded(_ones(2), np.array([True, True]), [(0, "mystery", "")]),
            "remark 'mystery' on utterance 0 of 2; reasons are media_missing",
        ),
        (Encoded(_ones(2), np.array([True, True]), [(2, "padded", "")]), "remark 'padded' on utterance 2 of 2"),
    ],
)
def test_an_encoder_that_breaks_its_contract_is_named(encoded: Encoded, message: str) -> None:
    with pytest.raises(BadTable, match=message):
        encode_part(Returning(lambda: encoded), _part("ok", "ok"), "text")


def test_a_part_of_nothing_but_failures_has_only_absent_rows() -> None:
    empty = Encoded(np.zeros((0, 2), dtype=np.float32), np.zeros(0, dtype=bool))
    part = encode_part(Returning(lambda: empty), _part("no_face", "no_face"), "visual")
    assert (part.vectors["present"].to_pylist(), part.failures, part.sequences) == ([False, False], [], None)


def test_a_machine_without_the_model_says_how_to_fetch_it(tmp_path: Path) -> None:
    class Lacking(Returning):
        def missing(self) -> str:
            return "merc-extract models --download text=lacking"

    job = Job("text/lacking", tmp_path / "out", tmp_path / ".scratch", Fingerprint({}, {}))
    encoding = Encoding(
        lambda: Lacking(lambda: Encoded(_ones(1), np.array([True]))),
        True,
        TextSource(tmp_path / "manifest.parquet", ()),
        job,
        "text",
    )
    with pytest.raises(
        ModelUnavailable,
        match=r"text/lacking: its model is not on this machine; .*\n  merc-extract models --download text=lacking",
    ):
        encoding.check()


class ReturningSequences(Returning):
    HAS_SEQUENCES = True
    sequence_dim = 3

    def __init__(self, give: Callable[[], Encoded]) -> None:
        super().__init__(give)
        self.sequences = True


def _sequence(*numbers: float) -> EncodedSequence:
    return EncodedSequence(
        np.array([[number, -number, 0.5] for number in numbers], dtype=np.float16),
        np.arange(len(numbers), dtype=np.float32),
    )


def test_sequences_go_to_the_rows_that_have_a_vector(tmp_path: Path) -> None:
    vectors = np.array([[1.0, 2.0], [0.0, 0.0], [3.0, np.inf], [5.0, 5.0]], dtype=np.float32)
    encoded = Encoded(
        vectors,
        np.array([True, False, True, True]),
        [(1, "silence", "")],
        [_sequence(1, 2, 3), None, _sequence(7), _sequence(9)],
    )
    part = encode_part(ReturningSequences(lambda: encoded), _part("ok", "no_audio_stream", "ok", "ok", "ok"), "audio")
    path = tmp_path / "part-00000.parquet"
    assert part.sequences is not None
    parquet.write(sequences.path_of(path), part.sequences, row_group_rows=2)
    found = {
        utterance_id: (vectors[:, 0].tolist(), seconds.tolist())
        for utterance_id, vectors, seconds in sequences.read(tmp_path)
    }
    assert found == {
        "train/u0": ([1, 2, 3], [0, 1, 2]),
        "train/u1": ([], []),
        "train/u2": ([], []),
        "train/u3": ([], []),  # its vector is not finite
        "train/u4": ([9], [0]),
    }
    column = datasets.Dataset.from_parquet(str(sequences.path_of(path)), cache_dir=str(tmp_path)).with_format("numpy")[
        0
    ]["sequence"]
    np.testing.assert_array_equal(column, _sequence(1, 2, 3).vectors)


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ([], "sequences of 0 utterances out of 1"),
        ([None], "no sequence that is finite"),
        ([_sequence()], "no sequence that"),
        ([_sequence(np.inf)], "no sequence that"),
        (
            [EncodedSequence(np.ones((1, 2), np.float16), np.zeros(0, np.float32))],
            r"sequences of vectors of \[2\] numbers, where the encoder states 3",
        ),
        (
            [EncodedSequence(np.ones((2, 3), np.float16), np.zeros(1, np.float32))],
            "vectors and their times differ in number",
        ),
    ],
)
def test_a_vector_without_its_sequence_is_refused(kept: list[EncodedSequence | None], message: str) -> None:
    encoded = Encoded(_ones(1), np.array([True]), sequences=kept)
    with pytest.raises(BadTable, match=message):
        encode_part(ReturningSequences(lambda: encoded), _part("ok"), "audio")


def test_features_without_sequences_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(BadTable, match="--level sequences"):
        next(sequences.read(tmp_path))


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "cuda:999", "mps", ""])
def test_a_device_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(BadSettings, match="valid: auto, cpu"):
        device.resolve(name)


def test_auto_is_a_device_that_is_there() -> None:
    import torch

    assert device.resolve("auto") == ("cuda:0" if torch.cuda.is_available() else "cpu")
    assert device.resolve("cpu") == "cpu"
