"""Tiny checkpoints with random weights, and one encoder of every family, all generated on the fly."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from merc import plugins
from merc.encoders.audio.acoustic import Acoustic
from merc.encoders.audio.functionals import Functionals
from merc.encoders.audio.spectrogram import Spectrogram
from merc.encoders.audio.waveform import Waveform
from merc.encoders.engine.base import Encoder, UtteranceInput
from merc.encoders.text.ngrams import Ngrams
from merc.encoders.text.transformer import Transformer
from merc.encoders.visual.gradients import Gradients
from merc.encoders.visual.image_tower import ImageTower
from merc.encoders.visual.sface import Sface
from merc.layout import MODALITIES
from merc.records.media import SAMPLE_RATE_HZ

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
    """Returns the folder of a text checkpoint of a given type: bert (words), roberta (bytes), gpt2 (no padding token),
    bart (encoder-decoder), …
    """
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = _save(kind, tmp_path_factory.mktemp(kind))
        return made[kind]

    return folder


def _save(kind: str, folder: Path) -> Path:
    import torch
    import transformers

    torch.manual_seed(5)
    tokenizer = (
        _word_tokenizer()
        if kind in ("bert", "distilbert")
        else _byte_tokenizer(with_padding=kind != "gpt2", ends=kind != "gpt2", ending=kind != "llama")
    )
    tokenizer.save_pretrained(folder)
    common = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    # Weights ten times as large as usual: with 0.02 attention would be nearly uniform, and a forgotten mask would
    # hardly be noticed.
    wide = {
        "hidden_size": 32,
        "num_hidden_layers": 5,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "initializer_range": 0.2,
    }
    narrow = {"n_embd": 32, "n_layer": 5, "n_head": 2, "initializer_range": 0.2}
    distilled = {"dim": 32, "n_layers": 5, "n_heads": 2, "hidden_dim": 64, "initializer_range": 0.2}
    relative = {
        "relative_attention": True,
        "position_biased_input": False,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 8,
        "type_vocab_size": 0,
    }
    types: dict[str, tuple[str, dict[str, Any]]] = {
        "bert": ("Bert", {**common, **wide, "max_position_embeddings": 64}),
        "roberta": ("Roberta", {**common, **wide, "max_position_embeddings": 130, "type_vocab_size": 1}),
        "xlm-roberta": ("XLMRoberta", {**common, **wide, "max_position_embeddings": 130, "type_vocab_size": 1}),
        "electra": ("Electra", {**common, **wide, "max_position_embeddings": 128, "embedding_size": 16}),
        "mpnet": ("MPNet", {**common, **wide, "max_position_embeddings": 130}),
        "deberta-v2": ("DebertaV2", {**common, **wide, **relative, "max_position_embeddings": 128,
        "norm_rel_ebd": "layer_norm", "share_att_key": True}),
        "llama": ("Llama", {**common, **wide, "max_position_embeddings": 128, "num_key_value_heads": 1,
        "bos_token_id": 0, "eos_token_id": 2}),
        "distilbert": ("DistilBert", {**common, **distilled, "max_position_embeddings": 64}),
        "gpt2": ("GPT2", {**narrow, "vocab_size": len(tokenizer), "n_positions": 128, "bos_token_id": 0,
        "eos_token_id": 0}),
        "bart": (
            "Bart",
            {
                **common, "max_position_embeddings": 128, "d_model": 32, "encoder_layers": 5, "decoder_layers": 1,
                "encoder_attention_heads": 2,
                "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "init_std": 0.2,
            },
        ),
        "t5": ("T5", {**common, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 5, "num_decoder_layers": 1,
        "num_heads": 2, "decoder_start_token_id": 1}),
    }  # fmt: skip
    name, settings = types[kind]
    model = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**settings))
    model.save_pretrained(folder)
    return folder


def _word_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = sorted(
        {word for text in TEXTS for word in text.lower().replace(",", " ").replace(".", " ").split()}
        | {"ross", "monica", ":", "hello", ","}
    )
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **names,
    )


def _byte_tokenizer(*, with_padding: bool, ends: bool, ending: bool = True) -> Any:
    """Special tokens at both ends, or (``ending`` False) only at the start, or (``ends`` False) at neither."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(TEXTS, trainer)
    if ends and ending:
        made.post_processor = processors.RobertaProcessing(
            ("</s>", 2), ("<s>", 0), trim_offsets=False, add_prefix_space=False
        )
    elif ends:
        made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    names = (
        {"bos_token": "<s>", "eos_token": "</s>"}
        | ({"cls_token": "<s>", "sep_token": "</s>"} if ends else {})
        | ({"pad_token": "<pad>"} if with_padding else {})
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, model_input_names=["input_ids", "attention_mask"], **names)


@pytest.fixture(scope="session")
def transformer(tiny_checkpoint: Callable[[str], Path]) -> Callable[..., Transformer]:
    """Returns a loaded transformer of a type; ``device``, ``sequences`` and further settings by name."""
    import torch

    torch.set_num_threads(1)  # two threads on models this small only wait for each other

    def make(kind: str, *, device: str = "cpu", sequences: bool = False, **settings: Any) -> Transformer:
        given = {
            "pooling": "mean",
            "max_tokens": 64,
            "tokens_per_batch": 1000,
            "licence": "none",
            "training_data_overlap": "none",
            **settings,
        }
        encoder = Transformer(
            Transformer.Config(family="transformer", repo=str(tiny_checkpoint(kind)), **given), sequences=sequences
        )
        encoder.load(device)
        return encoder

    return make


_LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
_DATA2VEC = {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 11, "num_feat_extract_layers": 7}
# Models that read the waveform: transformers' class, settings of its configuration, do_normalize of the preprocessor,
# attention.
WAVEFORM_KINDS: dict[str, tuple[str, dict[str, Any], bool, str]] = {
    "wav2vec2 base": ("Wav2Vec2", {"feat_extract_norm": "group"}, True, "sdpa"),
    "wav2vec2 base with bias": ("Wav2Vec2", {"feat_extract_norm": "group", "conv_bias": True}, False, "sdpa"),
    "wav2vec2 large": ("Wav2Vec2", _LARGE, True, "sdpa"),
    "hubert base": ("Hubert", {"feat_extract_norm": "group"}, True, "sdpa"),
    "hubert large": ("Hubert", _LARGE, True, "sdpa"),
    "hubert with batch norm": ("Hubert", {"feat_extract_norm": "layer", "conv_pos_batch_norm": True}, True, "sdpa"),
    "wavlm base": ("WavLM", {"feat_extract_norm": "group"}, False, "eager"),
    "wavlm large": ("WavLM", _LARGE, True, "eager"),
    "data2vec": ("Data2VecAudio", _DATA2VEC, True, "sdpa"),
}


@pytest.fixture(scope="session")
def waveform_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Returns the folder of a checkpoint of a kind that reads the waveform; further settings of its configuration by
    name.
    """
    made: dict[str, Path] = {}

    def folder(kind: str, **settings: Any) -> Path:
        key = f"{kind} {sorted(settings.items())}"
        if key not in made:
            made[key] = _save_waveform(kind, settings, tmp_path_factory.mktemp("waveform"))
        return made[key]

    return folder


def _save_waveform(kind: str, settings: dict[str, Any], folder: Path) -> Path:
    import torch
    import transformers

    torch.manual_seed(11)
    name, own, normalise, _ = WAVEFORM_KINDS[kind]
    # The convolutions have their real kernels and strides. Weights of linear layers are ten times as large as usual, as
    # above.
    size = {
        "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48,
        "initializer_range": 0.2, "conv_dim": [16] * 7,
        "num_conv_pos_embeddings": 32, "num_conv_pos_embedding_groups": 4, "vocab_size": 8,
    }  # fmt: skip
    model = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**{**size, **own, **settings}))
    with torch.no_grad():
        for module in model.modules():
            # Freshly initialised norms only normalise: a mistake in scale or shift, or in a running mean, would not be
            # noticed.
            if (
                isinstance(module, torch.nn.GroupNorm | torch.nn.LayerNorm | torch.nn.BatchNorm1d)
                and module.weight is not None
            ):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 1.5)
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=normalise, return_attention_mask=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def waveform(waveform_checkpoint: Callable[..., Path]) -> Callable[..., Waveform]:
    """Returns a loaded encoder of a kind; ``device``, ``sequences``, ``checkpoint`` (settings of its configuration) and
    further settings by name.
    """
    import torch

    torch.set_num_threads(1)

    def make(
        kind: str,
        *,
        device: str = "cpu",
        sequences: bool = False,
        checkpoint: dict[str, Any] | None = None,
        **settings: Any,
    ) -> Waveform:
        given = {
            "repo": str(waveform_checkpoint(kind, **(checkpoint or {}))), "attention": WAVEFORM_KINDS[kind][3],
            "pooling": "mean", "window_seconds": 30,
            "overlap_seconds": 2, "minimum_seconds": 0.1, "samples_per_batch": 160_000, "licence": "none",
            "training_data_overlap": "none", **settings,
        }  # fmt: skip
        encoder = Waveform(Waveform.Config(family="waveform", **given), sequences=sequences)
        encoder.load(device)
        return encoder

    return make


# Models that read a spectrogram: transformers' class, settings of the model, settings of its feature extractor.
# Whisper's input is one second here.
_WHISPER = {
    "d_model": 32, "encoder_layers": 3, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64, "num_mel_bins": 16, "max_source_positions": 50, "vocab_size": 60, "init_std": 0.2,
    "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "decoder_start_token_id": 1,
}  # fmt: skip
_AST = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64, "num_mel_bins": 48,
    "max_length": 128,
    "initializer_range": 0.2,
}  # fmt: skip
SPECTROGRAM_KINDS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "whisper": ("WhisperModel", _WHISPER, {"feature_size": 16, "chunk_length": 1}),
    "whisper of three seconds": (
        "WhisperModel",
        {**_WHISPER, "max_source_positions": 150},
        {"feature_size": 16, "chunk_length": 3},
    ),
    "whisper for transcription": ("WhisperForConditionalGeneration", _WHISPER, {"feature_size": 16, "chunk_length": 1}),
    "ast": ("ASTModel", _AST, {"num_mel_bins": 48, "max_length": 128}),
    "ast classifier": ("ASTForAudioClassification", _AST, {"num_mel_bins": 48, "max_length": 128}),
}


@pytest.fixture(scope="session")
def spectrogram_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns the folder of a checkpoint of a kind that reads a spectrogram."""
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = _save_spectrogram(kind, tmp_path_factory.mktemp("spectrogram"))
        return made[kind]

    return folder


def _save_spectrogram(kind: str, folder: Path) -> Path:
    import torch
    import transformers

    torch.manual_seed(7)
    name, settings, of_extractor = SPECTROGRAM_KINDS[kind]
    family = "Whisper" if name.startswith("Whisper") else "AST"
    model = getattr(transformers, name)(getattr(transformers, f"{family}Config")(**settings))
    with torch.no_grad():
        for weight in (
            model.parameters()
        ):  # positions, tokens and norms start as zeros and ones, which would hide mistakes with them
            weight.add_(0.05 * torch.randn(weight.shape))
    model.save_pretrained(folder)
    getattr(transformers, f"{family}FeatureExtractor")(**of_extractor).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def spectrogram(spectrogram_checkpoint: Callable[[str], Path]) -> Callable[..., Spectrogram]:
    """Returns a loaded encoder of a kind that reads a spectrogram; ``device``, ``sequences`` and further settings by
    name.
    """
    import torch

    torch.set_num_threads(1)

    def make(kind: str, *, device: str = "cpu", sequences: bool = False, **settings: Any) -> Spectrogram:
        given = {
            "pooling": "mean",
            "overlap_seconds": 0.2,
            "windows_per_batch": 3,
            "licence": "none",
            "training_data_overlap": "none",
            **settings,
        }
        encoder = Spectrogram(
            Spectrogram.Config(family="spectrogram", repo=str(spectrogram_checkpoint(kind)), **given),
            sequences=sequences,
        )
        encoder.load(device)
        return encoder

    return make


# Image towers: transformers' class, settings of the model, class and settings of the image processor. Their images
# have 32 pixels, 4 x 4 patches.
_IMAGE = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
_DINOV2 = {key: value for key, value in _IMAGE.items() if key != "intermediate_size"} | {"initializer_range": 0.2}
_TEXT = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 50,
    "max_position_embeddings": 16,
}
_ENDS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
_SQUARE = {"size": {"height": 32, "width": 32}}
_CROPPED = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}
IMAGE_KINDS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "vit": ("ViTModel", {**_IMAGE, "initializer_range": 0.2}, "ViTImageProcessor", _SQUARE),
    "vit classifier": (
        "ViTForImageClassification",
        {**_IMAGE, "initializer_range": 0.2, "num_labels": 7},
        "ViTImageProcessor",
        _SQUARE,
    ),
    "deit": (
        "DeiTModel",
        {**_IMAGE, "initializer_range": 0.2},
        "DeiTImageProcessor",
        {"size": {"height": 36, "width": 36}, "crop_size": 32},
    ),
    "beit": (
        "BeitModel",
        {**_IMAGE, "initializer_range": 0.2, "use_relative_position_bias": True},
        "BeitImageProcessor",
        _SQUARE,
    ),
    "dinov2": ("Dinov2Model", {**_DINOV2, "image_size": 64}, "BitImageProcessor", _CROPPED),
    "dinov2 with registers": (
        "Dinov2WithRegistersModel",
        {**_DINOV2, "num_register_tokens": 3},
        "BitImageProcessor",
        _CROPPED,
    ),
    "clip": (
        "CLIPModel",
        {
            "vision_config": {**_IMAGE, "projection_dim": 24, "initializer_factor": 4.0},
            "text_config": {**_TEXT, **_ENDS, "projection_dim": 24},
            "projection_dim": 24,
        },
        "CLIPImageProcessor",
        {**_CROPPED, "size": {"shortest_edge": 32}},
    ),
    "siglip": (
        "SiglipModel",
        {"vision_config": _IMAGE, "text_config": {**_TEXT, **_ENDS}},
        "SiglipImageProcessor",
        _SQUARE,
    ),
}


@pytest.fixture(scope="session")
def image_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns the folder of a checkpoint of an image tower of a kind."""
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = _save_image(kind, tmp_path_factory.mktemp("image"))
        return made[kind]

    return folder


def _save_image(kind: str, folder: Path) -> Path:
    import torch
    import transformers

    torch.manual_seed(13)
    name, settings, processor, of_processor = IMAGE_KINDS[kind]
    configuration = getattr(transformers, name).config_class(**settings)
    model = getattr(transformers, name)(configuration)
    with torch.no_grad():
        for weight in (
            model.parameters()
        ):  # class tokens, registers and norms start as zeros and ones, which would hide mistakes with them
            weight.add_(0.05 * torch.randn(weight.shape))
    model.save_pretrained(folder)
    getattr(transformers, processor)(**of_processor).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def image_tower(image_checkpoint: Callable[[str], Path]) -> Callable[..., ImageTower]:
    """Returns a loaded image tower of a kind; ``device``, ``sequences`` and further settings by name."""
    import torch

    torch.set_num_threads(1)

    def make(kind: str, *, device: str = "cpu", sequences: bool = False, **settings: Any) -> ImageTower:
        given = {
            "repo": str(image_checkpoint(kind)), "frame_vector": "mean", "pooling": "mean",
            "confidence_temperature": 0.1, "images_per_batch": 4,
            "licence": "none", "training_data_overlap": "none", **settings,
        }  # fmt: skip
        encoder = ImageTower(ImageTower.Config(family="image_tower", **given), sequences=sequences)
        encoder.load(device)
        return encoder

    return make


@pytest.fixture(scope="session")
def sface(sface_folder: Path) -> Sface:
    return _loaded(
        Sface(Sface.Config(family="sface", repo=str(sface_folder), filename="tiny.onnx", sha256="", dim=None))
    )


@pytest.fixture(scope="session")
def acoustic() -> Acoustic:
    return _loaded(Acoustic(Acoustic.Config(family="acoustic")))


@pytest.fixture(scope="session")
def gradients() -> Gradients:
    return _loaded(Gradients(Gradients.Config(family="gradients")))


@pytest.fixture(scope="session")
def ngrams() -> Ngrams:
    return _loaded(Ngrams(Ngrams.Config(family="ngrams")))


def _loaded(encoder: Any) -> Any:
    encoder.load("cpu")
    return encoder


@pytest.fixture
def much_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets items of any lengths share a batch: with the usual limit a handful of them would hardly be padded, and a
    forgotten mask would not be noticed.
    """
    monkeypatch.setattr("merc.encoders.engine.batching.MAX_PADDING_SHARE", 1.0)


@pytest.fixture(scope="session")
def functionals() -> Functionals:
    pytest.importorskip("opensmile", reason="openSMILE is not installed: its licence forbids commercial products")
    return _loaded(Functionals(Functionals.Config(family="functionals")))


# Families that need a file, which a fixture with their name makes. Those neither here nor below are built from their
# defaults.
WITH_A_FILE = {"sface"}
# For families that need a checkpoint, test id: the family, whose fixture makes a loaded encoder, the type of its tiny
# checkpoint, settings. They run on the GPU too.
NEURAL: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("transformer", "bert", {}),
    "roberta": ("transformer", "roberta", {}),
    "roberta with history": ("transformer", "roberta", {"history_turns": 2, "speaker_names": True}),
    "xlm-roberta": ("transformer", "xlm-roberta", {}),
    "electra": ("transformer", "electra", {}),
    "mpnet": ("transformer", "mpnet", {"attention": "eager"}),
    "distilbert": ("transformer", "distilbert", {}),
    "deberta-v2": ("transformer", "deberta-v2", {"attention": "eager"}),
    "gpt2": ("transformer", "gpt2", {}),
    "bart": ("transformer", "bart", {}),
    "t5": ("transformer", "t5", {"attention": "eager"}),
    "bert by oneDNN": ("transformer", "bert", {"linear_layers": "onednn"}),
    "roberta with history by oneDNN": (
        "transformer",
        "roberta",
        {"history_turns": 2, "speaker_names": True, "linear_layers": "onednn"},
    ),
    "wav2vec2 base": ("waveform", "wav2vec2 base", {}),
    "wav2vec2 base by oneDNN": ("waveform", "wav2vec2 base", {"linear_layers": "onednn"}),
    "hubert large by oneDNN": ("waveform", "hubert large", {"linear_layers": "onednn"}),
    "wavlm base by oneDNN": ("waveform", "wavlm base", {"linear_layers": "onednn"}),
    "hubert large in windows": (
        "waveform",
        "hubert large",
        {"pooling": "mean_std", "window_seconds": 1, "overlap_seconds": 0.2},
    ),
    "wavlm base, weighted layers": ("waveform", "wavlm base", {"layer_weights": [1, 0, 2, 1]}),
    "data2vec": ("waveform", "data2vec", {"layer": 2}),
    "whisper": ("spectrogram", "whisper", {"pooling": "mean_std"}),
    "whisper by oneDNN": ("spectrogram", "whisper", {"linear_layers": "onednn"}),
    "ast": ("spectrogram", "ast", {}),
    "ast with special tokens": ("spectrogram", "ast", {"pooling": "cls_and_distillation"}),
    "vit": ("image_tower", "vit", {"frame_vector": "first", "pooling": "mean_std"}),
    "vit by oneDNN": ("image_tower", "vit", {"linear_layers": "onednn"}),
    "facial expression vit": ("image_tower", "vit classifier", {"layer": 2}),
    "deit": ("image_tower", "deit", {}),
    "beit": ("image_tower", "beit", {}),
    "dinov2": ("image_tower", "dinov2", {"frame_vector": "pooler"}),
    "dinov2 with registers": ("image_tower", "dinov2 with registers", {"pooling": "confidence"}),
    "clip": ("image_tower", "clip", {"frame_vector": "projection"}),
    "siglip": ("image_tower", "siglip", {"frame_vector": "pooler"}),
}


@pytest.fixture(scope="session")
def loaded() -> dict[tuple[str, str], Encoder]:
    """Encoders already loaded: their output must not depend on what they encoded before."""
    return {}


FAMILIES = {
    family: modality for modality in MODALITIES for family in plugins.names(f"merc.encoders.{modality}", Encoder)
}
OTHERS = [family for family in FAMILIES if family not in {case[0] for case in NEURAL.values()}]


@pytest.fixture(
    params=[
        *(pytest.param((name, "cpu"), id=name) for name in (*OTHERS, *NEURAL)),
        *(pytest.param((name, "cuda:0"), id=f"{name} on the GPU", marks=pytest.mark.needs_cuda) for name in NEURAL),
    ]
)
def encoder(
    request: pytest.FixtureRequest,
    much_padding: None,
    by_defaults: Callable[[str], Encoder],
    loaded: dict[tuple[str, str], Encoder],
) -> Encoder:
    """Loaded encoders of every family; their batches may consist mostly of padding."""
    name, device = request.param
    if name in WITH_A_FILE:
        return request.getfixturevalue(name)
    if name in FAMILIES:
        return by_defaults(name)
    if request.param not in loaded:
        family, kind, settings = NEURAL[name]
        loaded[request.param] = request.getfixturevalue(family)(kind, device=device, **settings)
    return loaded[request.param]


@pytest.fixture(scope="session")
def by_defaults() -> Callable[[str], Encoder]:
    """Returns the loaded encoder of a family that needs only its defaults."""

    @cache
    def load(family: str) -> Encoder:
        kind = plugins.load(f"merc.encoders.{FAMILIES[family]}", family, Encoder)
        try:
            made = kind(kind.Config(family=family))
        except ValidationError as error:
            pytest.fail(
                f"{family} needs more than its defaults: say in NEURAL or WITH_A_FILE how to make one that is tiny:"
                f" {error}"
            )
        if missing := made.missing():
            pytest.skip(missing)
        made.load("cpu")
        return made

    return load


@pytest.fixture(scope="session")
def voice() -> Callable[..., np.ndarray]:
    """Returns (samples,) float32: harmonics of a gliding pitch, with syllables as bursts of loudness."""

    def make(
        seconds: float,
        pitch_hz: float = 150.0,
        octaves: float = 0.0,
        syllables_per_second: float = 0.0,
        level: float = 0.3,
    ) -> np.ndarray:
        time = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
        phase = 2 * np.pi * np.cumsum(pitch_hz * 2 ** (octaves * time / seconds)) / SAMPLE_RATE_HZ
        sound = sum(np.sin(number * phase) / number for number in range(1, 9)) / 2
        loudness = (
            0.5 - 0.5 * np.cos(2 * np.pi * syllables_per_second * time) if syllables_per_second else np.ones_like(time)
        )
        return (level * loudness * sound).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def utterances(voice: Callable[..., np.ndarray]) -> Sequence[UtteranceInput]:
    """Seven utterances of different lengths; in every modality some are empty."""
    rng = np.random.default_rng(3)
    waveforms = [
        voice(0.7),
        voice(1.9, 220, 0.3, 4),
        voice(0.05),
        voice(1.2, 90),
        None,
        np.zeros(8000, dtype=np.float32),
        voice(0.4, 300),
    ]
    frames = [3, 1, 0, 5, None, 2, 4]
    return [
        UtteranceInput(
            utterance_id=f"test/dia0_utt{number}",
            text=text,
            speaker=("Ross", "Monica")[number % 2],
            history=tuple((("Ross", "Monica")[turn % 2], TEXTS[turn]) for turn in range(max(0, number - 2), number)),
            waveform=waveform,
            faces=None if count is None else rng.integers(0, 256, (count, 40, 40, 3), dtype=np.uint8),
            face_seconds=None if count is None else (np.arange(count, dtype=np.float32) + 0.5) / 8,
            face_scores=None if count is None else np.linspace(0.6, 0.9, count, dtype=np.float32),
        )
        for number, (text, waveform, count) in enumerate(zip(TEXTS, waveforms, frames, strict=True))
    ]
