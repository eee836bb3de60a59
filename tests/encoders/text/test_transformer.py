import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.encoders.base import UtteranceInput
from pipeline.encoders.text.transformer import Transformer, TransformerConfig, cut_to_length
from pipeline.errors import BadSettings, ModelUnavailable

TEXTS = ["no", "You can't be serious!", "Well, I was thinking that we could maybe, you know, go out to dinner some time next week.", "I'm fine.", "oh, good"]


def _inputs(*texts: str, **more: Any) -> list[UtteranceInput]:
    return [UtteranceInput(utterance_id=str(number), text=text, **more) for number, text in enumerate(texts)]


def _cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first * second).sum(axis=1) / (np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1))


def _layers(folder: Path, text: str, *, encoder_of: bool = False) -> tuple[np.ndarray, Any]:
    """(layers + 1, tokens, dims) of one text, straight from transformers, and the tokenizer's output."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    given = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt", return_offsets_mapping=True)
    offsets = given.pop("offset_mapping")[0].numpy()
    model = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        states = (model.get_encoder() if encoder_of else model)(**given, output_hidden_states=True).hidden_states
    return torch.stack(states)[:, 0].numpy(), offsets


@pytest.mark.parametrize("pooling", ["first", "mean", "mean_last4"])
@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_alone_equals_in_a_padded_batch_and_equals_transformers_itself(
    transformer: Callable[..., Transformer], tiny_checkpoint: Callable[[str], Path], kind: str, pooling: str
) -> None:
    encoder = transformer(kind, pooling=pooling, tokens_per_batch=100_000)
    together = encoder.encode(_inputs(*TEXTS)).embeddings
    alone = np.concatenate([encoder.encode(_inputs(text)).embeddings for text in TEXTS])
    assert (_cosines(together, alone) >= 0.9999).all()
    for text, vector in zip(TEXTS, together, strict=True):
        layers, _ = _layers(tiny_checkpoint(kind), text)
        expected = {"first": layers[-1][0], "mean": layers[-1].mean(axis=0), "mean_last4": layers[-4:].mean(axis=0).mean(axis=0)}[pooling]
        np.testing.assert_allclose(vector, expected, atol=2e-5)


@pytest.mark.parametrize("kind", ["gpt2", "bart"])
def test_models_without_padding_token_and_encoder_decoders_are_exact_too(
    transformer: Callable[..., Transformer], tiny_checkpoint: Callable[[str], Path], kind: str
) -> None:
    encoder = transformer(kind, tokens_per_batch=100_000)
    assert encoder.dim == 32
    for text, vector in zip(TEXTS, encoder.encode(_inputs(*TEXTS)).embeddings, strict=True):
        layers, _ = _layers(tiny_checkpoint(kind), text, encoder_of=kind == "bart")
        np.testing.assert_allclose(vector, layers[-1].mean(axis=0), atol=2e-5)


def test_the_budget_changes_no_vector(transformer: Callable[..., Transformer]) -> None:
    vectors = [transformer("roberta", tokens_per_batch=budget).encode(_inputs(*TEXTS)).embeddings for budget in (1, 64, 100_000)]
    np.testing.assert_allclose(vectors[0], vectors[1], atol=2e-5)
    np.testing.assert_allclose(vectors[0], vectors[2], atol=2e-5)


@pytest.mark.parametrize(("layer", "position"), [(-1, 5), (5, 5), (2, 2), (-4, 2), (0, 0)])
def test_the_layer_asked_for_is_used(transformer: Callable[..., Transformer], tiny_checkpoint: Callable[[str], Path], layer: int, position: int) -> None:
    vector = transformer("bert", layer=layer).encode(_inputs(TEXTS[1])).embeddings[0]
    np.testing.assert_allclose(vector, _layers(tiny_checkpoint("bert"), TEXTS[1])[0][position].mean(axis=0), atol=2e-5)


@pytest.mark.parametrize(("kind", "separator"), [("bert", "[SEP]"), ("roberta", "</s>")])
def test_with_context_the_mean_is_over_the_utterances_own_tokens(
    transformer: Callable[..., Transformer], tiny_checkpoint: Callable[[str], Path], kind: str, separator: str
) -> None:
    encoder = transformer(kind, history_turns=2, speaker_names=True, max_tokens=60)
    history = (("Ross", "left out"), ("Monica", "hello"), ("Ross", "no"))
    vector = encoder.encode([UtteranceInput(utterance_id="a", text="You can't", speaker="Monica", history=history)]).embeddings[0]
    before = f"Monica: hello {separator} Ross: no {separator} Monica: "
    layers, offsets = _layers(tiny_checkpoint(kind), before + "You can't")
    own = (offsets[:, 1] > len(before)) & (offsets[:, 0] < offsets[:, 1])
    assert own.sum() < len(own) / 2
    np.testing.assert_allclose(vector, layers[-1][own].mean(axis=0), atol=2e-5)


def test_context_changes_the_vector_and_is_used_only_when_asked_for(transformer: Callable[..., Transformer]) -> None:
    plain = UtteranceInput(utterance_id="a", text="no", speaker="Ross")
    after = UtteranceInput(utterance_id="a", text="no", speaker="Ross", history=(("Monica", "You can't be serious!"),))
    with_history = transformer("bert", history_turns=3)
    assert with_history.history_turns == 3
    first, second = with_history.encode([plain, after]).embeddings
    assert np.abs(first - second).max() > 1e-3
    first, second = transformer("bert").encode([plain, after]).embeddings
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_a_long_history_is_cut_without_a_remark_and_a_long_utterance_with_one(transformer: Callable[..., Transformer]) -> None:
    encoder = transformer("roberta", history_turns=9, max_tokens=16)
    history = tuple(("Ross", "and then we went to the beach") for _ in range(9))
    encoded = encoder.encode([UtteranceInput(utterance_id="a", text="no", history=history), UtteranceInput(utterance_id="b", text="la " * 40, history=history)])
    assert encoded.present.all()
    [(index, reason, detail)] = encoded.remarks
    assert (index, reason) == (1, "truncated")
    assert detail.endswith("tokens were cut; the model is given at most 16")


def test_a_cut_utterance_equals_its_beginning(transformer: Callable[..., Transformer]) -> None:
    encoder = transformer("bert", max_tokens=6)
    longer, shorter = encoder.encode(_inputs("no good fine week next party serious", "no good fine week")).embeddings
    np.testing.assert_allclose(longer, shorter, atol=1e-6)
    assert encoder.encode(_inputs("no good fine week")).remarks == []
    assert encoder.encode(_inputs("no good fine week next")).remarks == [(0, "truncated", "1 of 5 tokens were cut; the model is given at most 6")]


def _cut(max_tokens: int, own_alone: bool = True) -> Any:
    # <s> a b | c d e </s>: two tokens of context (characters 0 to 4), three of the utterance (4 to 10)
    offsets = np.array([[0, 0], [0, 2], [2, 4], [4, 6], [6, 8], [8, 10], [0, 0]])
    special = np.array([1, 0, 0, 0, 0, 0, 1], dtype=bool)
    return cut_to_length(np.arange(7), np.zeros(7, dtype=np.int64), offsets, special, begin=4, max_tokens=max_tokens, own_alone=own_alone)


@pytest.mark.parametrize(
    ("max_tokens", "ids", "pooled", "cut"),
    [
        (9, [0, 1, 2, 3, 4, 5, 6], [0, 0, 0, 1, 1, 1, 0], 0),
        (6, [0, 2, 3, 4, 5, 6], [0, 0, 1, 1, 1, 0], 0),
        (5, [0, 3, 4, 5, 6], [0, 1, 1, 1, 0], 0),
        (3, [0, 3, 6], [0, 1, 0], 2),
    ],
)
def test_context_is_cut_from_its_beginning_then_the_utterance_from_its_end(max_tokens: int, ids: list[int], pooled: list[int], cut: int) -> None:
    text = _cut(max_tokens)
    assert text.ids.tolist() == ids
    assert text.pooled.astype(int).tolist() == pooled
    assert (text.cut, text.cut + text.kept) == (cut, 3)


def test_without_context_all_tokens_are_pooled() -> None:
    assert _cut(5, own_alone=False).pooled.all()


def test_values_that_are_not_finite_make_the_vector_absent(transformer: Callable[..., Transformer]) -> None:
    import torch

    encoder = transformer("bert")
    token = encoder._tokenizer.convert_tokens_to_ids("no")
    with torch.no_grad():
        encoder._model.get_input_embeddings().weight[token] = float("nan")
    encoded = encoder.encode(_inputs("fine", "no", "week"))
    assert encoded.present.tolist() == [True, False, True]
    assert not encoded.embeddings[1].any()
    assert encoded.remarks == [(1, "not_finite", "the model's output in float32 is not finite")]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_near_and_gives_float32(transformer: Callable[..., Transformer], dtype: str) -> None:
    vectors = transformer("bert", dtype=dtype).encode(_inputs(*TEXTS)).embeddings
    assert vectors.dtype == np.float32
    assert (_cosines(vectors, transformer("bert").encode(_inputs(*TEXTS)).embeddings) > 0.99).all()


@pytest.mark.parametrize("text", ["<pad>", "</s></s>", "<pad><pad> no", "\u200b", "\U0001f600", "\x00"])
def test_special_tokens_and_odd_signs_in_a_transcript_do_no_harm(transformer: Callable[..., Transformer], text: str) -> None:
    for context in ({}, {"history_turns": 1, "speaker_names": True}):
        encoder = transformer("roberta", **context)
        encoded = encoder.encode(_inputs(text, "no", history=(("Ross", "</s>"),)))
        assert encoded.present.all()


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("bert", {"layer": 6}, r"layer 6 with pooling mean; valid: 0 to 5, or -1 to -6"),
        ("bert", {"layer": -7}, r"layer -7"),
        ("bert", {"layer": 2, "pooling": "mean_last4"}, r"valid: 3 to 5, or -1 to -3"),
        ("bert", {"max_tokens": 65}, r"max_tokens is 65, the model takes at most 64"),
        ("roberta", {"max_tokens": 129}, r"max_tokens is 129, the model takes at most 128"),  # 130 rows, two never used
        ("gpt2", {"pooling": "first"}, r"no special token at the beginning; valid: mean, mean_last4"),
    ],
)
def test_what_the_checkpoint_lacks_is_refused(transformer: Callable[..., Transformer], kind: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BadSettings, match=message):
        transformer(kind, **settings)


def test_the_longest_input_the_model_has_positions_for_works(transformer: Callable[..., Transformer]) -> None:
    encoded = transformer("roberta", max_tokens=128).encode(_inputs("la " * 300))
    assert encoded.present.all()


def test_a_config_of_an_unknown_type_is_explained(tiny_checkpoint: Callable[[str], Path], transformer: Callable[..., Transformer], tmp_path: Path) -> None:
    shutil.copytree(tiny_checkpoint("bert"), tmp_path / "odd")
    config = json.loads((tmp_path / "odd/config.json").read_text())
    (tmp_path / "odd/config.json").write_text(json.dumps({**config, "model_type": "never_heard_of"}))
    settings = TransformerConfig(
        family="transformer", repo=str(tmp_path / "odd"), pooling="mean", max_tokens=32, tokens_per_batch=64, licence="", training_data_overlap=""
    )
    with pytest.raises(BadSettings, match=r"transformers cannot load it: .*never_heard_of"):
        Transformer(settings).load("cpu")


def test_only_what_decides_the_vectors_is_in_the_identity(tiny_checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(tiny_checkpoint("bert"), tmp_path / "elsewhere")
    settings = {"family": "transformer", "pooling": "mean", "max_tokens": 32, "tokens_per_batch": 64, "licence": "", "training_data_overlap": ""}

    def identity(**more: Any) -> dict[str, Any]:
        return Transformer(TransformerConfig(**{**settings, "repo": str(tiny_checkpoint("bert")), **more})).identity()

    assert identity() == identity(repo=str(tmp_path / "elsewhere")) == identity(tokens_per_batch=7) == identity(revision="f" * 40)
    assert identity() != identity(pooling="first")
    (tmp_path / "elsewhere/tokenizer_config.json").write_text("{}")
    assert identity() != identity(repo=str(tmp_path / "elsewhere"))


def test_a_model_that_is_not_here_is_named_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    settings = TransformerConfig(
        family="transformer", repo="org/model", revision="a" * 40, pooling="mean", max_tokens=9, tokens_per_batch=9, licence="", training_data_overlap=""
    )
    for ask in (lambda encoder: encoder.identity(), lambda encoder: encoder.load("cpu")):
        with pytest.raises(ModelUnavailable, match=rf"hf download org/model --revision {'a' * 40}"):
            ask(Transformer(settings, offline=True))


def test_the_real_minilm_gives_the_published_similarities() -> None:
    folder = os.environ.get("MERC_MINILM")
    if not folder:
        pytest.skip("MERC_MINILM is not set: no folder with all-MiniLM-L6-v2 to test on")
    encoder = Transformer(
        TransformerConfig(family="transformer", repo=folder, pooling="mean", max_tokens=256, tokens_per_batch=2048, licence="", training_data_overlap="")
    )
    encoder.load("cpu")
    texts = ["That is a happy person", "That is a very happy person", "Today is a sunny day", "no " * 200]
    together = encoder.encode(_inputs(*texts)).embeddings
    alone = np.concatenate([encoder.encode(_inputs(text)).embeddings for text in texts])
    assert (_cosines(together, alone) >= 0.9999).all()
    assert encoder.dim == 384
    # the hub's own example of sentence similarity with this model: 0.943 for the second sentence, 0.257 for the third
    assert _cosines(together[[0, 0]], together[[1, 2]]).tolist() == pytest.approx([0.943, 0.257], abs=2e-3)
