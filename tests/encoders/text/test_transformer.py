import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from merc.encoders.engine.base import UtteranceInput
from merc.encoders.text.transformer import Transformer, cut_to_length
from merc.errors import BadSettings, ModelUnavailable

TEXTS = [
    "no",
    "You can't be serious!",
    "Well, I was thinking that we could maybe, you know, go out to dinner some time next week.",
    "I'm fine.",
    "oh, good",
]


def _inputs(*texts: str, **more: Any) -> list[UtteranceInput]:
    return [UtteranceInput(utterance_id=str(number), text=text, **more) for number, text in enumerate(texts)]


def _cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first * second).sum(axis=1) / (np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1))


def _shapes_given_to(encoder: Transformer, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Records the shape of every batch that the model receives."""
    shapes: list[tuple[int, ...]] = []
    inner = encoder._model.forward
    monkeypatch.setattr(
        encoder._model, "forward", lambda **given: shapes.append(tuple(given["input_ids"].shape)) or inner(**given)
    )
    return shapes


def _layers(folder: Path, text: str, *, encoder_of: bool = False) -> tuple[np.ndarray, Any]:
    """(layers + 1, tokens, dims) of one text, directly from transformers, and the tokenizer's output."""
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
    transformer: Callable[..., Transformer],
    tiny_checkpoint: Callable[[str], Path],
    much_padding: None,
    kind: str,
    pooling: str,
) -> None:
    encoder = transformer(kind, pooling=pooling, tokens_per_batch=100_000)
    together = encoder.encode(_inputs(*TEXTS)).embeddings
    alone = np.concatenate([encoder.encode(_inputs(text)).embeddings for text in TEXTS])
    assert (_cosines(together, alone) >= 0.9999).all()
    for text, vector in zip(TEXTS, together, strict=True):
        layers, _ = _layers(tiny_checkpoint(kind), text)
        expected = {
            "first": layers[-1][0],
            "mean": layers[-1].mean(axis=0),
            "mean_last4": layers[-4:].mean(axis=0).mean(axis=0),
        }[pooling]
        np.testing.assert_allclose(vector, expected, atol=2e-5)


@pytest.mark.parametrize(
    "kind", ["gpt2", "llama", "bart", "t5", "xlm-roberta", "electra", "mpnet", "distilbert", "deberta-v2"]
)
def test_every_kind_equals_transformers_itself_in_padded_batches(
    transformer: Callable[..., Transformer],
    tiny_checkpoint: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    much_padding: None,
    kind: str,
) -> None:
    # gpt2 has no padding token, bart and t5 are encoder-decoders, deberta-v2, mpnet and t5 use relative positions
    encoder = transformer(
        kind, tokens_per_batch=100_000, attention="eager" if kind in ("t5", "mpnet", "deberta-v2") else "sdpa"
    )
    assert (encoder.dim, encoder.planned_dim()) == (32, 32)
    shapes = _shapes_given_to(encoder, monkeypatch)
    vectors = encoder.encode(_inputs(*TEXTS)).embeddings
    assert [shape[0] for shape in shapes] == [len(TEXTS)]
    for text, vector in zip(TEXTS, vectors, strict=True):
        layers, _ = _layers(tiny_checkpoint(kind), text, encoder_of=kind in ("bart", "t5"))
        np.testing.assert_allclose(vector, layers[-1].mean(axis=0), atol=5e-5)


def test_batches_without_padding_go_without_a_mask(
    transformer: Callable[..., Transformer], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = transformer("bert")
    masks = []
    inner = encoder._model.forward
    monkeypatch.setattr(
        encoder._model, "forward", lambda **given: masks.append(given["attention_mask"]) or inner(**given)
    )
    encoder.encode(_inputs("no fine", "hello week"))
    assert masks == [None]


def test_the_budget_changes_no_vector(transformer: Callable[..., Transformer], much_padding: None) -> None:
    vectors = [
        transformer("roberta", tokens_per_batch=budget).encode(_inputs(*TEXTS)).embeddings
        for budget in (1, 64, 100_000)
    ]
    np.testing.assert_allclose(vectors[0], vectors[1], atol=2e-5)
    np.testing.assert_allclose(vectors[0], vectors[2], atol=2e-5)


@pytest.mark.parametrize(("layer", "position"), [(-1, 5), (5, 5), (2, 2), (-4, 2), (0, 0)])
def test_the_layer_asked_for_is_used(
    transformer: Callable[..., Transformer], tiny_checkpoint: Callable[[str], Path], layer: int, position: int
) -> None:
    vector = transformer("bert", layer=layer).encode(_inputs(TEXTS[1])).embeddings[0]
    np.testing.assert_allclose(vector, _layers(tiny_checkpoint("bert"), TEXTS[1])[0][position].mean(axis=0), atol=2e-5)


@pytest.mark.parametrize(("kind", "separator"), [("bert", "[SEP]"), ("roberta", "</s>")])
def test_with_context_the_mean_is_over_the_utterances_own_tokens(
    transformer: Callable[..., Transformer], tiny_checkpoint: Callable[[str], Path], kind: str, separator: str
) -> None:
    encoder = transformer(kind, history_turns=2, speaker_names=True, max_tokens=60)
    history = (("Ross", "left out"), ("Monica", "hello"), ("Ross", "no"))
    vector = encoder.encode(
        [UtteranceInput(utterance_id="a", text="You can't", speaker="Monica", history=history)]
    ).embeddings[0]
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


def test_a_long_history_is_cut_without_a_remark_and_a_long_utterance_with_one(
    transformer: Callable[..., Transformer],
) -> None:
    encoder = transformer("roberta", history_turns=9, max_tokens=16)
    history = tuple(("Ross", "and then we went to the beach") for _ in range(9))
    encoded = encoder.encode(
        [
            UtteranceInput(utterance_id="a", text="no", history=history),
            UtteranceInput(utterance_id="b", text="la " * 40, history=history),
        ]
    )
    assert encoded.present.all()
    [(index, reason, detail)] = encoded.remarks
    assert (index, reason) == (1, "truncated")
    assert detail.endswith("tokens were cut; the model is given at most 16")


def test_a_cut_utterance_equals_its_beginning(transformer: Callable[..., Transformer]) -> None:
    encoder = transformer("bert", max_tokens=6)
    longer, shorter = encoder.encode(_inputs("no good fine week next party serious", "no good fine week")).embeddings
    np.testing.assert_allclose(longer, shorter, atol=1e-6)
    assert encoder.encode(_inputs("no good fine week")).remarks == []
    assert encoder.encode(_inputs("no good fine week next")).remarks == [
        (0, "truncated", "1 of 5 tokens were cut; the model is given at most 6")
    ]


@dataclass
class Encoding:
    """The output of a tokenizer from the package tokenizers for a text."""

    ids: list[int]
    offsets: list[tuple[int, int]]
    special_tokens_mask: list[int]

    @property
    def type_ids(self) -> list[int]:
        return [0] * len(self.ids)

    def char_to_token(self, at: int) -> int | None:
        return next((token for token, (begin, end) in enumerate(self.offsets) if begin <= at < end), None)

    def __len__(self) -> int:
        return len(self.ids)


# <s> a b | c d e </s>: two tokens of context (characters 0 to 4), three of the utterance (4 to 10)
SEVEN = Encoding(
    [10, 11, 12, 13, 14, 15, 16], [(0, 0), (0, 2), (2, 4), (4, 6), (6, 8), (8, 10), (0, 0)], [1, 0, 0, 0, 0, 0, 1]
)
SPECIAL_ALONE = Encoding([10, 16], [(0, 0), (0, 0)], [1, 1])
NOTHING = Encoding([], [], [])
WITHOUT_SPECIAL = Encoding([7, 8], [(0, 3), (4, 9)], [0, 0])


@pytest.mark.parametrize(
    ("max_tokens", "ids", "own", "cut"),
    [
        (9, [10, 11, 12, 13, 14, 15, 16], (3, 6), 0),
        (6, [10, 12, 13, 14, 15, 16], (2, 5), 0),
        (5, [10, 13, 14, 15, 16], (1, 4), 0),
        (3, [10, 13, 16], (1, 2), 2),
    ],
)
def test_context_is_cut_from_its_beginning_then_the_utterance_from_its_end(
    max_tokens: int, ids: list[int], own: tuple[int, int], cut: int
) -> None:
    # together with other kinds of text, since all are truncated at once
    tokens = cut_to_length(
        [SPECIAL_ALONE, SEVEN, NOTHING, WITHOUT_SPECIAL], [(0, 1), (4, 10), (0, 1), (3, 9)], max_tokens
    )
    assert tokens.ids.tolist() == [10, 16, *ids, 7, 8]
    assert tokens.types.tolist() == [0] * (len(ids) + 4)
    assert tokens.lengths.tolist() == [2, len(ids), 0, 2]
    assert list(zip(tokens.own_begin.tolist(), tokens.own_end.tolist(), strict=True)) == [(0, 2), own, (0, 0), (1, 2)]
    assert tokens.cut.tolist() == [0, cut, 0, 0]


def test_without_context_all_tokens_but_the_special_ones_are_the_utterances_own() -> None:
    tokens = cut_to_length([SEVEN, WITHOUT_SPECIAL], None, 5)
    assert tokens.ids.tolist() == [10, 11, 12, 13, 16, 7, 8]
    assert (tokens.own_begin.tolist(), tokens.own_end.tolist(), tokens.cut.tolist()) == ([1, 0], [4, 2], [2, 0])


def test_an_utterance_of_no_visible_token_is_its_last_one() -> None:
    # "Ross: " and a character that the tokenizer removes
    tokens = cut_to_length([Encoding([10, 11, 12, 16], [(0, 0), (0, 4), (4, 5), (0, 0)], [1, 0, 0, 1])], [(6, 7)], 9)
    assert (tokens.own_begin.tolist(), tokens.own_end.tolist()) == ([2], [3])


def test_values_that_are_not_finite_make_the_vector_absent(
    transformer: Callable[..., Transformer], much_padding: None
) -> None:
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


@pytest.mark.parametrize(
    "text",
    [
        "<pad>",
        "</s></s>",
        "<pad><pad> no",
        "\u200b",
        "\U0001f600",
        "\U0001f600\U0001f525\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "\x00",
        "\ufffe\u202e",
        "e\u0301" * 20,
    ],
)
def test_special_tokens_and_odd_signs_in_a_transcript_do_no_harm(
    transformer: Callable[..., Transformer], text: str
) -> None:
    for context in ({}, {"history_turns": 1, "speaker_names": True}):
        encoder = transformer("roberta", **context)
        encoded = encoder.encode(_inputs(text, "no", history=(("Ross", "</s>"),)))
        assert encoded.present.all()
        alone = encoder.encode(_inputs("no", history=(("Ross", "</s>"),)))
        np.testing.assert_allclose(encoded.embeddings[1], alone.embeddings[0], atol=2e-5)


def test_a_text_that_the_tokenizer_leaves_nothing_of_is_absent(transformer: Callable[..., Transformer]) -> None:
    from tokenizers import normalizers

    encoder = transformer("gpt2")  # no special tokens
    encoder._tokenizer.backend_tokenizer.normalizer = normalizers.Replace("\u200b", "")
    encoded = encoder.encode(_inputs("no", "", "\u200b\u200b", "fine"))
    assert encoded.present.tolist() == [True, False, False, True]
    assert encoded.remarks == [
        (1, "no_text", "the transcript is empty"),
        (2, "no_text", "the tokenizer leaves nothing of it"),
    ]


def test_a_text_of_ten_thousand_tokens_is_cut_and_recorded_and_harms_no_neighbour(
    transformer: Callable[..., Transformer], much_padding: None
) -> None:
    encoder = transformer("bert")
    encoded = encoder.encode(_inputs("fine", "no " * 10_000, "week"))
    assert encoded.present.all()
    assert encoded.remarks == [(1, "truncated", "9938 of 10000 tokens were cut; the model is given at most 64")]
    np.testing.assert_allclose(
        encoded.embeddings[[0, 2]], encoder.encode(_inputs("fine", "week")).embeddings, atol=1e-5
    )
    np.testing.assert_allclose(encoded.embeddings[1], encoder.encode(_inputs("no " * 62)).embeddings[0], atol=1e-6)


def test_a_cut_and_a_padding_that_come_with_the_tokenizer_are_not_used(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint("bert"), tmp_path / "model"))
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    tokenizer["padding"] = {
        "strategy": {"Fixed": 32},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = {
        "family": "transformer",
        "pooling": "mean",
        "max_tokens": 32,
        "licence": "",
        "training_data_overlap": "",
    }
    vectors = []
    for repo in (folder, tiny_checkpoint("bert")):
        encoder = Transformer(Transformer.Config(**settings, repo=str(repo)))
        encoder.load("cpu")
        encoded = encoder.encode(_inputs("no good fine week next"))
        assert encoded.remarks == []
        vectors.append(encoded.embeddings)
    np.testing.assert_array_equal(vectors[0], vectors[1])


@pytest.mark.parametrize(("pooling", "position"), [("mean", 5), ("first", 5), ("mean_last4", None)])
def test_frames_are_the_utterances_own_tokens_of_the_layers_pooled(
    transformer: Callable[..., Transformer],
    tiny_checkpoint: Callable[[str], Path],
    much_padding: None,
    pooling: str,
    position: int | None,
) -> None:
    encoded = transformer("roberta", sequences=True, pooling=pooling, tokens_per_batch=100_000).encode(
        _inputs(*TEXTS, "")
    )
    assert encoded.sequences[-1] is None
    for text, frames in zip(TEXTS, encoded.sequences[:-1], strict=True):
        layers, _ = _layers(tiny_checkpoint("roberta"), text)
        expected = layers[-4:].mean(axis=0) if position is None else layers[position]
        assert len(frames.seconds) == 0
        np.testing.assert_allclose(frames.vectors, expected[1:-1], atol=5e-3, rtol=2e-3)


def test_frames_leave_out_the_context(transformer: Callable[..., Transformer]) -> None:
    encoder = transformer("bert", sequences=True, history_turns=2, speaker_names=True)
    history = (("Monica", "hello"), ("Ross", "no"))
    encoded = encoder.encode([UtteranceInput(utterance_id="a", text="You can't", speaker="Monica", history=history)])
    [frames] = encoded.sequences
    assert len(frames.vectors) == len(encoder._tokenizer("You can't")["input_ids"]) - 2
    np.testing.assert_allclose(frames.vectors.astype(np.float32).mean(axis=0), encoded.embeddings[0], atol=5e-3)


def test_frames_beyond_float16_are_limited(transformer: Callable[..., Transformer]) -> None:
    import torch

    encoder = transformer("bert", sequences=True, layer=0)
    with torch.no_grad():
        encoder._model.embeddings.LayerNorm.bias.fill_(1e6)
    [frames] = encoder.encode(_inputs("no")).sequences
    assert (frames.vectors == 65504).all()


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("bert", {"layer": 6}, r"pooling mean: layer 6; valid: 0 to 5, or -1 to -6"),
        ("bert", {"layer": -7}, r"layer -7"),
        ("bert", {"layer": 2, "pooling": "mean_last4"}, r"valid: 3 to 5, or -1 to -3"),
        ("bert", {"max_tokens": 65}, r"max_tokens is 65, the model takes at most 64"),
        ("roberta", {"max_tokens": 129}, r"max_tokens is 129, the model takes at most 128"),  # 130 rows, two never used
        ("gpt2", {"pooling": "first"}, r"no special token at the start; valid: mean, mean_last4"),
        (
            "llama",
            {"pooling": "first"},
            r"at layer -1 the first token is the same whatever follows; valid: mean, mean_last4",
        ),
        ("bert", {"pooling": "first", "layer": 0}, r"at layer 0 the first token is the same whatever follows"),
        ("bert", {"dim": 33}, r"the settings state dim: 33, but its vectors have 32 numbers"),
        (
            "deberta-v2",
            {},
            r"transformers cannot load it: DebertaV2Model does not support",
        ),  # sdpa; eager must be requested
    ],
)
def test_what_the_checkpoint_lacks_is_refused(
    transformer: Callable[..., Transformer], kind: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadSettings, match=message):
        transformer(kind, **settings)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("bert", {"layer": 6}, r"pooling mean: layer 6; valid: 0 to 5, or -1 to -6"),
        ("distilbert", {"layer": 2, "pooling": "mean_last4"}, r"pooling mean_last4: layer 2; valid: 3 to 5"),
        ("bart", {"layer": 6}, r"layer 6; valid: 0 to 5"),
        ("t5", {"layer": -7}, r"layer -7; valid: 0 to 5"),
        ("gpt2", {"layer": 6}, r"layer 6; valid: 0 to 5"),
        ("bert", {"max_tokens": 65}, r"max_tokens is 65, the model takes at most 64"),
        ("bert", {"dim": 33}, r"the settings state dim: 33, but its vectors have 32 numbers"),
    ],
)
def test_what_the_configuration_shows_is_refused_before_anything_is_loaded(
    tiny_checkpoint: Callable[[str], Path], kind: str, settings: dict[str, Any], message: str
) -> None:
    given = {
        "family": "transformer",
        "pooling": "mean",
        "max_tokens": 32,
        "licence": "",
        "training_data_overlap": "",
        **settings,
    }
    with pytest.raises(BadSettings, match=message):
        Transformer(Transformer.Config(repo=str(tiny_checkpoint(kind)), **given)).identity()


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        (
            {"model_type": "vit", "image_size": 224, "patch_size": 16},
            r"a vit model is not a text encoder \(its configuration has image_size, patch_size\)",
        ),
        (
            {"model_type": "clip", "text_config": {}, "vision_config": {}},
            r"a clip model is not a text encoder \(its configuration has vision_config\)",
        ),
        (
            {"model_type": "wav2vec2", "vocab_size": 32, "conv_stride": [5, 2]},
            r"a wav2vec2 model is not a text encoder",
        ),
        ({"model_type": "whisper", "vocab_size": 51865, "num_mel_bins": 80}, r"a whisper model is not a text encoder"),
        ({"num_hidden_layers": 3}, r"a nameless model is not a text encoder \(its configuration has no vocab_size\)"),
    ],
)
def test_a_model_of_another_modality_is_refused_before_anything_is_loaded(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, configuration: dict[str, Any], message: str
) -> None:
    shutil.copytree(tiny_checkpoint("bert"), tmp_path / "other")
    (tmp_path / "other/config.json").write_text(json.dumps(configuration))
    given = {"family": "transformer", "pooling": "mean", "max_tokens": 32, "licence": "", "training_data_overlap": ""}
    with pytest.raises(BadSettings, match=message):
        Transformer(Transformer.Config(repo=str(tmp_path / "other"), **given)).identity()


def test_the_longest_input_the_model_has_positions_for_works(transformer: Callable[..., Transformer]) -> None:
    encoded = transformer("roberta", max_tokens=128).encode(_inputs("la " * 300))
    assert encoded.present.all()


def test_a_config_of_an_unknown_type_is_explained(
    tiny_checkpoint: Callable[[str], Path], transformer: Callable[..., Transformer], tmp_path: Path
) -> None:
    shutil.copytree(tiny_checkpoint("bert"), tmp_path / "odd")
    config = json.loads((tmp_path / "odd/config.json").read_text())
    (tmp_path / "odd/config.json").write_text(json.dumps({**config, "model_type": "never_heard_of"}))
    settings = Transformer.Config(
        family="transformer",
        repo=str(tmp_path / "odd"),
        pooling="mean",
        max_tokens=32,
        tokens_per_batch=64,
        licence="",
        training_data_overlap="",
    )
    with pytest.raises(BadSettings, match=r"transformers cannot load it: .*never_heard_of"):
        Transformer(settings).load("cpu")


def test_only_what_decides_the_vectors_is_in_the_identity(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copytree(tiny_checkpoint("bert"), tmp_path / "elsewhere")
    settings = {
        "family": "transformer",
        "pooling": "mean",
        "max_tokens": 32,
        "tokens_per_batch": 64,
        "licence": "",
        "training_data_overlap": "",
    }

    def identity(**more: Any) -> dict[str, Any]:
        return Transformer(Transformer.Config(**{**settings, "repo": str(tiny_checkpoint("bert")), **more})).identity()

    assert (
        identity()
        == identity(repo=str(tmp_path / "elsewhere"))
        == identity(tokens_per_batch=7)
        == identity(revision="f" * 40)
    )
    assert identity() != identity(pooling="first")
    (tmp_path / "elsewhere/tokenizer_config.json").write_text("{}")
    assert identity() != identity(repo=str(tmp_path / "elsewhere"))


def test_a_model_that_is_not_here_is_named_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    settings = Transformer.Config(
        family="transformer",
        repo="org/model",
        revision="a" * 40,
        pooling="mean",
        max_tokens=9,
        tokens_per_batch=9,
        licence="",
        training_data_overlap="",
    )
    for ask in (lambda encoder: encoder.identity(), lambda encoder: encoder.load("cpu")):
        with pytest.raises(ModelUnavailable, match=rf"hf download org/model --revision {'a' * 40}"):
            ask(Transformer(settings, offline=True))


def test_the_real_minilm_gives_the_published_similarities() -> None:
    folder = os.environ.get("MERC_MINILM")
    if not folder:
        pytest.skip("MERC_MINILM is not set: no folder with all-MiniLM-L6-v2 to test on")
    encoder = Transformer(
        Transformer.Config(
            family="transformer",
            repo=folder,
            pooling="mean",
            max_tokens=256,
            tokens_per_batch=2048,
            licence="",
            training_data_overlap="",
        )
    )
    encoder.load("cpu")
    texts = ["That is a happy person", "That is a very happy person", "Today is a sunny day", "no " * 200]
    together = encoder.encode(_inputs(*texts)).embeddings
    alone = np.concatenate([encoder.encode(_inputs(text)).embeddings for text in texts])
    assert (_cosines(together, alone) >= 0.9999).all()
    assert encoder.dim == 384
    # the hub's own example of sentence similarity with this model: 0.943 for the second sentence, 0.257 for the third
    assert _cosines(together[[0, 0]], together[[1, 2]]).tolist() == pytest.approx([0.943, 0.257], abs=2e-3)
