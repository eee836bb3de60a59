"""Whether a speaker's face differs from the other faces with the same name in the dialogue."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def unlike(
    dialogues: Sequence[str], speakers: Sequence[str], vectors_ND: NDArray[np.float32], present_N: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Cosine distance of each face from the mean direction of the same speaker's other faces in the same dialogue.

    If there are two different faces, both have the same distance; among several, the odd one is farthest.

    Args:
        dialogues, speakers: those of the N utterances.
        vectors_ND: (utterances, dim) from a network that distinguishes faces.
        present_N: whether there is a face.

    Returns:
        (utterances,) float32, 0 to 2; NaN if there is no face, or no other one to compare it with.
    """
    found_N = np.full(len(vectors_ND), np.nan, dtype=np.float32)
    rows = np.flatnonzero(present_N)
    if not len(rows):
        return found_N
    directions_RD = vectors_ND[rows].astype(np.float64)
    directions_RD /= np.linalg.norm(directions_RD, axis=1, keepdims=True)
    persons = list(
        zip((dialogues[row] for row in rows.tolist()), (speakers[row] for row in rows.tolist()), strict=True)
    )
    numbers = {person: number for number, person in enumerate(dict.fromkeys(persons))}
    of_R = np.array([numbers[person] for person in persons])
    sums_PD = np.zeros((len(numbers), vectors_ND.shape[1]))
    np.add.at(sums_PD, of_R, directions_RD)
    others_RD = sums_PD[of_R] - directions_RD
    lengths_R = np.linalg.norm(others_RD, axis=1)
    alone_R = np.bincount(of_R)[of_R] < 2
    cosine_R = (directions_RD * others_RD).sum(axis=1) / np.where(lengths_R > 0, lengths_R, 1.0)
    found_N[rows] = np.where(alone_R, np.nan, 1 - np.clip(cosine_R, -1, 1))
    return found_N
