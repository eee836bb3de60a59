"""What whoever reads the media may rely on: the rate of the sound, and where the eyes lie in a face crop."""

SAMPLE_RATE_HZ = 16_000
"""Of all sound behind the decoding; mono."""
BEYOND_ANY_SCALE = 1e6
"""Times full scale; a sample beyond it is none: floating-point files may hold anything, and squares of much larger ones
would leave float32.
"""
EYE_DISTANCE_SHARE = 0.32
"""Distance of the eyes in a face crop, as a share of its side."""
EYE_HEIGHT_SHARE = 0.42
"""How far below the upper edge of a face crop the eyes lie, as a share of its side."""
