import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from merc.encoders.audio.spectrogram import GEOMETRIES, Spectrogram
from merc.encoders.engine.base import UtteranceInput
from merc.errors import BadSettings
from merc.records.media import SAMPLE_RATE_HZ

Make = Callable[..., Spectrogram]
BOTH = pytest.mark.parametrize("kind", ["whisper", "ast"])


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def _clips(*waveforms: np.ndarray | None) -> list[UtteranceInput]:
    return [UtteranceInput(utterance_id=f"u{number}", waveform=waveform) for number, waveform in enumerate(waveforms)]


def _published(folder: Path, kind: str, sound: np.ndarray) -> list[np.ndarray]:
    """The output of plain transformers for one window: (positions, 32) of each layer, the last one after its norm."""
    import transformers

    if kind == "whisper":
        extractor, model = (
            transformers.WhisperFeatureExtractor.from_pretrained(folder),
            transformers.WhisperModel.from_pretrained(folder).get_encoder(),
        )
    else:
        extractor, model = (
            transformers.ASTFeatureExtractor.from_pretrained(folder),
            transformers.ASTModel.from_pretrained(folder),
        )
    given = extractor(sound, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt")
    with torch.inference_mode():
        output = model.eval()(**given, output_hidden_states=True)
    return [hidden[0].numpy() for hidden in (*output.hidden_states[:-1], output.last_hidden_state)]


def _over_real_sound(kind: str, sequence: np.ndarray, samples: int) -> np.ndarray:
    """(vectors, 32) of the positions whose midpoint is within this many samples; one by one."""
    if kind == "whisper":
        return np.stack([vector for number, vector in enumerate(sequence) if number * 320 < samples or number == 0])
    # Five rows of 16 of 48 mel bands, 10 apart would not fit: (48 - 16) // 10 + 1 = 4 rows; (128 - 16) // 10 + 1 = 12
    # columns.
    patches = sequence[2:].reshape(4, 12, 32)
    return np.stack(
        [
            patches[row, column]
            for column in range(12)
            for row in range(4)
            if column * 1600 + 1400 < samples or column == 0
        ]
    )


@BOTH
@pytest.mark.parametrize("samples", [400, 1500, 5000, 15_999, 16_000])
def test_the_vector_is_the_published_models_mean_over_real_audio(
    spectrogram: Make, spectrogram_checkpoint: Any, kind: str, samples: int
) -> None:
    sound = _noise(samples)
    expected = _over_real_sound(kind, _published(spectrogram_checkpoint(kind), kind, sound)[-1], samples).mean(axis=0)
    encoded = spectrogram(kind).encode(_clips(sound))
    np.testing.assert_allclose(encoded.embeddings[0], expected, atol=2e-5, rtol=0)
    assert encoded.remarks == []


@BOTH
@pytest.mark.parametrize("layer", [0, 1, 2, 3, -1, -2])
def test_each_layer_is_that_of_the_whole_model(
    spectrogram: Make, spectrogram_checkpoint: Any, kind: str, layer: int
) -> None:
    sound = _noise(9000)
    expected = _over_real_sound(kind, _published(spectrogram_checkpoint(kind), kind, sound)[layer], 9000).mean(axis=0)
    np.testing.assert_allclose(
        spectrogram(kind, layer=layer).encode(_clips(sound)).embeddings[0], expected, atol=2e-5, rtol=0
    )


def test_layers_above_the_chosen_one_do_not_run(spectrogram: Make) -> None:
    assert [len(spectrogram("whisper", layer=layer)._model.layers) for layer in (0, 2, -1)] == [0, 2, 3]
    assert len(spectrogram("ast", layer_weights=(1, 1, 0, 0))._model.layers) == 1


@BOTH
def test_weighted_layers_are_their_mean(spectrogram: Make, spectrogram_checkpoint: Any, kind: str) -> None:
    sound = _noise(9000)
    layers = [
        _over_real_sound(kind, layer, 9000).mean(axis=0)
        for layer in _published(spectrogram_checkpoint(kind), kind, sound)
    ]
    for weights, expected in [
        ((2, 0, 1, 1), (2 * layers[0] + layers[2] + layers[3]) / 4),
        ((1, 3, 0, 0), (layers[0] + 3 * layers[1]) / 4),
    ]:
        np.testing.assert_allclose(
            spectrogram(kind, layer_weights=weights).encode(_clips(sound)).embeddings[0], expected, atol=2e-5, rtol=0
        )


def test_mean_std_appends_the_deviation_over_positions(spectrogram: Make, spectrogram_checkpoint: Any) -> None:
    sound = _noise(9000)
    real = _over_real_sound(
        "whisper", _published(spectrogram_checkpoint("whisper"), "whisper", sound)[-1], 9000
    ).astype(np.float64)
    encoded = spectrogram("whisper", pooling="mean_std").encode(_clips(sound))
    np.testing.assert_allclose(
        encoded.embeddings[0], np.concatenate([real.mean(axis=0), real.std(axis=0)]), atol=2e-5, rtol=0
    )


def test_special_tokens_of_ast_are_those_of_the_published_model(spectrogram: Make, spectrogram_checkpoint: Any) -> None:
    sound = _noise(9000)
    last = _published(spectrogram_checkpoint("ast"), "ast", sound)[-1]
    first = spectrogram("ast", pooling="first").encode(_clips(sound)).embeddings[0]
    both = spectrogram("ast", pooling="cls_and_distillation").encode(_clips(sound)).embeddings[0]
    np.testing.assert_allclose(first, last[0], atol=2e-5, rtol=0)
    np.testing.assert_allclose(both, (last[0] + last[1]) / 2, atol=2e-5, rtol=0)


@pytest.mark.parametrize(("bare", "with_head"), [("whisper", "whisper for transcription"), ("ast", "ast classifier")])
def test_checkpoints_with_a_head_give_their_encoder(
    spectrogram: Make, spectrogram_checkpoint: Any, bare: str, with_head: str
) -> None:
    encoder = spectrogram(with_head)
    assert not [name for name, _ in encoder._model.named_parameters() if "decoder" in name or "classifier" in name]
    sound = _noise(9000)
    import transformers

    folder = spectrogram_checkpoint(with_head)
    if bare == "whisper":
        model = transformers.WhisperForConditionalGeneration.from_pretrained(folder).get_encoder()
        given = transformers.WhisperFeatureExtractor.from_pretrained(folder)(
            sound, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt"
        )
    else:
        model = transformers.ASTForAudioClassification.from_pretrained(folder).audio_spectrogram_transformer
        given = transformers.ASTFeatureExtractor.from_pretrained(folder)(
            sound, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt"
        )
    with torch.inference_mode():
        expected = _over_real_sound(bare, model.eval()(**given).last_hidden_state[0].numpy(), 9000).mean(axis=0)
    np.testing.assert_allclose(encoder.encode(_clips(sound)).embeddings[0], expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("samples", [400, 401, 2399, 8000, 15_300, 15_441, 15_999, 16_000])
def test_the_short_way_to_whispers_spectrogram_gives_the_published_one(spectrogram: Make, samples: int) -> None:
    encoder, sound = spectrogram("whisper"), _noise(samples)
    whole = encoder._extractor(sound, sampling_rate=SAMPLE_RATE_HZ)["input_features"][0]
    np.testing.assert_allclose(encoder._log_mel_of_whisper(sound), whole, atol=1e-6, rtol=0)


def test_published_sizes_give_their_published_positions() -> None:
    whisper = GEOMETRIES["whisper"](
        "",
        {"num_mel_bins": 128, "max_source_positions": 1500, "encoder_layers": 32, "d_model": 1280},
        {"feature_size": 128},
    )
    assert (whisper.window, whisper.step, whisper.positions, whisper.spectrogram_frames) == (
        30 * 16_000,
        320,
        1500,
        3000,
    )
    ast = GEOMETRIES["audio-spectrogram-transformer"]("", {}, {})
    assert ast.rows * ast.positions == 1212  # Gong et al. 2021, section 2.1, for 10 s and an overlap of 6
    assert (ast.step, ast.first_middle) == (1600, 1400)


@BOTH
@pytest.mark.parametrize("overlap_seconds", [0.0, 0.2, 0.45])
def test_each_position_of_a_clip_counts_once(spectrogram: Make, kind: str, overlap_seconds: float) -> None:
    encoder = spectrogram(kind, overlap_seconds=overlap_seconds)
    at = encoder._at
    for samples in [*range(at.window + 1, at.window + 4000, 53), 48_000, 99_999, 320_000]:
        numbered = np.arange(samples, dtype=np.float32)  # so that a piece shows where it starts
        counted = []
        for item in encoder._items(0, numbered):
            begin = int(item.sound[0]) // at.step
            counted += range(begin + item.first, begin + item.stop)
            assert item.sound.size > at.window - at.step
        assert counted == list(range(len(counted)))
        # Audio after the last complete patch of AST does not start another one, in a window or in a clip of one window.
        assert 0 <= -(-(samples - at.first_middle) // at.step) - len(counted) <= (kind == "ast")


@BOTH
def test_a_long_clip_is_the_mean_over_its_windows_own_positions(
    spectrogram: Make, spectrogram_checkpoint: Any, kind: str
) -> None:
    encoder, sound = spectrogram(kind, sequences=True), _noise(40_000)
    items = encoder._items(0, sound)
    assert len(items) == 3
    pieces = []
    for item in items:
        sequence = _published(spectrogram_checkpoint(kind), kind, item.sound)[-1]
        in_time = sequence if kind == "whisper" else sequence[2:].reshape(4, 12, 32).mean(axis=0)
        pieces.append(in_time[item.first : item.stop])
    expected = np.concatenate(pieces)
    encoded = encoder.encode(_clips(sound))
    np.testing.assert_allclose(encoded.embeddings[0], expected.mean(axis=0), atol=2e-5, rtol=0)
    frames = encoded.sequences[0]
    assert frames is not None
    np.testing.assert_allclose(frames.vectors.astype(np.float32), expected, atol=0.01, rtol=0)
    assert encoded.remarks == []


@BOTH
def test_five_minutes_are_not_cut(spectrogram: Make, kind: str) -> None:
    encoder = spectrogram(kind, sequences=True, windows_per_batch=64, overlap_seconds=0.1)
    encoded = encoder.encode(_clips(_noise(300 * SAMPLE_RATE_HZ)))
    frames = encoded.sequences[0]
    assert frames is not None
    assert len(frames.vectors) == {"whisper": 15_000, "ast": 3000}[kind]
    assert encoded.remarks == []
    assert encoded.present[0]


def test_frames_are_what_the_vector_was_pooled_from(spectrogram: Make) -> None:
    clips = _clips(_noise(5000, 1), None, _noise(16_000, 2))
    encoded = spectrogram("whisper", sequences=True).encode(clips)
    short, absent, long = encoded.sequences
    assert absent is None
    assert short is not None
    assert long is not None
    assert (short.vectors.shape, long.vectors.shape) == ((16, 32), (50, 32))
    assert short.vectors.dtype == np.float16
    np.testing.assert_allclose(short.seconds[:4], [0.0, 0.02, 0.04, 0.06], atol=1e-6)
    for index, frames in ((0, short), (2, long)):
        np.testing.assert_allclose(
            frames.vectors.astype(np.float64).mean(axis=0), encoded.embeddings[index], atol=0.003
        )


def test_frames_of_ast_are_a_tenth_of_a_second_apart(spectrogram: Make) -> None:
    encoder = spectrogram("ast", sequences=True, pooling="mean_std")
    encoded = encoder.encode(_clips(_noise(5000)))
    frames = encoded.sequences[0]
    assert frames is not None
    np.testing.assert_allclose(frames.seconds, [0.0875, 0.1875, 0.2875], atol=1e-6)
    assert (encoder.dim, encoder.sequence_dim, frames.vectors.shape) == (64, 32, (3, 32))


def test_sequences_are_an_empty_list_unless_asked_for(spectrogram: Make) -> None:
    assert spectrogram("ast").encode(_clips(_noise(5000))).sequences == []


@BOTH
def test_alone_equals_in_a_batch_of_any_size(spectrogram: Make, kind: str, device: str) -> None:
    clips = _clips(*(_noise(samples, samples) for samples in (450, 3000, 7777, 16_000, 30_000, 52_345)))
    together = spectrogram(kind, device=device, windows_per_batch=5).encode(clips).embeddings
    one_at_a_time = spectrogram(kind, device=device, windows_per_batch=1)
    alone = np.concatenate([one_at_a_time.encode([clip]).embeddings for clip in clips])
    np.testing.assert_allclose(together, alone, atol=2e-5, rtol=0)


@BOTH
def test_what_cannot_be_encoded_is_absent_and_leaves_its_neighbours_alone(spectrogram: Make, kind: str) -> None:
    encoder = spectrogram(kind)
    with_nan, far_beyond = _noise(8000), _noise(8000)
    with_nan[4000], far_beyond[3] = np.nan, 1e9
    good = _noise(8000, 4)
    encoded = encoder.encode(
        _clips(good, with_nan, None, np.zeros(8000, dtype=np.float32), np.zeros(0, dtype=np.float32), far_beyond)
    )
    assert encoded.present.tolist() == [True, False, False, False, False, False]
    assert [(index, reason) for index, reason, _ in encoded.remarks] == [
        (1, "not_finite"),
        (2, "no_audio_samples"),
        (3, "silence"),
        (4, "no_audio_samples"),
        (5, "not_finite"),
    ]
    np.testing.assert_allclose(encoded.embeddings[0], encoder.encode(_clips(good)).embeddings[0], atol=2e-5, rtol=0)


@BOTH
def test_a_clip_shorter_than_one_transform_is_padded_and_recorded(
    spectrogram: Make, spectrogram_checkpoint: Any, kind: str
) -> None:
    sound = _noise(100)
    encoded = spectrogram(kind).encode(_clips(sound))
    assert encoded.remarks == [(0, "padded", "from 0.0063 to 0.0250 s with zeros")]
    padded = _published(spectrogram_checkpoint(kind), kind, np.pad(sound, (0, 300)))[-1]
    np.testing.assert_allclose(
        encoded.embeddings[0], _over_real_sound(kind, padded, 100).mean(axis=0), atol=2e-5, rtol=0
    )


@BOTH
def test_one_sample_is_silence(spectrogram: Make, kind: str) -> None:
    encoded = spectrogram(kind).encode(_clips(np.full(1, 0.5, dtype=np.float32)))
    assert [reason for _, reason, _ in encoded.remarks] == ["silence"]
    assert not encoded.present.any()


def test_output_that_is_not_finite_is_absent_and_recorded(spectrogram: Make) -> None:
    encoder = spectrogram("whisper", dtype="float16", sequences=True)
    with torch.no_grad():
        encoder._model.layer_norm.bias[3] = torch.inf
    encoded = encoder.encode(_clips(_noise(8000)))
    assert encoded.remarks == [(0, "not_finite", "the model's output in float16 is not finite")]
    assert encoded.sequences == [None]
    assert not encoded.embeddings.any()


@BOTH
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sixteen_bits_come_close(spectrogram: Make, kind: str, dtype: str) -> None:
    clips = _clips(_noise(8000), _noise(20_000, 1))
    exact, rough = spectrogram(kind).encode(clips).embeddings, spectrogram(kind, dtype=dtype).encode(clips).embeddings
    assert rough.dtype == np.float32
    cosines = (exact * rough).sum(axis=1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rough, axis=1)
    assert (cosines > 0.99).all()


LONG = "whisper of three seconds"


def _shortened(folder: Path, samples: int) -> tuple[Any, Any]:
    """Transformers' own extractor and encoder, as if the checkpoint had been saved with a table of that length."""
    import transformers
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    whole = transformers.WhisperModel.from_pretrained(folder).get_encoder()
    config = transformers.WhisperConfig.from_pretrained(folder)
    config.max_source_positions = samples // 320
    model = WhisperEncoder(config)
    weights = whole.state_dict()
    weights["embed_positions.weight"] = weights["embed_positions.weight"][: samples // 320]
    model.load_state_dict(weights)
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(folder)
    return lambda sound: extractor(
        sound, sampling_rate=SAMPLE_RATE_HZ, padding="max_length", max_length=samples, return_tensors="pt"
    )["input_features"], model.eval()


@pytest.mark.parametrize("linear_layers", ["torch", "onednn"])
def test_a_shorter_input_is_that_of_a_model_with_the_first_rows_of_the_table(
    spectrogram: Make, spectrogram_checkpoint: Any, linear_layers: str
) -> None:
    encoder = spectrogram(LONG, input_seconds=1.02, sequences=True, linear_layers=linear_layers)
    make, model = _shortened(spectrogram_checkpoint(LONG), 16_320)
    short, long = _noise(7000), _noise(45_000, 1)
    encoded = encoder.encode(_clips(short, long))
    items = encoder._items(1, long)
    assert len(items) == 4
    assert max(item.sound.size for item in items) == 16_320
    expected = []
    for sounds in ([(short, 0, 22)], [(item.sound, item.first, item.stop) for item in items]):
        with torch.inference_mode():
            pieces = [model(make(sound)).last_hidden_state[0, first:stop].numpy() for sound, first, stop in sounds]
        expected.append(np.concatenate(pieces))
    assert len(expected[1]) == 141  # a position every 320 of 45,000 samples
    for at, frames in enumerate(expected):
        np.testing.assert_allclose(encoded.embeddings[at], frames.mean(axis=0), atol=2e-5, rtol=0)
        sequence = encoded.sequences[at]
        assert sequence is not None
        np.testing.assert_allclose(sequence.vectors.astype(np.float32), frames, atol=0.01, rtol=0)
        np.testing.assert_allclose(sequence.seconds, np.arange(len(frames)) * 0.02, atol=1e-5)


def test_with_a_shorter_input_the_model_computes_only_that_length(spectrogram: Make) -> None:
    encoder, seen = spectrogram(LONG, input_seconds=1), []
    encoder._model.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape)))
    encoder.encode(_clips(_noise(7000)))
    assert seen == [(1, 16, 100)]
    assert encoder.provenance()["window_seconds"] == 1.0


def test_the_checkpoints_own_length_gives_the_same_bits_stated_or_not(spectrogram: Make) -> None:
    clips = _clips(_noise(7000), _noise(60_000, 1))
    own, stated = spectrogram(LONG), spectrogram(LONG, input_seconds=3)
    assert np.array_equal(own.encode(clips).embeddings, stated.encode(clips).embeddings)
    assert not np.allclose(
        own.encode(clips).embeddings, spectrogram(LONG, input_seconds=2).encode(clips).embeddings, atol=1e-3
    )


def test_a_shorter_input_has_another_identity_and_none_has_the_one_from_before(spectrogram: Make) -> None:
    own = spectrogram(LONG).identity()
    assert set(own) == {
        "family", "layer", "dtype", "attention", "layer_weights", "pooling", "overlap_seconds", "version", "checkpoint"
    }  # fmt: skip
    shorter = [spectrogram(LONG, input_seconds=seconds).identity() for seconds in (1, 2)]
    assert [one.pop("input_seconds") for one in shorter] == [1.0, 2.0]
    assert shorter == [own, own]


def test_identity_is_about_vectors_alone(spectrogram: Make) -> None:
    given = spectrogram("whisper").identity()
    assert spectrogram("whisper", windows_per_batch=1, licence="MIT").identity() == given
    for settings in ({"overlap_seconds": 0.3}, {"pooling": "mean_std"}, {"layer": 1}, {"layer_weights": (1, 1, 1, 1)}):
        assert spectrogram("whisper", **settings).identity() != given


def test_provenance_names_layers_and_windows(spectrogram: Make) -> None:
    made_by = spectrogram("whisper", layer_weights=(1, 0, 2, 1)).provenance()
    assert (made_by["layer"], made_by["window_seconds"], made_by["overlap_seconds"]) == ([1.0, 0.0, 2.0, 1.0], 1.0, 0.2)


@pytest.mark.parametrize(
    ("kind", "settings", "of_model", "of_preprocessor", "words"),
    [
        ("whisper", {"layer": 4}, {}, {}, "layer 4; valid: 0 to 3, or -1 to -4"),
        ("ast", {"layer": -5}, {}, {}, "layer -5; valid: 0 to 3, or -1 to -4"),
        ("whisper", {"layer_weights": (1, 1)}, {}, {},
         "2 layer_weights; the model has 3 layers and takes 4, the first for layer 0"),
        ("whisper", {"pooling": "first"}, {}, {},
         "pooling first, but Whisper's encoder has no token of that kind; valid: mean, mean_std"),
        ("whisper", {"overlap_seconds": 0.6}, {}, {},
         "overlap_seconds 0.6 is more than half of its input of 1.00 s; valid: 0 to 0.50"),
        (LONG, {"input_seconds": 3.02}, {}, {},
         "input_seconds 3.02; valid: multiples of 0.02 s, the distance between positions, up to the 3 s of the"),
        (LONG, {"input_seconds": 1.01}, {}, {}, "input_seconds 1.01; valid: multiples of 0.02 s"),
        (LONG, {"input_seconds": 1.00001}, {}, {}, "input_seconds 1.00001; valid: multiples of 0.02 s"),
        (LONG, {"input_seconds": 1.2, "overlap_seconds": 0.7}, {}, {},
         "overlap_seconds 0.7 is more than half of its input of 1.20 s; valid: 0 to 0.60"),
        ("ast", {"input_seconds": 1.0}, {}, {},
         "input_seconds 1.0, but only Whisper's input can be shortened, and this model is of the type 'audio-"),
        ("whisper", {}, {"model_type": "wav2vec2"}, {},
         "the type 'wav2vec2'; the family spectrogram takes whisper, audio-spectrogram-transformer"),
        ("ast", {}, {}, {"sampling_rate": 8000}, "takes audio with 8000 samples per second; the pipeline's has 16000"),
        ("whisper", {}, {}, {"dither": 0.1}, "its preprocessor adds noise (dither: 0.1)"),
        ("whisper", {}, {"num_mel_bins": 80}, {}, "disagree on the mel bands: num_mel_bins is 80, feature_size 16"),
        ("whisper", {}, {}, {"chunk_length": 30},
         "columns of the spectrogram: twice max_source_positions is 100, chunk_length over hop_length 3000"),
        ("ast", {}, {"num_mel_bins": 128}, {}, "disagree on the mel bands: num_mel_bins is 128, num_mel_bins 48"),
        ("ast", {}, {}, {"max_length": 1024},
         "disagree on the columns of the spectrogram: max_length is 128, max_length 1024"),
    ],
)  # fmt: skip
def test_a_checkpoint_that_does_not_fit_the_settings_is_refused_before_it_is_loaded(
    spectrogram_checkpoint: Any,
    tmp_path: Path,
    kind: str,
    settings: dict[str, Any],
    of_model: dict[str, Any],
    of_preprocessor: dict[str, Any],
    words: str,
) -> None:
    folder = shutil.copytree(spectrogram_checkpoint(kind), tmp_path / "model")
    for name, changes in (("config.json", of_model), ("preprocessor_config.json", of_preprocessor)):
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    given = {"pooling": "mean", "overlap_seconds": 0.2, "licence": "none", "training_data_overlap": "none", **settings}
    encoder = Spectrogram(Spectrogram.Config(family="spectrogram", repo=str(folder), **given))
    for ask in (encoder.identity, lambda: encoder.load("cpu")):
        with pytest.raises(BadSettings) as caught:
            ask()
        assert words in str(caught.value)


def test_a_checkpoint_without_a_preprocessor_is_refused(spectrogram_checkpoint: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(spectrogram_checkpoint("ast"), tmp_path / "model")
    (folder / "preprocessor_config.json").unlink()
    encoder = Spectrogram(
        Spectrogram.Config(
            family="spectrogram",
            repo=str(folder),
            pooling="mean",
            overlap_seconds=0.2,
            licence="none",
            training_data_overlap="none",
        )
    )
    with pytest.raises(BadSettings, match=r"has no preprocessor_config\.json"):
        encoder.identity()


@pytest.mark.parametrize(
    ("kind", "lost"), [("whisper", "encoder.layers.1.fc1.weight"), ("ast", "encoder.layer.0.intermediate.dense.weight")]
)
def test_a_checkpoint_that_lacks_a_weight_is_refused_and_not_filled_with_random_numbers(
    spectrogram_checkpoint: Any, tmp_path: Path, kind: str, lost: str
) -> None:
    folder = shutil.copytree(spectrogram_checkpoint(kind), tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    assert [name for name in weights if name.endswith(lost)], sorted(weights)
    save_file(
        {name: weight for name, weight in weights.items() if not name.endswith(lost)},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    encoder = Spectrogram(
        Spectrogram.Config(
            family="spectrogram",
            repo=str(folder),
            pooling="mean",
            overlap_seconds=0.2,
            licence="none",
            training_data_overlap="none",
        )
    )
    with pytest.raises(
        BadSettings, match=r"1 of the weights of a \w+ are not in its files, among them layers\.\d.*fc1\.weight"
    ):
        encoder.load("cpu")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"layer": 2, "layer_weights": (1, 1, 1, 1)}, "layer and layer_weights exclude each other"),
        ({"layer_weights": (1, -1, 1, 1)}, "none negative"),
        ({"layer_weights": (0, 0, 0, 0)}, "one positive"),
        ({"layer_weights": (1, float("nan"), 1, 1)}, "must be finite"),
        ({"input_seconds": 0.98}, "greater than or equal to 1"),
        ({"input_seconds": float("nan")}, "greater than or equal to 1"),
        ({"windows_per_batch": 0}, "windows_per_batch is 0; expected a number from 1, or auto"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(settings: dict[str, Any], words: str) -> None:
    given = {"pooling": "mean", "overlap_seconds": 0.2, "licence": "none", "training_data_overlap": "none", **settings}
    with pytest.raises(ValueError, match=words):
        Spectrogram.Config(family="spectrogram", repo="x", **given)
