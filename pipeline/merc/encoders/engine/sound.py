"""Which clips can be encoded at all."""

import numpy as np
from numpy.typing import NDArray

from merc.records.media import BEYOND_ANY_SCALE

HALF_A_STEP = 0.5 / 32768  # of 16-bit audio: a signal within this range is digital silence


def why_absent(waveform: NDArray[np.float32] | None) -> tuple[str, str] | None:
    """Reason and detail if a clip has nothing to encode, else None.

    Args:
        waveform: (samples,) float32 with full scale at 1; None if there is no audio.

    >>> why_absent(np.zeros(8, dtype=np.float32))
    ('silence', 'none of 8 samples is half a step of 16 bit away from the others')
    """
    if waveform is None or waveform.size == 0:
        return "no_audio_samples", "the waveform holds no sample"
    lowest, highest = float(waveform.min()), float(waveform.max())  # NaN if there is one
    if not -BEYOND_ANY_SCALE < lowest <= highest < BEYOND_ANY_SCALE:
        bad = int((~(np.abs(waveform) < BEYOND_ANY_SCALE)).sum())
        return (
            "not_finite",
            f"{bad} of {waveform.size} samples are not finite, or {BEYOND_ANY_SCALE:g} times beyond full scale",
        )
    if highest - lowest < HALF_A_STEP:
        return "silence", f"none of {waveform.size} samples is half a step of 16 bit away from the others"
    return None
