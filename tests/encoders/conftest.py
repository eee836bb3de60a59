"""Tiny checkpoints with random weights, and one encoder of every family, all made on the spot."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.encoders.audio.acoustic import Acoustic, AcousticConfig
from pipeline.encoders.base import SAMPLE_RATE_HZ, Encoder, UtteranceInput
from pipeline.encoders.text.ngrams import Ngrams, NgramsConfig
from pipeline.encoders.text.transformer import Transformer, TransformerConfig
from pipeline.encoders.visual.gradients import Gradients, GradientsConfig

TEXTS = (
    "I'm fine.",
    "Oh my God, you can't be serious! You're NOT going to that party without me, are you?",
    "no",
    "Well, I was thinking that we could maybe, you know, go out to dinner some time next week, just the two of us.",
    "   ",
    "[LAUGHTER] Sooo good!!!",
    "",
)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the folder of a checkpoint of a type: bert (words), roberta (bytes), gpt2 (no padding token), bart (encoder-decoder)."""
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = _save(kind, tmp_path_factory.mktemp(kind))
        return made[kind]

    return folder


def _save(kind: str, folder: Path) -> Path:
    import torch
    from transformers import BartConfig, BartModel, BertConfig, BertModel, GPT2Config, GPT2Model, RobertaConfig, RobertaModel

    torch.manual_seed(5)
    tokenizer = _word_tokenizer() if kind == "bert" else _byte_tokenizer(with_padding=kind != "gpt2", ends=kind != "gpt2")
    tokenizer.save_pretrained(folder)
    size = len(tokenizer)
    # Weights ten times as large as usual: with 0.02 attention would be nearly even, and a forgotten mask would hardly show.
    both: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 5, "num_attention_heads": 2, "intermediate_size": 64, "initializer_range": 0.2}
    if kind == "bert":
        model = BertModel(BertConfig(vocab_size=size, max_position_embeddings=64, pad_token_id=tokenizer.pad_token_id, **both))
    elif kind == "roberta":
        model = RobertaModel(RobertaConfig(vocab_size=size, max_position_embeddings=130, pad_token_id=tokenizer.pad_token_id, type_vocab_size=1, **both))
    elif kind == "gpt2":
        model = GPT2Model(GPT2Config(vocab_size=size, n_positions=128, n_embd=32, n_layer=5, n_head=2, initializer_range=0.2, bos_token_id=0, eos_token_id=0))
    else:
        model = BartModel(
            BartConfig(
                vocab_size=size, max_position_embeddings=128, d_model=32, encoder_layers=5, decoder_layers=1, encoder_attention_heads=2,
                decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, init_std=0.2, pad_token_id=tokenizer.pad_token_id,
            )
        )  # fmt: skip
    model.save_pretrained(folder)
    return folder


def _word_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = sorted({word for text in TEXTS for word in text.lower().replace(",", " ").replace(".", " ").split()} | {"ross", "monica", ":", "hello", ","})
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=64, model_input_names=["input_ids", "token_type_ids", "attention_mask"], **names)


def _byte_tokenizer(*, with_padding: bool, ends: bool) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    made.train_from_iterator(TEXTS, trainer)
    if ends:
        made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=False, add_prefix_space=False)
    names = (
        {"bos_token": "<s>", "eos_token": "</s>"}
        | ({"cls_token": "<s>", "sep_token": "</s>"} if ends else {})
        | ({"pad_token": "<pad>"} if with_padding else {})
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, model_input_names=["input_ids", "attention_mask"], **names)


@pytest.fixture(scope="session")
def transformer(tiny_checkpoint: Callable[[str], Path]) -> Callable[..., Transformer]:
    """Makes a loaded transformer of a type; further settings by name."""
    import torch

    torch.set_num_threads(1)  # two threads on models this small only wait for each other

    def make(kind: str, **settings: Any) -> Transformer:
        given = {"pooling": "mean", "max_tokens": 64, "tokens_per_batch": 200, "licence": "none", "training_data_overlap": "none", **settings}
        encoder = Transformer(TransformerConfig(family="transformer", repo=str(tiny_checkpoint(kind)), **given))
        encoder.load("cpu")
        return encoder

    return make


@pytest.fixture(scope="session")
def acoustic() -> Acoustic:
    """With the settings of params.yaml."""
    return _loaded(
        Acoustic(
            AcousticConfig(
                family="acoustic", minimum_seconds=0.1, window_ms=25, hop_ms=10, pitch_window_ms=64, pitch_min_hz=60, pitch_max_hz=500,
                voicing_threshold=0.45, quiet_db=30,
            )
        )
    )  # fmt: skip


@pytest.fixture(scope="session")
def gradients() -> Gradients:
    return _loaded(Gradients(GradientsConfig(family="gradients", size_px=64, cell_px=16, block_cells=2, bins=9)))


@pytest.fixture(scope="session")
def ngrams() -> Ngrams:
    return _loaded(Ngrams(NgramsConfig(family="ngrams", word_dims=384, char_dims=120, word_ngrams=(1, 2), char_ngrams=(2, 4))))


def _loaded(encoder: Any) -> Any:
    encoder.load("cpu")
    return encoder


@pytest.fixture(params=["ngrams", "acoustic", "gradients", "bert", "roberta", "roberta with history"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    """One encoder of every family, loaded."""
    if request.param in ("ngrams", "acoustic", "gradients"):
        return request.getfixturevalue(request.param)
    make = request.getfixturevalue("transformer")
    return make("bert") if request.param == "bert" else make("roberta", history_turns=2, speaker_names=True) if "history" in request.param else make("roberta")


@pytest.fixture(scope="session")
def voice() -> Callable[..., np.ndarray]:
    """Makes (samples,) float32: harmonics of a pitch that glides, with syllables a second as bursts of loudness."""

    def make(seconds: float, pitch_hz: float = 150.0, octaves: float = 0.0, syllables_per_second: float = 0.0, level: float = 0.3) -> np.ndarray:
        time = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
        phase = 2 * np.pi * np.cumsum(pitch_hz * 2 ** (octaves * time / seconds)) / SAMPLE_RATE_HZ
        sound = sum(np.sin(number * phase) / number for number in range(1, 9)) / 2
        loudness = 0.5 - 0.5 * np.cos(2 * np.pi * syllables_per_second * time) if syllables_per_second else np.ones_like(time)
        return (level * loudness * sound).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def utterances(voice: Callable[..., np.ndarray]) -> Sequence[UtteranceInput]:
    """Seven utterances of different lengths; in every modality some have nothing."""
    rng = np.random.default_rng(3)
    waveforms = [voice(0.7), voice(1.9, 220, 0.3, 4), voice(0.05), voice(1.2, 90), None, np.zeros(8000, dtype=np.float32), voice(0.4, 300)]
    frames = [3, 1, 0, 5, None, 2, 4]
    return [
        UtteranceInput(
            utterance_id=f"test/dia0_utt{number}",
            text=text,
            speaker=("Ross", "Monica")[number % 2],
            history=tuple((("Ross", "Monica")[turn % 2], TEXTS[turn]) for turn in range(max(0, number - 2), number)),
            waveform=waveform,
            faces=None if count is None else rng.integers(0, 256, (count, 40, 40, 3), dtype=np.uint8),
        )
        for number, (text, waveform, count) in enumerate(zip(TEXTS, waveforms, frames, strict=True))
    ]
