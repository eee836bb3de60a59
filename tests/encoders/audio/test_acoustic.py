from collections.abc import Callable

import numpy as np
import pytest

from merc.encoders.audio.acoustic import FEATURE_NAMES, REFERENCE_HZ, Acoustic, one_thread
from merc.encoders.engine.base import Encoded, UtteranceInput
from merc.records.media import SAMPLE_RATE_HZ

Voice = Callable[..., np.ndarray]


def _encode(acoustic: Acoustic, *waveforms: np.ndarray) -> Encoded:
    return acoustic.encode(
        [UtteranceInput(utterance_id=str(number), waveform=waveform) for number, waveform in enumerate(waveforms)]
    )


def _named(acoustic: Acoustic, waveform: np.ndarray) -> dict[str, float]:
    return dict(zip(FEATURE_NAMES, _encode(acoustic, waveform).embeddings[0].tolist(), strict=True))


def test_names_are_unique_and_as_many_as_the_numbers(acoustic: Acoustic) -> None:
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES) == acoustic.dim == 179


@pytest.mark.parametrize("pitch_hz", [85.0, 150.0, 220.0, 440.0])
def test_pitch_of_a_steady_voice_is_found(acoustic: Acoustic, voice: Voice, pitch_hz: float) -> None:
    found = _named(acoustic, voice(1.0, pitch_hz))
    hertz = REFERENCE_HZ * 2 ** ((found["pitch_semitones_p50"] * 12 + 36) / 12)
    assert hertz == pytest.approx(pitch_hz, rel=0.01)  # a sixth of a semitone
    assert found["voiced_share"] > 0.9
    assert found["pitch_range_semitones"] == pytest.approx(0, abs=0.02)
    assert found["harmonicity_mean"] > 0.9


def test_a_rising_voice_has_a_positive_slope_and_a_falling_one_a_negative(acoustic: Acoustic, voice: Voice) -> None:
    rising, falling = _named(acoustic, voice(2.0, 120, 1.0)), _named(acoustic, voice(2.0, 240, -1.0))
    assert rising["pitch_slope_semitones_per_second"] == pytest.approx(
        0.6, abs=0.03
    )  # an octave in two seconds, in tens
    assert falling["pitch_slope_semitones_per_second"] == pytest.approx(-0.6, abs=0.03)
    assert rising["pitch_rising_share"] > 0.9 > 0.1 > falling["pitch_rising_share"]


def test_ten_decibels_more_show_in_the_energy_alone(acoustic: Acoustic, voice: Voice) -> None:
    quiet, loud = _named(acoustic, voice(1.0, level=0.05)), _named(acoustic, voice(1.0, level=0.05 * 10**0.5))
    assert loud["energy_db_mean"] - quiet["energy_db_mean"] == pytest.approx(10 / 15, abs=1e-3)
    assert loud["energy_db_std"] == pytest.approx(quiet["energy_db_std"], abs=1e-3)
    for name in ("pitch_semitones_p50", "centroid_khz_mean", "tilt_db_per_octave_mean", "voiced_share"):
        assert loud[name] == pytest.approx(quiet[name], abs=1e-3)


def test_energy_of_a_sine_is_its_root_mean_square(acoustic: Acoustic) -> None:
    sine = (0.5 * np.sin(2 * np.pi * 200 * np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ)).astype(np.float32)
    decibels = _named(acoustic, sine)["energy_db_p50"] * 15 - 30
    assert decibels == pytest.approx(20 * np.log10(0.5 / 2**0.5), abs=0.05)


@pytest.mark.parametrize("syllables", [3.0, 5.0])
def test_syllables_are_counted(acoustic: Acoustic, voice: Voice, syllables: float) -> None:
    found = _named(acoustic, voice(3.0, 150, 0, syllables))
    assert found["energy_peaks_per_second"] * 4 == pytest.approx(syllables, abs=0.4)


def test_noise_is_unvoiced_flat_and_bright(acoustic: Acoustic, voice: Voice) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE_HZ).astype(np.float32)
    hiss, tone = _named(acoustic, noise), _named(acoustic, voice(1.0))
    assert hiss["voiced_share"] < 0.05 < tone["voiced_share"]
    assert hiss["flatness_log10_mean"] > tone["flatness_log10_mean"] + 0.5
    assert hiss["centroid_khz_mean"] * 1.5 + 1.5 == pytest.approx(4.0, abs=0.2)  # half of the band
    assert hiss["tilt_db_per_octave_mean"] * 6 - 6 == pytest.approx(0, abs=0.5)
    assert tone["tilt_db_per_octave_mean"] < hiss["tilt_db_per_octave_mean"]


def test_a_pause_shows_as_quiet(acoustic: Acoustic, voice: Voice) -> None:
    paused = np.concatenate([voice(0.5), np.zeros(SAMPLE_RATE_HZ // 2, dtype=np.float32), voice(0.5)])
    found = _named(acoustic, paused)
    assert found["quiet_share"] == pytest.approx(1 / 3, abs=0.04)
    assert np.expm1(found["longest_quiet_seconds"]) == pytest.approx(0.5, abs=0.05)


def test_a_constant_offset_changes_nothing(acoustic: Acoustic, voice: Voice) -> None:
    sound = voice(0.5)
    np.testing.assert_allclose(
        _encode(acoustic, sound + np.float32(0.1)).embeddings, _encode(acoustic, sound).embeddings, atol=5e-3
    )


def test_a_short_clip_is_padded_and_says_so(acoustic: Acoustic, voice: Voice) -> None:
    encoded = _encode(acoustic, voice(0.064), voice(0.1), voice(0.2)[:7])
    assert encoded.present.all()
    assert encoded.remarks == [
        (0, "padded", "from 0.0640 to 0.1000 s with zeros"),
        (2, "padded", "from 0.0004 to 0.1000 s with zeros"),
    ]
    assert encoded.embeddings[0, FEATURE_NAMES.index("duration_log_seconds")] == pytest.approx(np.log(0.064))


@pytest.mark.parametrize(
    ("waveform", "reason"),
    [
        (np.zeros(16000, dtype=np.float32), "silence"),
        (np.full(16000, 0.4, dtype=np.float32), "silence"),
        (np.array([0.1, np.nan, 0.2], dtype=np.float32), "not_finite"),
        (np.full(2000, np.inf, dtype=np.float32), "not_finite"),
        (np.zeros(0, dtype=np.float32), "no_audio_samples"),
        (None, "no_audio_samples"),
    ],
)
def test_audio_without_content_is_absent(acoustic: Acoustic, waveform: np.ndarray, reason: str) -> None:
    encoded = _encode(acoustic, waveform)
    assert not encoded.present.any()
    assert not encoded.embeddings.any()
    assert [remark[1] for remark in encoded.remarks] == [reason]


def test_strange_audio_gives_finite_numbers_of_order_one(acoustic: Acoustic, voice: Voice) -> None:
    rng = np.random.default_rng(1)
    click = np.zeros(8000, dtype=np.float32)
    click[4000] = 1
    faint = (np.sign(rng.normal(size=8000)) / 32768).astype(np.float32)
    square = np.sign(voice(0.5)).astype(np.float32)
    high = np.sin(np.pi * 0.999 * np.arange(8000)).astype(np.float32)
    encoded = _encode(
        acoustic, click, faint, square, high, voice(0.5, 55), voice(0.5, 900), np.tile([1, -1], 4000).astype(np.float32)
    )
    assert encoded.present.all()
    assert np.isfinite(encoded.embeddings).all()
    assert np.abs(encoded.embeddings).max() < 15


@pytest.mark.parametrize("samples", [1, 2, 3, 30])
def test_a_handful_of_samples_gives_finite_numbers_or_silence(acoustic: Acoustic, samples: int) -> None:
    encoded = _encode(acoustic, np.linspace(-0.5, 0.5, samples, dtype=np.float32))
    assert np.isfinite(encoded.embeddings).all()
    assert [remark[1] for remark in encoded.remarks] == ["silence" if samples == 1 else "padded"]


def test_samples_beyond_any_scale_are_broken_not_stored(acoustic: Acoustic, voice: Voice) -> None:
    encoded = _encode(acoustic, voice(0.3) * np.float32(1e35))
    assert not encoded.embeddings.any()
    assert [remark[1] for remark in encoded.remarks] == ["not_finite"]


def test_a_click_in_silence_is_not_taken_for_a_voice(acoustic: Acoustic) -> None:
    click = np.zeros(SAMPLE_RATE_HZ, dtype=np.float32)
    click[5000:5010] = 0.8
    found = _named(acoustic, click)
    assert found["voiced_share"] == 0
    assert found["quiet_share"] > 0.9


def test_a_minute_is_no_trouble(acoustic: Acoustic) -> None:
    noise = np.random.default_rng(2).normal(0, 0.1, 60 * SAMPLE_RATE_HZ).astype(np.float32)
    assert _encode(acoustic, noise).present.all()


def test_the_number_of_threads_of_the_process_is_left_as_it_was() -> None:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_real_speech_has_the_pitch_and_pace_of_speech(acoustic: Acoustic, real_data) -> None:
    import soundfile

    for name in ("spk1_snt1.wav", "spk1_snt2.wav"):
        waveform, rate = soundfile.read(real_data / "media" / name, dtype="float32")
        assert rate == SAMPLE_RATE_HZ
        found = _named(acoustic, waveform)
        assert 60 < REFERENCE_HZ * 2 ** ((found["pitch_semitones_p50"] * 12 + 36) / 12) < 400
        assert 0.3 < found["voiced_share"] < 0.9
        assert 2 < found["energy_peaks_per_second"] * 4 < 7
        assert max(abs(value) for value in found.values()) < 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pitch_min_hz": 600}, "not below pitch_max_hz"),
        ({"pitch_window_ms": 20}, "is shorter than two periods of pitch_min_hz"),
        ({"minimum_seconds": 0.01}, "is shorter than one window"),
        ({"pitch_max_hz": 9000}, "pitch_max_hz"),
        ({"voicing_threshold": 1.5}, "voicing_threshold"),
    ],
)
def test_impossible_settings_are_refused(acoustic: Acoustic, change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Acoustic.Config(**{**acoustic.config.model_dump(), **change})
