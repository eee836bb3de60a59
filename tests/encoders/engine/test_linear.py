"""Which library computes the linear layers: the rule by the kind of processor, equal vectors, and what rules out
oneDNN.
"""

import gc
import logging
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from merc.encoders.engine import linear
from merc.encoders.engine.base import Encoder, UtteranceInput
from merc.encoders.text.transformer import Transformer

X86 = (
    "processor\t: 0\nvendor_id\t: {}\nmodel name\t: one\nflags\t\t: fpu sse2 {}\n\nprocessor\t: 1\nvendor_id\t:"
    " Another\nflags\t\t: fpu\n"
)
ARM = "processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd sve\nCPU implementer\t: 0x41\n"


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        (X86.format("AuthenticAMD", "avx2 avx512f avx512vl"), "onednn"),
        (X86.format("AuthenticAMD", "avx2 fma"), "torch"),
        (X86.format("GenuineIntel", "avx2 avx512f avx512vl"), "torch"),
        (X86.format("GenuineIntel", "avx2"), "torch"),
        (X86.format("CentaurHauls", "avx2 avx512f"), "onednn"),
        (ARM, "torch"),
        ("", "torch"),
        (None, "torch"),
    ],
    ids=[
        "AMD",
        "AMD without AVX-512",
        "Intel",
        "Intel without AVX-512",
        "a third maker's",
        "ARM",
        "an empty file",
        "no such file",
    ],
)
def test_automatic_is_onednn_where_the_processor_has_avx512_and_is_not_intels(
    processor: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "_PROCESSOR", tmp_path / "cpuinfo")
    if processor is not None:
        (tmp_path / "cpuinfo").write_text(processor)
    assert linear.choose("auto") == expected
    assert [linear.choose("torch"), linear.choose("onednn")] == ["torch", "onednn"]


class Small(nn.Module):
    """Layers with and without a bias, one of them used in two places, and one whose weight is read directly."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.first, self.bare, self.read = nn.Linear(24, 40), nn.Linear(40, 24, bias=False), nn.Linear(24, 8)
        self.blocks = nn.ModuleList([self.first, self.bare])

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        for block in (self.first, self.bare, *self.blocks):
            given = block(given)
        return nn.functional.linear(given, self.read.weight, self.read.bias)


@torch.inference_mode()
@pytest.mark.parametrize("shape", [(1, 24), (300, 24), (3, 7, 24), (0, 24), (2, 0, 24), (24,)], ids=str)
def test_layers_by_onednn_give_what_torch_gives_for_inputs_of_any_shape(shape: tuple[int, ...]) -> None:
    by_torch, by_onednn = Small(), Small()
    assert linear.hand_over(by_onednn, "small") == "onednn"
    given = torch.randn(shape)
    torch.testing.assert_close(by_onednn(given), by_torch(given), rtol=1e-5, atol=1e-5)
    if len(shape) == 3:
        turned = torch.randn(24, 7, 3).permute(2, 1, 0)  # not contiguous
        torch.testing.assert_close(by_onednn(turned), by_torch(turned), rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_a_row_is_the_same_alone_and_among_others() -> None:
    model = Small()
    linear.hand_over(model, "small")
    given = torch.randn(65, 24)
    together = model(given)
    for rows in (1, 2, 15, 64):
        torch.testing.assert_close(model(given[:rows]), together[:rows], rtol=1e-5, atol=1e-6)


def test_a_shared_layer_stays_shared_and_no_weight_is_in_memory_twice() -> None:
    model = Small()
    expected = model.first.weight.detach().clone()
    before = weakref.ref(model.first.weight)
    linear.hand_over(model, "small")
    gc.collect()
    assert before() is None
    assert not any(isinstance(module, nn.Linear) for module in model.modules())
    assert model.blocks[0] is model.first
    assert torch.equal(model.first.weight, expected)
    assert sorted(name for name, _ in model.named_parameters()) == ["first.bias", "read.bias"]


def _not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)


def _other_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = linear.OneDnnLinear.forward
    monkeypatch.setattr(
        linear.OneDnnLinear, "forward", lambda layer, given: exact(layer, given).to(torch.bfloat16).float()
    )


def _refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(*_: Any) -> None:
        raise RuntimeError("mkldnn::_linear_pointwise() is missing value for argument 'attr'")

    monkeypatch.setattr(linear.OneDnnLinear, "forward", forward)


@pytest.mark.parametrize(
    ("hinder", "words"),
    [
        (_not_there, "this torch does not hold it"),
        (_other_numbers, "it gives other numbers for 24 inputs and 40 outputs"),
        (_refuses, "missing value for argument 'attr'"),
    ],
)
def test_without_onednn_or_with_other_numbers_the_layers_stay_and_the_log_says_why(
    hinder: Callable[[pytest.MonkeyPatch], None],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    hinder(monkeypatch)
    model = Small()
    assert linear.hand_over(model, "small") == "torch"
    assert type(model.first) is nn.Linear
    [record] = caplog.records
    assert (record.levelno, record.getMessage().partition(": ")[0]) == (logging.WARNING, "small")
    assert words in record.getMessage()


def test_a_model_without_linear_layers_stays_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    assert linear.hand_over(nn.Sequential(nn.Conv1d(2, 3, 1)), "convolutions") == "torch"
    assert caplog.messages == ["convolutions: oneDNN cannot be used for its linear layers: it has none"]


def test_the_log_says_how_fast_they_are(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    linear.hand_over(Small(), "small")
    [record] = caplog.records
    assert record.getMessage().startswith("small: linear layers by oneDNN, ")
    assert record.times_as_fast > 0


def _bert(tiny_checkpoint: Callable[[str], Path], **settings: Any) -> Transformer:
    words = {"licence": "none", "training_data_overlap": "none", "max_tokens": 32}
    return Transformer(Transformer.Config(family="transformer", repo=str(tiny_checkpoint("bert")), **words, **settings))


@pytest.mark.parametrize(
    ("family", "kind", "settings"),
    [
        ("transformer", "bert", {}),
        ("transformer", "roberta", {"pooling": "mean_last4"}),
        ("transformer", "t5", {"attention": "eager"}),
        ("waveform", "wav2vec2 base", {}),
        ("waveform", "hubert large", {"pooling": "mean_std"}),
        ("waveform", "wavlm base", {}),
        ("spectrogram", "whisper", {}),
        ("spectrogram", "ast", {}),
        ("image_tower", "vit", {}),
        ("image_tower", "siglip", {"frame_vector": "pooler"}),
    ],
)
def test_an_encoder_gives_the_same_vectors_by_onednn(
    family: str, kind: str, settings: dict[str, Any], request: pytest.FixtureRequest, utterances: list[UtteranceInput]
) -> None:
    make = request.getfixturevalue(family)
    both: list[Encoder] = [make(kind, linear_layers=library, **settings) for library in ("torch", "onednn")]
    assert [getattr(encoder, "linear_layers", None) for encoder in both] == ["torch", "onednn"]
    by_torch, by_onednn = (encoder.encode(utterances) for encoder in both)
    assert by_torch.remarks == by_onednn.remarks
    np.testing.assert_allclose(by_onednn.embeddings, by_torch.embeddings, rtol=1e-4, atol=1e-5)
    rows = [encoded.embeddings[by_torch.present].astype(np.float64) for encoded in (by_torch, by_onednn)]
    cosines = (rows[0] * rows[1]).sum(axis=1) / np.linalg.norm(rows[0], axis=1) / np.linalg.norm(rows[1], axis=1)
    assert cosines.min() >= 0.999999


def test_sixteen_bits_and_a_gpu_stay_with_torch(tiny_checkpoint: Callable[[str], Path]) -> None:
    in_16_bits = _bert(tiny_checkpoint, linear_layers="onednn", dtype="bfloat16")
    in_16_bits.load("cpu")
    assert in_16_bits.linear_layers == "torch"
    on_a_gpu = _bert(tiny_checkpoint, linear_layers="onednn")
    moved: list[str] = []
    on_a_gpu.placed(SimpleNamespace(to=moved.append), "cuda:0")
    assert (on_a_gpu.linear_layers, moved) == ("torch", ["cuda:0"])


def test_the_identity_is_the_same_whoever_computes_them_and_regardless_of_the_processor(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(X86.format("AuthenticAMD", "avx512f"))
    expected = _bert(tiny_checkpoint).identity()
    monkeypatch.setattr(linear, "_PROCESSOR", tmp_path / "cpuinfo")
    for library in ("auto", "torch", "onednn"):
        assert _bert(tiny_checkpoint, linear_layers=library).identity() == expected
    automatic = _bert(tiny_checkpoint)
    automatic.load("cpu")
    assert automatic.linear_layers == "onednn"
