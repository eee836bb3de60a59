import sys
from collections.abc import Callable
from importlib import metadata

import numpy as np
import pytest

from merc.encoders.audio import functionals
from merc.encoders.audio.functionals import Functionals
from merc.encoders.engine.base import UtteranceInput
from merc.errors import BadSettings

Make = Callable[..., Functionals]


def _encoder(feature_set: str = "eGeMAPSv02", minimum_seconds: float = 0.1) -> Functionals:
    return Functionals(
        Functionals.Config.model_validate(
            {"family": "functionals", "feature_set": feature_set, "minimum_seconds": minimum_seconds}
        )
    )


@pytest.fixture(scope="module")
def opensmile_encoder() -> Make:
    """Returns a loaded encoder; the test is skipped without the package."""
    pytest.importorskip("opensmile", reason="openSMILE is not installed: its licence forbids commercial products")
    made: dict[str, Functionals] = {}

    def make(feature_set: str = "eGeMAPSv02") -> Functionals:
        if feature_set not in made:
            made[feature_set] = _encoder(feature_set)
            made[feature_set].load("cpu")
        return made[feature_set]

    return make


def _clips(*waveforms: np.ndarray | None) -> list[UtteranceInput]:
    return [UtteranceInput(utterance_id=f"u{number}", waveform=waveform) for number, waveform in enumerate(waveforms)]


def _values(encoder: Functionals, waveform: np.ndarray) -> dict[str, float]:
    return dict(zip(encoder._smile.feature_names, encoder.encode(_clips(waveform)).embeddings[0].tolist(), strict=True))


@pytest.mark.parametrize(("feature_set", "dim"), [("eGeMAPSv02", 88), ("ComParE_2016", 6373), ("emobase", 988)])
def test_each_feature_set_has_its_published_length(
    opensmile_encoder: Make, voice: Callable[..., np.ndarray], feature_set: str, dim: int
) -> None:
    encoded = opensmile_encoder(feature_set).encode(_clips(voice(0.6)))
    assert encoded.embeddings.shape == (1, dim)
    assert np.isfinite(encoded.embeddings).all()
    assert encoded.remarks == []
    assert _encoder(feature_set).planned_dim() == dim


def test_the_pitch_of_a_voice_is_found(opensmile_encoder: Make, voice: Callable[..., np.ndarray]) -> None:
    low, high = (_values(opensmile_encoder(), voice(1.0, pitch)) for pitch in (110.0, 220.0))
    name = "F0semitoneFrom27.5Hz_sma3nz_amean"
    assert low[name] == pytest.approx(24, abs=0.2)  # two octaves above 27.5 Hz
    assert high[name] == pytest.approx(36, abs=0.2)
    assert high["loudness_sma3_amean"] > 0


def test_numbers_are_those_that_the_package_gives_itself(
    opensmile_encoder: Make, voice: Callable[..., np.ndarray]
) -> None:
    import opensmile

    encoder = opensmile_encoder()
    reference = opensmile.Smile(feature_set="eGeMAPSv02", feature_level="func").process_signal(voice(0.8, 180), 16_000)
    np.testing.assert_array_equal(
        encoder.encode(_clips(voice(0.8, 180))).embeddings, reference.to_numpy(dtype=np.float32)
    )


def test_full_scale_does_not_wrap_around(opensmile_encoder: Make) -> None:
    tone = np.sin(2 * np.pi * 150 * np.arange(16_000) / 16_000).astype(np.float32)
    tone /= np.abs(tone).max()
    assert (tone == 1).any()
    full, nearly = _values(opensmile_encoder(), tone), _values(opensmile_encoder(), 0.999 * tone)
    # The plain package turns 1.0 into -1.0, a click in every period: four times the loudness, half the Hammarberg
    # index.
    for name in ("loudness_sma3_amean", "hammarbergIndexV_sma3nz_amean"):
        assert full[name] == pytest.approx(nearly[name], rel=0.01)


def test_samples_beyond_full_scale_are_limited_and_recorded(
    opensmile_encoder: Make, voice: Callable[..., np.ndarray]
) -> None:
    sound = voice(0.5)
    sound[[100, 200]] = [3.0, -2.0]
    encoded = opensmile_encoder().encode(_clips(sound, np.clip(sound, -1, 32767 / 32768)))
    assert encoded.remarks == [(0, "clipped", "2 of 8000 samples beyond full scale were limited")]
    assert (encoded.embeddings[0] == encoded.embeddings[1]).all()


def test_a_short_clip_is_padded_and_recorded(opensmile_encoder: Make, voice: Callable[..., np.ndarray]) -> None:
    short = voice(0.02)
    encoded = opensmile_encoder().encode(_clips(short, np.pad(short, (0, 1600 - 320))))
    assert encoded.remarks == [(0, "padded", "from 0.0200 to 0.1000 s with zeros")]
    assert encoded.present.all()
    assert (encoded.embeddings[0] == encoded.embeddings[1]).all()


@pytest.mark.parametrize("feature_set", ["eGeMAPSv02", "ComParE_2016", "emobase"])
def test_the_least_length_that_settings_allow_gives_numbers(opensmile_encoder: Make, feature_set: str) -> None:
    opensmile_encoder(feature_set)
    encoder = _encoder(feature_set, minimum_seconds=0.06)
    encoder.load("cpu")
    encoded = encoder.encode(_clips(np.random.default_rng(0).normal(0, 0.1, 2).astype(np.float32)))
    assert encoded.present.all()
    assert [reason for _, reason, _ in encoded.remarks] == ["padded"]
    with pytest.raises(ValueError, match=r"greater than or equal to 0\.06"):
        _encoder(feature_set, minimum_seconds=0.05)


def test_undefined_numbers_become_zero_and_are_recorded(opensmile_encoder: Make) -> None:
    one_click = np.zeros(16_001, dtype=np.float32)
    one_click[8000] = 2 / 32768
    encoded = opensmile_encoder("ComParE_2016").encode(_clips(one_click))
    assert encoded.present.all()
    assert np.isfinite(encoded.embeddings).all()
    ((index, reason, detail),) = encoded.remarks
    assert (index, reason) == (0, "partly_undefined")
    assert detail.endswith(
        "of 6373 numbers are not finite and set to zero, the first is pcm_fftMag_spectralSlope_sma_lpgain"
    )


def test_what_cannot_be_encoded_is_absent(opensmile_encoder: Make, voice: Callable[..., np.ndarray]) -> None:
    with_nan = voice(0.5)
    with_nan[3] = np.nan
    encoded = opensmile_encoder().encode(
        _clips(with_nan, None, np.zeros(8000, dtype=np.float32), np.full(1, 0.3, dtype=np.float32), voice(0.5))
    )
    assert [reason for _, reason, _ in encoded.remarks] == ["not_finite", "no_audio_samples", "silence", "silence"]
    assert encoded.present.tolist() == [False, False, False, False, True]


def test_five_minutes_are_one_vector(opensmile_encoder: Make, voice: Callable[..., np.ndarray]) -> None:
    encoded = opensmile_encoder("emobase").encode(_clips(np.tile(voice(1.0), 300)))
    assert encoded.present.all()
    assert encoded.remarks == []


def test_identity_and_provenance_name_set_version_and_licence(opensmile_encoder: Make) -> None:
    encoder = opensmile_encoder()
    installed = metadata.version("opensmile")
    assert encoder.identity()["opensmile"] == installed
    made_by = encoder.provenance()
    assert made_by["encoder"] == "openSMILE eGeMAPSv02"
    assert made_by["revision"] == f"opensmile {installed}, version 1"
    assert "no commercial products" in made_by["licence"]


def test_another_version_of_the_package_is_another_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    identities = []
    for version in ("2.6.0", "2.7.0"):
        monkeypatch.setattr(functionals, "version", lambda _, version=version: version)
        identities.append(_encoder().identity())
    assert identities[0] != identities[1]
    assert identities[0] == {
        "family": "functionals",
        "feature_set": "eGeMAPSv02",
        "minimum_seconds": 0.1,
        "version": 1,
        "opensmile": "2.6.0",
    }


def test_without_the_package_the_error_says_how_to_install_it_and_what_its_licence_forbids(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(functionals, "version", missing)
    monkeypatch.setitem(sys.modules, "opensmile", None)
    encoder = _encoder()
    for ask in (encoder.identity, encoder.provenance, lambda: encoder.load("cpu")):
        with pytest.raises(
            BadSettings,
            match=r'pip install "merc-pipeline\[opensmile\]".*audEERING Research License .*no commercial products',
        ):
            ask()


def test_it_is_not_a_dependency_and_no_preset_uses_it() -> None:
    from merc.encoders.engine.registry import choose, names
    from merc.params import Params

    params = Params.load()
    of_family = {
        name for name in names(params, "audio") if choose(params, "audio", name).config.family == "functionals"
    }
    assert of_family
    chosen = [value for key in ("presets", "default_encoders", "build") for value in params.block(key).values()]
    assert not [choice for choice in chosen if isinstance(choice, dict) and choice.get("audio") in of_family]
    needed = [line for line in metadata.requires("merc-pipeline") or [] if line.startswith("opensmile")]
    assert all("extra ==" in line for line in needed)
