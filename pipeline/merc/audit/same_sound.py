"""Which utterances have the same audio, even if cut slightly earlier, encoded differently or louder.

    audio ─► 32 bits every 12.5 ms: does the energy of a band rise more than that of the next?
          ─► equal bits in two utterances at one distance: a candidate
          ─► few bits differ where the two overlap: the same audio

After Haitsma and Kalker 2002, "A Highly Robust Audio Fingerprinting System" (ISMIR): their 33 bands up to 2 kHz, and
windows of a third of a second, which overlap so much that a shift by part of a step does no harm. Candidates come from
sorting the bits of all utterances, so the time grows with their number and not with its square. Two recordings of the
same words differ in about half of their bits.

Legend: S samples, T frames, P pairs.
"""

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from merc.records.media import SAMPLE_RATE_HZ

_RATE_HZ, _WINDOW, HOP = 4000, 1280, 50
HOPS_PER_SECOND = _RATE_HZ / HOP
_BITS, _LOWEST_HZ, _HIGHEST_HZ = 32, 300.0, 1900.0
# Frames with less power than this share of the loudest are uninformative: they have no bits, and are not compared.
_QUIET = 1e-3
# Bits that occur in more places than this come from stationary audio, and are uninformative.
_MOST_PLACES = 24
_LEAST_EQUAL = 3
_POPULATION = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)


def fingerprint(waveform_S: NDArray[np.float32]) -> NDArray[np.uint32]:
    """The bits of a clip.

    Args:
        waveform_S: (samples,) float32, 16 kHz mono.

    Returns:
        (frames,) uint32, one every 12.5 ms, 0 for quiet frames; empty for a clip shorter than a third of a second.
    """
    import soxr

    low_S = soxr.resample(waveform_S, SAMPLE_RATE_HZ, _RATE_HZ)
    if len(low_S) < _WINDOW + HOP:
        return np.zeros(0, dtype=np.uint32)
    frames_TS = sliding_window_view(low_S, _WINDOW)[::HOP] * np.hanning(_WINDOW).astype(np.float32)
    power_TF = np.square(np.abs(np.fft.rfft(frames_TS, axis=1)))
    edges = np.round(np.geomspace(_LOWEST_HZ, _HIGHEST_HZ, _BITS + 2) * _WINDOW / _RATE_HZ).astype(int)
    bands_TB = np.add.reduceat(power_TF[:, : edges[-1]], edges[:-1], axis=1)
    rises_TB = np.diff(np.diff(bands_TB, axis=1), axis=0) < 0
    codes_T = rises_TB @ (np.uint32(1) << np.arange(_BITS, dtype=np.uint32))
    power_T = bands_TB[1:].sum(axis=1)
    return np.where(power_T > _QUIET * power_T.max(), codes_T, 0).astype(np.uint32)


def nearest(
    digests: Sequence[str], fingerprints: Sequence[NDArray[np.uint32]], min_share: float, max_bit_error: float
) -> list[int]:
    """For each of N utterances, another one with the same audio.

    Args:
        digests: digests of the samples; empty: no audio, which matches nothing.
        fingerprints: see :func:`fingerprint`.
        min_share: share of the shorter of two utterances that must be within the other.
        max_bit_error: share of the bits in the overlap that may differ.

    Returns:
        The index of the one with equal samples (the first of several), else of the one that differs least; -1 if there
        is none.
    """
    best = _equal(digests)
    found: dict[int, tuple[float, int]] = {}
    for one, other, distance in _candidates(fingerprints):
        error = _bit_error(fingerprints[one], fingerprints[other], distance, min_share)
        if error <= max_bit_error:
            for here, there in ((one, other), (other, one)):
                found[here] = min(found.get(here, (1.0, there)), (error, there))
    return [found.get(index, (0.0, -1))[1] if same < 0 else same for index, same in enumerate(best)]


def _equal(digests: Sequence[str]) -> list[int]:
    places: dict[str, list[int]] = {}
    for index, digest in enumerate(digests):
        places.setdefault(digest, []).append(index)
    return [
        next((one for one in places[digest][:2] if one != index), -1) if digest else -1
        for index, digest in enumerate(digests)
    ]


def _candidates(fingerprints: Sequence[NDArray[np.uint32]]) -> list[tuple[int, int, int]]:
    """Pairs of utterances with several equal bit patterns at one distance: indices, and the most likely offset of the
    second in hops.
    """
    lengths = [len(one) for one in fingerprints]
    codes = np.concatenate([np.zeros(0, np.uint32), *fingerprints])
    # 80 places per second are gigabytes for a million utterances; 32 bits halve that.
    owner = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    place = np.concatenate([np.zeros(0, np.int32), *(np.arange(length, dtype=np.int32) for length in lengths)])
    telling = (np.diff(codes, prepend=~codes[:1]) != 0) & (codes != 0)  # the first in a run of equal ones
    codes, owner, place = codes[telling], owner[telling], place[telling]
    order = np.argsort(codes, kind="stable")
    codes, owner, place = codes[order], owner[order], place[order]
    starts = np.flatnonzero(np.diff(codes, prepend=~codes[:1]))
    counts = np.diff(np.r_[starts, len(codes)])
    kept = np.repeat((counts > 1) & (counts <= _MOST_PLACES), counts)
    codes, owner, place = codes[kept], owner[kept], place[kept]
    pairs = [np.zeros((0, 3), dtype=np.int64)]
    for step in range(1, _MOST_PLACES):
        at = (
            np.flatnonzero((codes[:-step] == codes[step:]) & (owner[:-step] != owner[step:]))
            if step < len(codes)
            else np.zeros(0, np.int64)
        )
        pairs.append(np.stack([owner[at], owner[at + step], place[at + step] - place[at]], axis=1))
    return _likeliest(np.concatenate(pairs))


def _likeliest(pairs_P3: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    turned = pairs_P3[:, 0] > pairs_P3[:, 1]
    pairs_P3[turned] = pairs_P3[turned] * [1, 1, -1]
    pairs_P3[turned, :2] = pairs_P3[turned, 1::-1]
    distinct, times = np.unique(pairs_P3, axis=0, return_counts=True)
    distinct, times = distinct[times >= _LEAST_EQUAL], times[times >= _LEAST_EQUAL]
    order = np.argsort(-times, kind="stable")
    likeliest: dict[tuple[int, int], int] = {}
    for one, other, distance in distinct[order].tolist():
        likeliest.setdefault((one, other), distance)
    return [(one, other, distance) for (one, other), distance in sorted(likeliest.items())]


def _bit_error(one: NDArray[np.uint32], other: NDArray[np.uint32], distance: int, min_share: float) -> float:
    """Share of differing bits in the overlap where either is loud, at the best of three neighbouring offsets; 1 if the
    overlap is too short.
    """
    errors = [1.0]
    least = max(1.0, min_share * min(np.count_nonzero(one), np.count_nonzero(other)))
    for apart in (distance - 1, distance, distance + 1):
        here, there = one[max(0, -apart) :], other[max(0, apart) :]
        overlap = min(len(here), len(there))
        loud = np.count_nonzero(here[:overlap] | there[:overlap])
        if loud >= least:
            differing = (here[:overlap] ^ there[:overlap]).view(np.uint8)
            errors.append(float(_POPULATION[differing].sum()) / (_BITS * loud))
    return min(errors)
