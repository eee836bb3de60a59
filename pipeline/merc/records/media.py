"""What readers of the media may rely on: the sample rate, and the position of the eyes in a face crop."""

SAMPLE_RATE_HZ = 16_000
"""Sample rate of all decoded audio; mono."""
BEYOND_ANY_SCALE = 1e6
"""Multiple of full scale; values beyond it are invalid: floating-point files may contain anything, and squares of much
larger values would overflow float32.
"""
EYE_DISTANCE_SHARE = 0.32
"""Distance of the eyes in a face crop, as a share of its side."""
EYE_HEIGHT_SHARE = 0.42
"""Distance of the eyes from the upper edge of a face crop, as a share of its side."""
