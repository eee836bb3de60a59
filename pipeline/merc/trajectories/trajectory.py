"""The emotional trajectory of a dialogue: its labels in order, overall and per speaker, and how often a speaker's
emotion shifts.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

UNLABELLED = -1

Labels = NDArray[np.int16]


def labelled(emotion_index: Labels) -> Labels:
    """The trajectory that similarities use: the labels without unlabelled utterances.

    Args:
        emotion_index: (utterances,) class indices, -1 where the emotion is outside the label set.

    Returns:
        (labelled utterances,), in the dialogue's order.
    """
    kept: Labels = emotion_index[emotion_index != UNLABELLED]
    return kept


def by_speaker(emotion_index: Labels, speakers: Sequence[str]) -> dict[str, Labels]:
    """One trajectory per speaker, including unlabelled utterances, so that together they are the whole dialogue.

    Args:
        emotion_index: (utterances,), -1 where unlabelled.
        speakers: speaker of each utterance.

    Returns:
        Speaker → (utterances of the speaker,), speakers in the order of their first appearance.
    """
    names, indices = _numbered(speakers)
    return {name: emotion_index[indices == index] for index, name in enumerate(names)}


def by_slot(emotion_index: Labels, speakers: Sequence[str], *, classes: int, slots: int) -> Labels:
    """The labelled utterances as one number each for speaker and emotion: slot · C + label.

    Args:
        emotion_index: (utterances,), -1 where unlabelled.
        speakers: speaker of each utterance.
        classes: C, number of classes.
        slots: speakers get slots 0, 1, … by their number of labelled utterances, in case of ties by first appearance;
            all remaining ones share the last slot.

    Returns:
        (labelled utterances,), in the dialogue's order.
    """
    _, indices = _numbered(speakers)
    speaker = indices[emotion_index != UNLABELLED]
    rank = np.argsort(np.argsort(-np.bincount(speaker), kind="stable"))
    coded: Labels = (np.minimum(rank[speaker], slots - 1) * classes + labelled(emotion_index)).astype(np.int16)
    return coded


def shifts(emotion_index: Labels, speakers: Sequence[str]) -> tuple[int, int]:
    """Counts a speaker's changes of emotion, by the definition of DAG-ERC (Shen et al., ACL 2021, section 5.6).

    A labelled utterance makes a pair with the previous utterance of the same speaker, whatever is between them. The
    pair is a shift if the two labels differ; an unlabelled previous utterance counts as different. A speaker's first
    utterance makes no pair. For the counts among only labelled utterances see :func:`labelled_shifts`.

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


def labelled_shifts(emotion_index: Labels, speakers: Sequence[str]) -> tuple[int, int]:
    """The same, ignoring unlabelled utterances: the pair is with the speaker's previous labelled utterance.

    In IEMOCAP's six-class test split this gives 410 shifts in 1561 pairs, whereas :func:`shifts` counts 576 in 1578.

    Example:
        >>> labelled_shifts(np.array([0, -1, 0], np.int16), ["Ross", "Ross", "Ross"])
        (0, 1)
    """
    kept = emotion_index != UNLABELLED
    return shifts(emotion_index[kept], [speaker for speaker, one in zip(speakers, kept, strict=True) if one])


def _numbered(speakers: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """The distinct names by first appearance, and each utterance's index among them."""
    numbers = {name: index for index, name in enumerate(dict.fromkeys(speakers))}
    return list(numbers), np.array([numbers[name] for name in speakers], dtype=np.int64)
