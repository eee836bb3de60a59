"""What every encoder must satisfy; a new family in ``pipeline/merc/encoders`` is tested here automatically
(conftest.py).
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest

from merc.encoders.engine.base import Encoder, UtteranceInput
from merc.errors import BadSettings
from merc.records.failures import REASONS

PROVENANCE = {"encoder", "revision", "layer", "pooling", "sample_rate_hz", "licence", "training_data_overlap"}


def _cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first * second).sum(axis=1) / np.maximum(
        np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1), 1e-12
    )


def test_identity_and_provenance_are_json_and_stable(encoder: Encoder) -> None:
    again = type(encoder)(encoder.config, offline=True)
    assert json.loads(json.dumps(encoder.identity(), allow_nan=False)) == again.identity()
    assert json.loads(json.dumps(encoder.provenance(), allow_nan=False)) == again.provenance()
    assert again.provenance().keys() >= PROVENANCE
    assert encoder.identity()["version"] == encoder.VERSION


def test_identity_names_no_place_on_the_disk(encoder: Encoder) -> None:
    assert "/" not in json.dumps([encoder.identity(), encoder.provenance()])


def test_no_utterances_give_no_rows(encoder: Encoder) -> None:
    encoded = encoder.encode([])
    assert encoded.embeddings.shape == (0, encoder.dim)
    assert encoded.embeddings.dtype == np.float32
    assert encoded.present.shape == (0,)
    assert encoded.remarks == []


def test_shapes_and_types(encoder: Encoder, utterances: Sequence[UtteranceInput]) -> None:
    encoded = encoder.encode(utterances)
    assert encoded.embeddings.shape == (len(utterances), encoder.dim)
    assert encoded.embeddings.dtype == np.float32
    assert encoded.present.dtype == np.bool_
    assert np.isfinite(encoded.embeddings).all()
    assert encoder.planned_dim() in (encoder.dim, None)


def test_absent_means_zeros_and_a_remark(encoder: Encoder, utterances: Sequence[UtteranceInput]) -> None:
    encoded = encoder.encode(utterances)
    assert 0 < encoded.present.sum() < len(utterances)
    assert (encoded.embeddings.any(axis=1) == encoded.present).all()
    absent = [index for index, reason, _ in encoded.remarks if REASONS[reason][0] != "altered"]
    assert absent == np.flatnonzero(~encoded.present).tolist()
    assert all(detail for _, _, detail in encoded.remarks)


def test_all_absent_is_not_an_error(encoder: Encoder) -> None:
    encoded = encoder.encode([UtteranceInput(utterance_id="a"), UtteranceInput(utterance_id="b")])
    assert not encoded.present.any()
    assert encoded.embeddings.shape == (2, encoder.dim)
    assert [index for index, _, _ in encoded.remarks] == [0, 1]


def test_alone_equals_in_a_batch(encoder: Encoder, utterances: Sequence[UtteranceInput]) -> None:
    together = encoder.encode(utterances)
    alone = np.concatenate([encoder.encode([utterance]).embeddings for utterance in utterances])
    assert (_cosines(together.embeddings, alone)[together.present] >= 0.9999).all()
    if not encoder.ACCELERATED:  # no padding and no matrix product of another shape: identical to the bit
        assert (together.embeddings == alone).all()


def test_the_order_of_the_utterances_is_kept(encoder: Encoder, utterances: Sequence[UtteranceInput]) -> None:
    forward, backward = encoder.encode(utterances), encoder.encode(utterances[::-1])
    assert (forward.present == backward.present[::-1]).all()
    np.testing.assert_allclose(forward.embeddings, backward.embeddings[::-1], atol=2e-5)
    mirrored = sorted((len(utterances) - 1 - index, reason, detail) for index, reason, detail in backward.remarks)
    assert sorted(forward.remarks) == mirrored


def test_different_utterances_get_different_vectors(encoder: Encoder, utterances: Sequence[UtteranceInput]) -> None:
    encoded = encoder.encode(utterances)
    vectors = encoded.embeddings[encoded.present]
    apart = np.abs(vectors[:, None] - vectors[None]).max(axis=2) + np.eye(len(vectors))
    assert apart.min() > 1e-3


def test_the_same_input_gives_the_same_bytes(encoder: Encoder, utterances: Sequence[UtteranceInput]) -> None:
    again = type(encoder)(encoder.config, offline=True)
    again.load(getattr(encoder, "device", "cpu"))
    assert encoder.encode(utterances).embeddings.tobytes() == again.encode(utterances).embeddings.tobytes()


def test_sequences_are_float16_without_padding_and_the_same_alone_and_in_a_batch(
    encoder: Encoder, utterances: Sequence[UtteranceInput]
) -> None:
    if not encoder.HAS_SEQUENCES:
        with pytest.raises(BadSettings, match="give one vector per utterance and no sequences"):
            type(encoder)(encoder.config, sequences=True)
        return
    with_sequences = type(encoder)(encoder.config, offline=True, sequences=True)
    with_sequences.load(getattr(encoder, "device", "cpu"))
    encoded = with_sequences.encode(utterances)
    np.testing.assert_allclose(encoded.embeddings, encoder.encode(utterances).embeddings, atol=2e-5)
    assert [frames is not None for frames in encoded.sequences] == encoded.present.tolist()
    for utterance, frames in zip(utterances, encoded.sequences, strict=True):
        [alone] = with_sequences.encode([utterance]).sequences
        if frames is None:
            assert alone is None
            continue
        assert (frames.vectors.dtype, frames.seconds.dtype) == (np.float16, np.float32)
        assert frames.vectors.shape == (len(frames.vectors), with_sequences.sequence_dim)
        assert len(frames.vectors) > 0
        assert len(frames.seconds) in (0, len(frames.vectors))
        assert alone is not None
        assert alone.vectors.shape == frames.vectors.shape
        np.testing.assert_array_equal(alone.seconds, frames.seconds)
        wide = alone.vectors.astype(np.float32), frames.vectors.astype(np.float32)
        assert (_cosines(*wide) >= 0.9999).all()
    assert encoder.encode(utterances).sequences == []


def test_nothing_heavy_is_imported_before_load(tiny_checkpoint, tmp_path) -> None:
    """For every shipped encoder, and for one with a local checkpoint."""
    program = f"""
import sys
from merc.encoders.engine.registry import build, names
from merc.layout import MODALITIES
from merc.params import Params
tiny = {{"base": "minilm", "repo": {str(tiny_checkpoint("bert"))!r}, "revision": "", "max_tokens": 64, "dim": None}}
params = Params({{"encoders": {{"text": {{"tiny": tiny}}}}}})
here = []
for modality in MODALITIES:
    for name in names(params, modality):
        encoder = build(params, modality, name, offline=True)
        encoder.planned_dim()
        if encoder.missing() is None:
            encoder.identity(), encoder.provenance()
            here.append(name)
print(len(here) > 3, {{"tiny", "ngrams"}} <= set(here))
print(sorted({{"torch", "transformers", "librosa", "sklearn", "cv2", "opensmile"}} & set(sys.modules)))
"""
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, env=environment)
    assert (done.stdout.splitlines(), done.stderr, done.returncode) == (["True True", "[]"], "", 0)
