"""A training sees the same vectors as an extraction."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from merc.encoders.engine.base import UtteranceInput
from merc.encoders.engine.trainable import TrainableEncoder


def _vectors(encoder: TrainableEncoder, utterances: list[UtteranceInput]) -> tuple[list[int], torch.Tensor]:
    """Vectors of all items in one batch, with gradients."""
    items = encoder.training_items(utterances)
    assert items.lengths.min() > 0
    inputs = items.batch(np.arange(len(items.utterances)))
    return items.utterances.tolist(), items.vectors(
        {name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value for name, value in inputs.items()}
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"pooling": "mean"},
        {"pooling": "first"},
        {"pooling": "mean_last4"},
        {"pooling": "mean", "history_turns": 2, "speaker_names": True},
    ],
)
def test_text_gives_the_vectors_of_encode_with_gradients_and_leaves_out_what_is_empty(
    transformer: Callable[..., Any], settings: dict[str, Any]
) -> None:
    encoder = transformer("bert", linear_layers="torch", **settings)
    texts = ("I'm fine.", "", "Well, I was thinking that we could maybe go out to dinner", "no", "   ")
    history = (("Ross", "hello"), ("Monica", "I'm fine."))
    utterances = [
        UtteranceInput(utterance_id=str(at), text=text, speaker="Ross", history=history)
        for at, text in enumerate(texts)
    ]
    which, vectors = _vectors(encoder, utterances)
    assert which == [0, 2, 3]
    np.testing.assert_allclose(vectors.detach().numpy(), encoder.encode(utterances).embeddings[which], atol=2e-5)
    # Not the plain sum: after a layer norm it is constant.
    (vectors * torch.arange(vectors.shape[1])).sum().backward()
    assert encoder.model.get_input_embeddings().weight.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", ["wav2vec2 base", "hubert with batch norm", "wavlm large", "data2vec"])
def test_audio_gives_the_vectors_of_encode_with_gradients_and_leaves_out_what_is_absent(
    waveform: Callable[..., Any], kind: str
) -> None:
    encoder = waveform(kind, linear_layers="torch")  # oneDNN's have no gradients
    rng = np.random.default_rng(0)
    sounds = [rng.standard_normal(length).astype(np.float32) for length in (9000, 6000)]
    utterances = [
        UtteranceInput(utterance_id=str(at), waveform=sound) for at, sound in enumerate((sounds[0], None, sounds[1]))
    ]
    which, vectors = _vectors(encoder, utterances)
    assert which == [0, 2]
    np.testing.assert_allclose(vectors.detach().numpy(), encoder.encode(utterances).embeddings[which], atol=2e-4)
    vectors.square().sum().backward()
    gradients = {name: weight.grad for name, weight in encoder.model.named_parameters()}
    assert all(gradient is None for name, gradient in gradients.items() if name.startswith("feature_extractor."))
    assert all(gradient is not None for name, gradient in gradients.items() if name.startswith("encoder.layers.0."))
