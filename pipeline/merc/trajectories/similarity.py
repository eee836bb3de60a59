"""Similarities of trajectories in [0, 1] by name, and those based on counts and strings.

Array descriptions contain whole numbers, or ratios on a fixed grid, so that no result depends on the order of
summation, that is, on the machine or the size of a block.

Trajectories are labels without gaps (:func:`merc.trajectories.trajectory.labelled`), each with at least one utterance.
Legend: N trajectories, Q queries, M candidates, P pairs, C classes, R bins.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from merc.trajectories import dtw
from merc.trajectories.base import Similarity, Sketches, by_columns, dot_bound
from merc.trajectories.trajectory import Labels

NAMES = ("histogram", "transition", "edit", "path", "path_speakers", "dtw")
ORDER_AWARE = NAMES[1:]
# Shares of a bin are multiples of this, so that sums of their differences are exact in float64 for up to 512 bins.
GRID = 2.0**-42


def similarity(name: str, path_bins: int, valence_arousal: NDArray[np.float64] | None = None) -> Similarity:
    """The similarity with a name.

    Args:
        name: one of :data:`NAMES`.
        path_bins: R of ``path`` and ``dtw``; the others do not use it.
        valence_arousal: (C, 2), only for ``dtw``: position of each class; see :func:`merc.trajectories.dtw.similarity`.

    Raises:
        ValueError: if there is none with that name, or ``dtw`` has no ``valence_arousal``.
    """
    by_angle = partial(
        Similarity, compare=cosine, pairs=cosine_of_pairs, sketch=unit_rows, bound=dot_bound, order=by_columns
    )
    by_overlap = partial(
        Similarity, compare=overlap, pairs=overlap_of_pairs, sketch=_root, bound=dot_bound, order=by_columns
    )
    stretched = partial(binned, bins=path_bins)
    known = {
        "histogram": by_angle(describe=label_counts),
        "transition": by_angle(describe=transition_counts),
        "edit": Similarity(
            describe=strings,
            compare=edit,
            pairs=edit_of_pairs,
            sketch=_length_and_letters,
            bound=_shared_letters,
            order=_by_letters,
            pair_cost=20,
        ),
        "path": by_overlap(describe=stretched),
        "path_speakers": by_overlap(describe=partial(binned_speakers, bins=path_bins)),
    }
    if name == "dtw":
        if valence_arousal is None:
            raise ValueError("dtw needs the valence and arousal of every class")
        return dtw.similarity(stretched, valence_arousal)
    if name not in known:
        raise ValueError(f"no similarity {name!r}; one of {', '.join(NAMES)}")
    return known[name]


def label_counts(trajectories: Sequence[Labels], classes: int) -> NDArray[np.float64]:
    """How often each label occurs, (N, C). With :func:`cosine`: ``histogram``, which depends on neither order nor
    length.
    """
    labels, owner, _, _ = _flat(trajectories)
    return _count(owner * classes + labels, len(trajectories), classes)


def transition_counts(trajectories: Sequence[Labels], classes: int) -> NDArray[np.float64]:
    """How often label i is followed by label j, (N, C·C + C). With :func:`cosine`: ``transition``.

    A trajectory of one utterance has no transition. Its label is counted in the last C columns, so that its similarity
    is 1 to other single-utterance trajectories with that label and 0 to all others.
    """
    labels, owner, _, lengths = _flat(trajectories)
    width = classes * classes + classes
    same = owner[1:] == owner[:-1]
    followed = (owner[:-1] * width + labels[:-1].astype(np.int64) * classes + labels[1:])[same]
    alone = (owner * width + classes * classes + labels)[lengths[owner] == 1]
    return _count(np.concatenate([followed, alone]), len(trajectories), width)


def cosine(queries: NDArray[np.float64], candidates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine of the angle between counts, (Q, M).

    The products are sums of whole numbers, exact in float64, and the square root of a square is exact too: equal counts
    give 1.0.
    """
    products = queries @ candidates.T
    squares = np.outer((queries * queries).sum(axis=1), (candidates * candidates).sum(axis=1))
    shared: NDArray[np.float64] = products / np.sqrt(squares)
    return shared


def cosine_of_pairs(some: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """:func:`cosine` of each row with the row next to it, (P,)."""
    squares = (some * some).sum(axis=1) * (others * others).sum(axis=1)
    shared: NDArray[np.float64] = (some * others).sum(axis=1) / np.sqrt(squares)
    return shared


def unit_rows(described: NDArray[np.float64]) -> Sketches:
    """The counts scaled to length 1; their inner product is the cosine."""
    return ((described / np.linalg.norm(described, axis=1, keepdims=True)).astype(np.float32),)


def strings(trajectories: Sequence[Labels], classes: int) -> NDArray[Any]:
    """One character per label, (N,) of str; what :func:`edit` compares."""
    _check_none_empty(trajectories)
    alphabet = np.array([chr(ord("A") + label) for label in range(classes)])
    return np.array(["".join(alphabet[trajectory]) for trajectory in trajectories], dtype=object)


def edit(queries: NDArray[Any], candidates: NDArray[Any]) -> NDArray[np.float64]:
    """1 - Levenshtein distance / length of the longer one, (Q, M); depends on order and length."""
    from rapidfuzz import process
    from rapidfuzz.distance import Levenshtein

    shared: NDArray[np.float64] = process.cdist(
        queries.tolist(), candidates.tolist(), scorer=Levenshtein.normalized_similarity, dtype=np.float64, workers=1
    )
    return shared


def edit_of_pairs(some: NDArray[Any], others: NDArray[Any]) -> NDArray[np.float64]:
    """:func:`edit` of each string with the one next to it, (P,)."""
    from rapidfuzz import process
    from rapidfuzz.distance import Levenshtein

    shared: NDArray[np.float64] = process.cpdist(
        some.tolist(), others.tolist(), scorer=Levenshtein.normalized_similarity, dtype=np.float64, workers=1
    )
    return shared


def _length_and_letters(described: NDArray[Any]) -> Sketches:
    """The lengths, and the count of each letter in the strings: in the smallest fitting integer type, since narrow
    integers are compared fastest.
    """
    lengths, counts_LN = _letters(described)
    kind = np.min_scalar_type(lengths.max(initial=0))
    return (lengths.astype(np.float32), *(count_N.astype(kind) for count_N in counts_LN))


def _shared_letters(queries: Sketches, candidates: Sketches) -> NDArray[np.float32]:
    """Any surplus of a letter in the longer of two strings must be deleted or replaced: the similarity is at most the
    share of common letters.
    """
    shared = np.minimum.outer(queries[1], candidates[1])
    in_both = np.empty_like(shared)
    for counts, others in zip(queries[2:], candidates[2:], strict=True):
        np.minimum.outer(counts, others, out=in_both)
        shared += in_both
    ratio: NDArray[np.float32] = np.maximum.outer(queries[0], candidates[0])
    np.divide(shared, ratio, out=ratio)
    ratio += np.float32(1e-6)
    return ratio


def _by_letters(described: NDArray[Any]) -> NDArray[np.int64]:
    """By length, then by the count of the most frequent letter, the second, and so on."""
    lengths, counts_LN = _letters(described)
    rarest_first = np.argsort(counts_LN.sum(axis=1), kind="stable")
    order: NDArray[np.int64] = np.lexsort((*counts_LN[rarest_first], lengths))
    return order


def _letters(described: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The length of each string, (N,), and the count of each occurring letter in it, (letters, N)."""
    lengths = np.array([len(string) for string in described], np.int64)
    letters, codes = np.unique(np.frombuffer("".join(described).encode("utf-32-le"), np.uint32), return_inverse=True)
    owner = np.repeat(np.arange(len(described)), lengths)
    return lengths, np.bincount(codes * len(described) + owner, minlength=len(letters) * len(described)).reshape(
        len(letters), -1
    )


def binned(trajectories: Sequence[Labels], classes: int, *, bins: int) -> NDArray[np.float64]:
    """Each trajectory stretched to R bins: per bin, the share that each label covers, (N, R·C); a bin's shares sum to
    1.

        T = 3     |     0     |     1     |     1     |        utterance t covers [t/T, (t + 1)/T)
        R = 2     |   0: 2/3, 1: 1/3|      1: 1       |        bin r covers [r/R, (r + 1)/R)

    Both spans are scaled by T·R, so the overlap is a difference of whole numbers; it is then divided by T, the
    scaled bin's length, and rounded to a multiple of :data:`GRID`.
    """
    labels, owner, position, lengths = _flat(trajectories)
    length = lengths[owner][:, None]
    bin_1R, position_N1 = np.arange(bins)[None, :], position[:, None]
    covered = np.minimum((position_N1 + 1) * bins, (bin_1R + 1) * length) - np.maximum(
        position_N1 * bins, bin_1R * length
    )
    cell = (owner[:, None] * bins + bin_1R) * classes + labels[:, None]
    covers = covered > 0
    shares = _count(cell[covers], len(trajectories), bins * classes, weights=covered[covers]) / lengths[:, None]
    return np.rint(shares / GRID) * GRID


def binned_speakers(trajectories: Sequence[Labels], classes: int, *, bins: int) -> NDArray[np.float64]:
    """Each speaker's trajectory stretched to R bins and weighted by the speaker's share of the utterances, (N, S·R·C),
    with S the maximum number of slots.

    With :func:`overlap`: ``path_speakers``. A dialogue's speakers are matched by
    :func:`merc.trajectories.trajectory.by_slot`, the most frequent speaker with the most frequent speaker. Since the
    weights of a dialogue sum to 1, so does every bin over all speakers.

    Args:
        trajectories: numbers from ``by_slot``, slot · C + label.
        classes: C.
        bins: R.
    """
    codes, owner, position, lengths = _flat(trajectories)
    slots = int(codes.max()) // classes + 1
    slot = codes // classes
    # The slots of each dialogue in sequence; the order within a slot is kept.
    order = np.lexsort((position, slot, owner))
    begins = np.flatnonzero(np.diff(owner[order] * slots + slot[order], prepend=-1))
    parts = np.split((codes % classes)[order], begins[1:])
    of, at = owner[order][begins], slot[order][begins]
    shares = np.array([len(part) for part in parts]) / lengths[of]
    described = np.zeros((len(trajectories), slots, bins * classes))
    described[of, at] = np.rint(binned(parts, classes, bins=bins) * shares[:, None] / GRID) * GRID
    return described.reshape(len(trajectories), -1)


def overlap(queries: NDArray[np.float64], candidates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over bins of Σ_c min(p_c, q_c), (Q, M); depends on order, not length. With :func:`binned`: ``path``.

    Since each bin sums to 1, Σ min(p, q) = 1 - Σ |p - q| / 2, and the sum of absolute differences has a compiled
    routine.
    """
    from sklearn.metrics.pairwise import manhattan_distances

    bins = queries[0].sum().round() if len(queries) else 1.0
    shared: NDArray[np.float64] = 1.0 - manhattan_distances(queries, candidates) / (2.0 * bins)
    return np.clip(shared, 0.0, 1.0)


def overlap_of_pairs(some: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """:func:`overlap` of each row with the row next to it, (P,)."""
    bins = some[0].sum().round() if len(some) else 1.0
    shared: NDArray[np.float64] = 1.0 - np.abs(some - others).sum(axis=1) / (2.0 * bins)
    return np.clip(shared, 0.0, 1.0)


def _root(described: NDArray[np.float64]) -> Sketches:
    """The square roots of the shares, scaled to length 1: since min(p, q) ≤ √(p q), their inner product bounds the
    overlap.
    """
    root = np.sqrt(described)
    return ((root / np.linalg.norm(root, axis=1, keepdims=True)).astype(np.float32),)


def _flat(trajectories: Sequence[Labels]) -> tuple[Labels, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """All labels concatenated, the trajectory of each, its position in it; and the N lengths."""
    _check_none_empty(trajectories)
    lengths = np.array([len(trajectory) for trajectory in trajectories], dtype=np.int64)
    labels = np.concatenate([np.empty(0, np.int16), *trajectories])
    owner = np.repeat(np.arange(len(trajectories)), lengths)
    position = np.arange(len(labels)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return labels, owner, position, lengths


def _check_none_empty(trajectories: Sequence[Labels]) -> None:
    empty = next((index for index, trajectory in enumerate(trajectories) if not len(trajectory)), None)
    if empty is not None:
        raise ValueError(f"trajectory {empty} of {len(trajectories)} is empty: there is nothing to compare")


def _count(
    cells: NDArray[np.int64], rows: int, width: int, weights: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    return np.bincount(cells, weights=weights, minlength=rows * width).reshape(rows, width).astype(np.float64)
