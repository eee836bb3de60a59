import numpy as np
import pytest

from merc.encoders.engine.sound import why_absent


def _sound(*samples: float) -> np.ndarray:
    return np.array(samples, dtype=np.float32)


@pytest.mark.parametrize(
    ("waveform", "reason"),
    [
        (None, "no_audio_samples"),
        (_sound(), "no_audio_samples"),
        (_sound(0.5), "silence"),
        (_sound(0.25, 0.25, 0.25), "silence"),
        (_sound(0.0, 1e-5), "silence"),
        (_sound(0.1, float("nan"), 0.2), "not_finite"),
        (_sound(0.1, float("-inf")), "not_finite"),
        (_sound(0.1, 2e6), "not_finite"),
        (_sound(0.0, 2e-5), None),
        (_sound(0.5, -1.5), None),
    ],
)
def test_a_clip_is_absent_only_where_there_is_nothing_to_encode(
    waveform: np.ndarray | None, reason: str | None
) -> None:
    found = why_absent(waveform)
    assert (found and found[0]) == reason


def test_the_detail_counts_what_is_not_finite() -> None:
    assert why_absent(_sound(0.1, float("nan"), float("inf"))) == (
        "not_finite",
        "2 of 3 samples are not finite, or 1e+06 times beyond full scale",
    )
