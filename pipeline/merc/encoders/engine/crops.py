"""From the vectors of face crops to one vector per utterance.

Crops of all utterances are concatenated, those of an utterance in order, so that an utterance is a segment:

    crops      a0 a1 a2 │ b0 │ c0 c1 c2 c3
    starts     0          3    4

Legend: C clips (utterances with a face), N crops of all of them, D features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from merc.encoders.engine.base import Encoded, EncodedSequence, UtteranceInput
from merc.encoders.engine.batching import scatter

Pooling = Literal["mean", "confidence", "mean_std"]
LARGEST_HALF = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Crops:
    """The crops of a part.

    Attributes:
        clips: (C,) indices of the utterances with a face, ascending.
        starts, ends: (C,) half-open range of each among the crops.
        images: N views of (height, width, 3) uint8.
        remarks: ``no_face`` for all other utterances, as in :class:`Encoded`.
    """

    clips: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    pictures: list[NDArray[np.uint8]]
    remarks: list[tuple[int, str, str]]

    def __len__(self) -> int:
        return len(self.pictures)


def of(utterances: Sequence[UtteranceInput]) -> Crops:
    """All crops of some utterances."""
    sequences = [
        () if utterance.faces is None or utterance.faces.size == 0 else utterance.faces for utterance in utterances
    ]
    counts = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    ends = np.cumsum(counts)
    there = counts > 0
    remarks = [(int(index), "no_face", "there is no face crop") for index in np.flatnonzero(~there)]
    pictures = [picture for sequence in sequences for picture in sequence]
    return Crops(np.flatnonzero(there), (ends - counts)[there], ends[there], pictures, remarks)


def pooled(
    vectors_ND: NDArray[np.float32], crops: Crops, pooling: Pooling, scores_N: NDArray[np.float32], temperature: float
) -> NDArray[np.float32]:
    """One vector per clip; the content of a clip, including NaN, affects no other.

    Args:
        vectors_ND: vectors of the crops.
        crops: the crops.
        pooling: ``mean``, over the crops; ``confidence``, the mean in which a crop weighs exp(s/t) for the detector's
            confidence s and the temperature t, divided by the sum of these over the clip's crops (with equal
            confidences it is the mean); ``mean_std``, the mean followed by the standard deviation (of the population,
            not a sample estimate: zeros for a single crop).
        scores_N: the detector's confidence in each crop; used only by ``confidence``.
        temperature: above 0; the lower, the more the best crop outweighs the others.

    Returns:
        (C, D) float32; (C, 2 D) for ``mean_std``.
    """
    if not len(crops):
        return np.zeros((0, vectors_ND.shape[1] * (2 if pooling == "mean_std" else 1)), dtype=np.float32)
    starts, counts_C = crops.starts, crops.ends - crops.starts
    exact_ND = vectors_ND.astype(np.float64)
    weights_N = np.ones(len(crops))
    if pooling == "confidence":
        logits_N = scores_N.astype(np.float64) / temperature
        weights_N = np.exp(logits_N - np.repeat(np.maximum.reduceat(logits_N, starts), counts_C))
    weights_N /= np.repeat(np.add.reduceat(weights_N, starts), counts_C)
    with np.errstate(
        invalid="ignore", over="ignore"
    ):  # a model's infinity becomes NaN here, and its clip is recorded as not finite
        mean_CD = np.add.reduceat(weights_N[:, None] * exact_ND, starts)
        if pooling != "mean_std":
            return mean_CD.astype(np.float32)
        squares_ND = (exact_ND - np.repeat(mean_CD, counts_C, axis=0)) ** 2
        deviation_CD = np.sqrt(np.add.reduceat(weights_N[:, None] * squares_ND, starts))
        return np.concatenate([mean_CD, deviation_CD], axis=1).astype(np.float32)


def scores_of(utterances: Sequence[UtteranceInput], crops: Crops) -> NDArray[np.float32]:
    """(N,) the detector's confidence in each crop; 0 for crops of a clip without confidences, and for NaN."""
    scores_N = np.zeros(len(crops), dtype=np.float32)
    for clip, start, end in zip(crops.clips, crops.starts, crops.ends, strict=True):
        scores = utterances[clip].face_scores
        if scores is not None:
            scores_N[start:end] = scores
    return np.nan_to_num(scores_N, nan=0.0, posinf=0.0, neginf=0.0)


def encoded(
    vectors_ND: NDArray[np.float32],
    crops: Crops,
    utterances: Sequence[UtteranceInput],
    *,
    pooling: Pooling,
    temperature: float,
    sequences: bool,
    what: str,
) -> Encoded:
    """The utterances' vectors and, if requested, those of the crops.

    Args:
        vectors_ND: vectors of the crops.
        crops: the crops.
        utterances: all utterances of the part.
        pooling, temperature: as for :func:`pooled`.
        sequences: keep the crops' vectors, in float16 (limited to its range).
        what: what computed the vectors, for remarks.
    """
    vectors_CD = pooled(vectors_ND, crops, pooling, scores_of(utterances, crops), temperature)
    finite_C, nonzero_C = np.isfinite(vectors_CD).all(axis=1), vectors_CD.any(axis=1)
    remarks = [
        *crops.remarks,
        *((int(clip), "not_finite", f"{what} gave values that are not finite") for clip in crops.clips[~finite_C]),
        *((int(clip), "zero_vector", f"{what} gave nothing but zeros") for clip in crops.clips[~nonzero_C]),
    ]
    good_C = finite_C & nonzero_C
    result = scatter(vectors_CD[good_C], crops.clips[good_C].tolist(), len(utterances), remarks)
    if sequences:
        half_ND = vectors_ND.clip(-LARGEST_HALF, LARGEST_HALF).astype(np.float16)
        result.sequences = [None] * len(utterances)
        for clip, begin, end in zip(crops.clips, crops.starts, crops.ends, strict=True):
            if result.present[clip]:
                seconds = utterances[clip].face_seconds
                result.sequences[clip] = EncodedSequence(
                    half_ND[begin:end], np.zeros(0, dtype=np.float32) if seconds is None else seconds
                )
    return result
