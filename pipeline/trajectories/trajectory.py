"""The emotional trajectory of a dialogue: its labels in order, overall and per speaker, and how often a speaker's emotion shifts."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

UNLABELLED = -1

Labels = NDArray[np.int16]


def labelled(emotion_index: Labels) -> Labels:
    """The trajectory that similarities look at: the labels without the utterances that have none.

    Args:
        emotion_index: (utterances,) class indices, -1 where the emotion lies outside the label set.

    Returns:
        (labelled utterances,), in the dialogue's order.
    """
    kept: Labels = emotion_index[emotion_index != UNLABELLED]
    return kept


def by_speaker(emotion_index: Labels, speakers: Sequence[str]) -> dict[str, Labels]:
    """One trajectory per speaker, the unlabelled utterances included, so that together they are the whole dialogue.

    Args:
        emotion_index: (utterances,), -1 where unlabelled.
        speakers: who says each utterance.

    Returns:
        Speaker → (utterances of the speaker,), speakers in the order of their first appearance.
    """
    names, indices = _numbered(speakers)
    return {name: emotion_index[indices == index] for index, name in enumerate(names)}


def shifts(emotion_index: Labels, speakers: Sequence[str]) -> tuple[int, int]:
    """Counts a speaker's changes of emotion, by the definition of DAG-ERC (Shen et al., ACL 2021, section 5.6).

    A labelled utterance makes a pair with the previous utterance of the same speaker, whatever lies between them. The pair
    is a shift if the two labels differ; an unlabelled previous utterance counts as different. A speaker's first utterance
    makes no pair.

    Returns:
        Shifts, and pairs.

    Example:
        >>> shifts(np.array([0, 1, 0, 2], np.int16), ["Ross", "Joey", "Ross", "Joey"])
        (1, 2)
    """
    _, indices = _numbered(speakers)
    order = np.argsort(indices, kind="stable")
    speaker, label = indices[order], emotion_index[order]
    pairs = (speaker[1:] == speaker[:-1]) & (label[1:] != UNLABELLED)
    return int((pairs & (label[1:] != label[:-1])).sum()), int(pairs.sum())


def _numbered(speakers: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """The different names by first appearance, and each utterance's index among them."""
    numbers = {name: index for index, name in enumerate(dict.fromkeys(speakers))}
    return list(numbers), np.array([numbers[name] for name in speakers], dtype=np.int64)
