"""Models that read the waveform: the same vector alone, padded, in windows, and from plain transformers."""

import json
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from merc.encoders.audio import waveform as family
from merc.encoders.audio.waveform import Waveform
from merc.encoders.engine import forward
from merc.encoders.engine.base import Encoded, UtteranceInput
from merc.encoders.engine.batching import by_length
from merc.errors import BadSettings
from merc.records.media import SAMPLE_RATE_HZ

# Lengths on both sides of where a convolution gains a frame, and multiples of three.
LENGTHS = (16000, 15999, 16239, 16240, 30000, 10000, 24321, 720, 400)
KINDS = (
    "wav2vec2 base", "wav2vec2 base with bias", "wav2vec2 large", "hubert base", "hubert large",
    "hubert with batch norm", "wavlm base", "wavlm large",
    "data2vec",
)  # fmt: skip
LEAKING = (
    "wav2vec2 base",
    "wav2vec2 base with bias",
    "hubert base",
    "hubert with batch norm",
    "wavlm base",
    "data2vec",
)

Make = Callable[..., Waveform]


def _sounds(lengths: Sequence[int] = LENGTHS) -> list[np.ndarray]:
    """Gliding tones in bursts with noise and an offset."""
    rng = np.random.default_rng(7)
    sounds = []
    for number, length in enumerate(lengths):
        at = np.arange(length) / SAMPLE_RATE_HZ
        tone = np.sin(2 * np.pi * (120 + 30 * number + 40 * at) * at) * (1 + np.sin((5 + number) * at))
        sounds.append((0.2 * tone + 0.02 * rng.standard_normal(length) + 0.03).astype(np.float32))
    return sounds


def _encode(encoder: Waveform, sounds: Sequence[np.ndarray | None]) -> Encoded:
    return encoder.encode(
        [UtteranceInput(utterance_id=f"u{number}", waveform=sound) for number, sound in enumerate(sounds)]
    )


def _by_transformers(
    kind: str,
    folder: str,
    sounds: Sequence[np.ndarray],
    together: bool = False,
    layer: int | None = None,
    dtype: str = "float32",
) -> np.ndarray:
    """(clips, D): the official feature extractor and model, one clip at a time, or all in a batch with the attention
    mask.
    """
    import torch
    from transformers import AutoFeatureExtractor, AutoModel

    model = AutoModel.from_pretrained(
        folder, attn_implementation="eager" if kind.startswith("wavlm") else "sdpa", dtype=getattr(torch, dtype)
    ).eval()
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    vectors = []
    with torch.inference_mode():
        for batch in [list(sounds)] if together else [[sound] for sound in sounds]:
            given = extractor(batch, sampling_rate=SAMPLE_RATE_HZ, padding=True, return_tensors="pt")
            mask = given["attention_mask"] if together else None
            output = model(
                given["input_values"].to(model.dtype), attention_mask=mask, output_hidden_states=layer is not None
            )
            hidden = output.last_hidden_state if layer is None else output.hidden_states[layer]
            frames = [int(model._get_feat_extract_output_lengths(torch.tensor(sound.size))) for sound in batch]
            vectors += [hidden[row, :count].float().mean(0).numpy() for row, count in enumerate(frames)]
    return np.stack(vectors)


def _cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first * second).sum(axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)


def _difference(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first - second).max() / np.abs(second).max())


@pytest.fixture
def any_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    """One batch for clips of all lengths; without this, different lengths would not share a batch."""
    monkeypatch.setattr(forward, "by_length", partial(by_length, max_padding=1.0))


@pytest.mark.usefixtures("any_padding")
@pytest.mark.parametrize("kind", KINDS)
def test_padded_to_the_longest_equals_transformers_on_each_clip_alone(kind: str, waveform: Make) -> None:
    encoder = waveform(kind, samples_per_batch=10_000_000, minimum_seconds=0)
    encoded = _encode(encoder, _sounds())
    expected = _by_transformers(kind, encoder.config.repo, _sounds())
    assert encoded.present.all()
    assert encoded.remarks == []
    assert _difference(encoded.embeddings, expected) < 1e-5
    assert _cosines(encoded.embeddings, expected).min() > 1 - 1e-6


def test_clips_of_as_many_frames_and_not_as_many_samples_are_still_distinguished(waveform: Make) -> None:
    encoder = waveform("wav2vec2 base", samples_per_batch=10_000_000)
    sounds = _sounds((16079, 15760, 15900))
    assert [encoder._frames(sound.size) for sound in sounds] == [49, 49, 49]
    assert (
        _difference(_encode(encoder, sounds).embeddings, _by_transformers("wav2vec2 base", encoder.config.repo, sounds))
        < 1e-5
    )


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")  # transformers' WavLM
@pytest.mark.parametrize("kind", LEAKING)
def test_an_attention_mask_alone_would_not_do(kind: str, waveform: Make) -> None:
    folder = waveform(kind).config.repo
    assert (
        _cosines(
            _by_transformers(kind, folder, _sounds(), together=True), _by_transformers(kind, folder, _sounds())
        ).min()
        < 0.98
    )


@pytest.mark.usefixtures("any_padding")
@pytest.mark.parametrize("kind", ["wav2vec2 base", "hubert with batch norm", "wavlm large", "data2vec"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sixteen_bits_in_a_batch_are_those_of_the_model_alone(kind: str, dtype: str, waveform: Make) -> None:
    """How close they are to float32 depends on the processor: one with native bfloat16 gave a cosine of 0.85 for the
    model alone, and 0.85 in a batch.
    """
    sounds = _sounds()[:5]
    encoded = _encode(waveform(kind, samples_per_batch=10_000_000, dtype=dtype, layer=1), sounds)
    assert encoded.present.all()
    alone = _by_transformers(kind, waveform(kind).config.repo, sounds, layer=1, dtype=dtype)
    # Weights ten times the usual size magnify rounding; a leak of the padding would be far below.
    assert _cosines(encoded.embeddings, alone).min() > 0.99


@pytest.mark.needs_cuda
@pytest.mark.usefixtures("any_padding")
@pytest.mark.parametrize("kind", KINDS)
def test_the_gpu_gives_what_the_cpu_gives(kind: str, waveform: Make) -> None:
    here, there = (
        _encode(waveform(kind, samples_per_batch=10_000_000, device=device), _sounds()) for device in ("cpu", "cuda:0")
    )
    assert _cosines(here.embeddings, there.embeddings).min() > 1 - 1e-5


@pytest.mark.parametrize("kind", ["wav2vec2 base", "wav2vec2 large", "wavlm large", "hubert large", "data2vec"])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_lower_layer_is_the_hidden_state_of_the_whole_model(kind: str, layer: int, waveform: Make) -> None:
    encoder = waveform(kind, layer=layer)
    assert len(encoder._model.encoder.layers) == layer
    assert (
        _difference(
            _encode(encoder, _sounds()[:3]).embeddings,
            _by_transformers(kind, encoder.config.repo, _sounds()[:3], layer=layer),
        )
        < 1e-5
    )


@pytest.mark.parametrize("kind", ["wav2vec2 large", "wavlm base"])
def test_weighted_layers_are_the_weighted_mean_of_single_ones(kind: str, waveform: Make) -> None:
    sounds = _sounds()[:3]
    single = [_encode(waveform(kind, layer=layer), sounds).embeddings for layer in range(4)]
    weighted = _encode(waveform(kind, layer_weights=[1, 0, 3, 4]), sounds).embeddings
    assert _difference(weighted, (single[0] + 3 * single[2] + 4 * single[3]) / 8) < 1e-5
    lower = waveform(kind, layer_weights=[1, 1, 0, 0])
    assert len(lower._model.encoder.layers) == 1
    assert _difference(_encode(lower, sounds).embeddings, (single[0] + single[1]) / 2) < 1e-5


def test_the_last_layer_by_number_is_the_last_layer(waveform: Make) -> None:
    last, third = (_encode(waveform("wav2vec2 large", layer=layer), _sounds()[:2]).embeddings for layer in (-1, 3))
    assert last.tobytes() == third.tobytes()


@pytest.mark.parametrize("kind", ["wav2vec2 base", "wav2vec2 large"])
def test_mean_std_is_the_mean_and_the_deviation_of_the_frames(kind: str, waveform: Make) -> None:
    encoder = waveform(kind, pooling="mean_std", sequences=True)
    encoded = _encode(encoder, _sounds())
    assert encoder.dim == 64
    for vector, frames in zip(encoded.embeddings, encoded.sequences, strict=True):
        assert frames is not None
        wide = frames.vectors.astype(np.float64)
        np.testing.assert_allclose(vector, np.concatenate([wide.mean(axis=0), wide.std(axis=0)]), atol=2e-3)


def test_frames_are_twenty_milliseconds_apart_and_without_padding(waveform: Make) -> None:
    encoded = _encode(waveform("wav2vec2 base", sequences=True, minimum_seconds=0), [*_sounds(), None])
    # (length - 400) // 320 + 1, for each of LENGTHS
    assert [None if frames is None else len(frames.vectors) for frames in encoded.sequences] == [
        49,
        49,
        50,
        50,
        93,
        31,
        75,
        2,
        1,
        None,
    ]
    first = encoded.sequences[0]
    assert first is not None
    assert first.vectors.dtype == np.float16
    assert first.seconds.dtype == np.float32
    np.testing.assert_allclose(first.seconds[[0, 1, 48]], [200 / 16000, 520 / 16000, 15560 / 16000], rtol=1e-6)


def test_frames_beyond_half_precision_are_limited_and_the_vector_is_not(
    waveform: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = waveform("wav2vec2 large", sequences=True)
    hidden = encoder._hidden
    monkeypatch.setattr(encoder, "_hidden", lambda inputs: hidden(inputs) * 1e5)
    encoded = _encode(encoder, _sounds()[:1])
    assert encoded.sequences[0] is not None
    assert np.abs(encoded.sequences[0].vectors).max() == 65504
    assert np.abs(encoded.embeddings).max() > 65504


CONTEXT_FREE = {"num_conv_pos_embeddings": 6}  # and layer 0: a frame depends on three frames to either side


@pytest.mark.parametrize("pooling", ["mean", "mean_std"])
@pytest.mark.parametrize("kind", ["wav2vec2 large", "hubert large"])
def test_windows_give_what_the_whole_clip_gives_where_nothing_looks_further_than_the_overlap(
    kind: str, pooling: str, waveform: Make
) -> None:
    given: dict[str, Any] = {"checkpoint": CONTEXT_FREE, "layer": 0, "pooling": pooling, "sequences": True}
    sounds = _sounds((16000, 16001, 30000, 80080, 81234, 16900, 9000))
    whole = _encode(waveform(kind, window_seconds=30, **given), sounds)
    cut = _encode(waveform(kind, window_seconds=1, overlap_seconds=0.3, **given), sounds)
    assert cut.remarks == whole.remarks == []
    for one, other in zip(cut.sequences, whole.sequences, strict=True):
        assert one is not None
        assert other is not None
        assert one.vectors.shape == other.vectors.shape
        np.testing.assert_allclose(one.vectors.astype(np.float32), other.vectors.astype(np.float32), atol=4e-3)
        assert (one.seconds == other.seconds).all()
    assert _difference(cut.embeddings, whole.embeddings) < 1e-5


def test_five_minutes_are_used_to_the_end(waveform: Make) -> None:
    encoder = waveform("wav2vec2 base", sequences=True, checkpoint={"conv_dim": [4] * 7}, layer=0, window_seconds=10)
    sound = _sounds((300 * SAMPLE_RATE_HZ,))[0]
    other_end = sound.copy()
    other_end[-SAMPLE_RATE_HZ:] *= -0.5
    encoded = _encode(encoder, [sound, other_end])
    assert encoded.remarks == []
    first, second = encoded.sequences
    assert first is not None
    assert second is not None
    assert len(first.vectors) == (300 * SAMPLE_RATE_HZ - 400) // 320 + 1 == 14999
    assert first.seconds[-1] == pytest.approx(299.9725)
    # Normalised as a whole, so everything changes a little, and the end a lot.
    changes = np.abs(first.vectors.astype(np.float32) - second.vectors.astype(np.float32)).mean(axis=1)
    assert changes[-40:].mean() > 10 * changes[:7000].mean()


def test_every_sample_of_a_batch_counts_in_the_budget(waveform: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    encoder = waveform("wav2vec2 base", samples_per_batch=64_000)
    compute = encoder._compute
    monkeypatch.setattr(
        encoder, "_compute", lambda inputs: (seen.append(inputs["waveforms"].numel()), compute(inputs))[1]
    )
    _encode(encoder, _sounds((16000,) * 10 + (100_000,)))
    assert sorted(seen) == [32_000, 64_000, 64_000, 100_000]


def test_no_memory_halfway_through_the_layers_leaves_nothing_behind(
    waveform: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    settings: dict[str, Any] = {"layer_weights": [1, 1, 1, 1], "samples_per_batch": 64_000}
    expected = _encode(waveform("wav2vec2 base", **settings), _sounds((16000,) * 4)).embeddings
    encoder = waveform("wav2vec2 base", **settings)
    fails = [True]

    def once(*_: Any) -> None:
        if fails:
            fails.clear()
            raise torch.OutOfMemoryError("made up")

    encoder._model.encoder.layers[2].register_forward_hook(once)
    again = _encode(encoder, _sounds((16000,) * 4)).embeddings
    assert encoder.budget.units == 32_000
    assert _difference(again, expected) < 1e-5


@pytest.mark.parametrize(
    ("sound", "reason"),
    [
        (None, "no_audio_samples"),
        (np.zeros(0, dtype=np.float32), "no_audio_samples"),
        (np.zeros(16000, dtype=np.float32), "silence"),
        (np.full(1, 0.5, dtype=np.float32), "silence"),
        (np.array([0.1, np.nan] * 4000, dtype=np.float32), "not_finite"),
        (np.array([0.1, -np.inf] * 4000, dtype=np.float32), "not_finite"),
        (np.array([0.1, 1e9] * 4000, dtype=np.float32), "not_finite"),
    ],
)
def test_what_cannot_be_encoded_is_absent_and_leaves_its_neighbours_as_they_are(
    sound: np.ndarray | None, reason: str, waveform: Make
) -> None:
    encoder = waveform("wav2vec2 base", sequences=True)
    neighbours = _sounds((8000, 8000))
    alone = _encode(encoder, neighbours)
    encoded = _encode(encoder, [neighbours[0], sound, neighbours[1]])
    assert encoded.present.tolist() == [True, False, True]
    assert not encoded.embeddings[1].any()
    assert encoded.sequences[1] is None
    assert [remark[:2] for remark in encoded.remarks] == [(1, reason)]
    assert (encoded.embeddings[[0, 2]] == alone.embeddings).all()


def test_an_output_that_is_not_finite_makes_one_clip_absent_and_no_other(waveform: Make) -> None:
    import torch

    encoder = waveform("wav2vec2 base")
    sounds = _sounds((8000, 8000, 8000))
    clean = _encode(encoder, sounds).embeddings

    def spoil(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        spoilt = inputs[0].clone()
        spoilt[1] = torch.nan
        return (spoilt, *inputs[1:])

    encoder._model.feature_extractor.register_forward_pre_hook(spoil)
    encoded = _encode(encoder, sounds)
    assert encoded.present.tolist() == [True, False, True]
    assert [remark[:2] for remark in encoded.remarks] == [(1, "not_finite")]
    assert _difference(encoded.embeddings[[0, 2]], clean[[0, 2]]) < 1e-5


@pytest.mark.parametrize(
    ("samples", "least", "padded"), [(2, 0, 400), (399, 0, 400), (400, 0, None), (800, 0.1, 1600), (1600, 0.1, None)]
)
def test_short_clips_are_padded_and_recorded(samples: int, least: float, padded: int | None, waveform: Make) -> None:
    sound = _sounds((1600,))[0][:samples]
    encoded = _encode(waveform("wav2vec2 base", sequences=True, minimum_seconds=least), [sound])
    assert encoded.present.all()
    wanted = (
        [] if padded is None else [(0, "padded", f"from {samples / 16000:.4f} to {padded / 16000:.4f} s with zeros")]
    )
    assert encoded.remarks == wanted
    assert encoded.sequences[0] is not None
    assert len(encoded.sequences[0].vectors) == ((padded or samples) - 400) // 320 + 1


def test_a_clip_is_normalised_by_its_own_samples_and_the_padding_is_zero_after_that(waveform: Make) -> None:
    loud = _sounds((800,))[0]
    encoder = waveform("wav2vec2 base", minimum_seconds=0.1)
    quiet = _encode(encoder, [loud * 0.1 + 0.2])
    np.testing.assert_allclose(quiet.embeddings, _encode(encoder, [loud]).embeddings, atol=2e-4)
    by_hand = np.zeros(1600, dtype=np.float32)
    by_hand[:800] = (loud - loud.mean()) / np.sqrt(loud.var() + 1e-7)
    inputs = encoder._prepare(encoder._items(0, 1600), {0: loud})
    np.testing.assert_allclose(inputs["waveforms"][0], by_hand, atol=1e-6)


def test_without_do_normalize_the_audio_stays_as_it_is(waveform: Make) -> None:
    sound = _sounds((1600,))[0]
    encoder = waveform("wavlm base")
    assert (encoder._prepare(encoder._items(0, 1600), {0: sound})["waveforms"][0] == sound).all()
    assert encoder.provenance()["normalised"] is False


@pytest.fixture
def changed(waveform_checkpoint: Callable[..., Path], tmp_path: Path) -> Callable[..., str]:
    """A checkpoint with changed keys in one of its JSON files; None removes the file."""

    def make(name: str, kind: str = "wav2vec2 base", **keys: Any) -> str:
        folder = tmp_path / "model"
        shutil.copytree(waveform_checkpoint(kind), folder)
        content = {**json.loads((folder / name).read_text()), **keys}
        (folder / name).write_text(json.dumps(content))
        return str(folder)

    return make


def _unloaded(repo: str, **settings: Any) -> Waveform:
    given: dict[str, Any] = {
        "pooling": "mean", "window_seconds": 30, "overlap_seconds": 2, "minimum_seconds": 0.1, "licence": "none",
        "training_data_overlap": "none",
        **settings,
    }  # fmt: skip
    return Waveform(Waveform.Config(family="waveform", repo=repo, **given))


@pytest.mark.parametrize(
    ("file", "keys", "words"),
    [
        (
            "config.json",
            {"model_type": "whisper"},
            "type 'whisper'; the family waveform takes wav2vec2, hubert, wavlm, data2vec-audio",
        ),
        ("config.json", {"model_type": "roberta"}, "type 'roberta'"),
        ("config.json", {"add_adapter": True}, "add_adapter"),
        ("preprocessor_config.json", {"sampling_rate": 8000}, "8000 samples per second; the pipeline's has 16000"),
    ],
)
def test_a_checkpoint_that_does_not_suit_is_refused_before_anything_is_loaded(
    file: str, keys: dict[str, Any], words: str, changed: Callable[..., str]
) -> None:
    with pytest.raises(BadSettings, match=words):
        _unloaded(changed(file, **keys)).identity()


def test_a_checkpoint_without_a_preprocessor_is_refused(changed: Callable[..., str]) -> None:
    repo = changed("config.json")
    (Path(repo) / "preprocessor_config.json").unlink()
    with pytest.raises(BadSettings, match=r"no preprocessor_config\.json"):
        _unloaded(repo).identity()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"layer": 4}, "layer 4; valid: 0 to 3, or -1 to -4"),
        ({"layer_weights": [1, 1, 1]}, "3 layer_weights; the model has 3 layers and takes 4"),
    ],
)
def test_a_layer_that_the_model_lacks_is_refused_before_anything_is_loaded(
    settings: dict[str, Any], words: str, waveform_checkpoint: Callable[..., Path]
) -> None:
    with pytest.raises(BadSettings, match=words):
        _unloaded(str(waveform_checkpoint("wav2vec2 base")), **settings).identity()


def test_wavlm_names_the_attention_it_has(waveform_checkpoint: Callable[..., Path]) -> None:
    with pytest.raises(BadSettings, match="no attention: sdpa for WavLM; valid: eager"):
        _unloaded(str(waveform_checkpoint("wavlm base"))).identity()


def test_windows_too_short_for_their_overlap_are_refused(waveform_checkpoint: Callable[..., Path]) -> None:
    with pytest.raises(BadSettings, match=r"overlap_seconds 0\.02; a frame is made of 0\.025 s"):
        _unloaded(str(waveform_checkpoint("wav2vec2 base")), overlap_seconds=0.02).load("cpu")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"overlap_seconds": 16}, "more than half of window_seconds"),
        ({"minimum_seconds": 31}, "more than window_seconds"),
        ({"samples_per_batch": 0}, "expected a number from 1, or auto"),
        ({"layer_weights": [1, 1], "layer": 1}, "exclude each other"),
        ({"layer_weights": [1, -1]}, "none negative"),
        ({"layer_weights": [0, 0]}, "one positive"),
        ({"layer_weights": [1, float("nan")]}, "must be finite"),
        ({"layer_weights": []}, "one positive"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        _unloaded("somewhere", **settings)


def test_the_size_of_a_batch_is_not_part_of_the_identity(waveform: Make) -> None:
    small, large = (waveform("wav2vec2 base", samples_per_batch=size) for size in (16_000, "auto"))
    assert small.identity() == large.identity()
    assert large.budget.units == 480_000
    assert small.identity() != waveform("wav2vec2 base", window_seconds=20).identity()


def test_weighted_layers_stand_in_the_provenance(waveform: Make) -> None:
    assert waveform("wav2vec2 base", layer_weights=[1, 0, 2, 1]).provenance()["layer"] == [1, 0, 2, 1]


@pytest.mark.parametrize("kind", ["wav2vec2 large", "data2vec"])
def test_the_frames_of_a_length_are_those_that_transformers_counts(kind: str, waveform: Make) -> None:
    import torch

    encoder = waveform(kind)
    lengths = [400, 401, 719, 720, 15999, 16000, 16239, 16240, 480_000]
    assert [encoder._frames(length) for length in lengths] == encoder._model._get_feat_extract_output_lengths(
        torch.tensor(lengths)
    ).tolist()


def test_a_group_norm_over_several_channels_is_not_taken_for_the_known_one() -> None:
    import torch
    from torch import nn

    model = nn.Module()
    model.feature_extractor, convolution = nn.Module(), nn.Module()
    convolution.layer_norm = nn.GroupNorm(2, 4)
    model.feature_extractor.conv_layers = nn.ModuleList([convolution])
    with pytest.raises(BadSettings, match="2 groups over 4 channels"):
        family.respect_edges(model, family.Edges())
    assert torch.is_tensor(convolution.layer_norm.weight)


def test_the_group_norm_takes_real_frames_alone() -> None:
    import torch

    torch.manual_seed(1)
    norm = torch.nn.GroupNorm(3, 3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, -0.5]))
        norm.bias.copy_(torch.tensor([0.0, 1.0, -3.0]))
    # A large mean and a small deviation: a difference of large squares would lose the deviation.
    hidden = torch.randn(3, 3, 50) * 0.01 + 5
    edges = family.Edges()
    edges.set(None, torch.tensor([50.0, 20.0, 47.0]), 20)
    with torch.inference_mode():
        expected = [norm(hidden[row : row + 1, :, :count])[0] for row, count in enumerate((50, 20, 47))]
        found = edges.group_norm(norm, hidden.clone())
    for row, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(row[:, : wanted.shape[1]], wanted, atol=2e-4, rtol=0)
