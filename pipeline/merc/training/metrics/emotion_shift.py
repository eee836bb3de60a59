"""Scores where a speaker's emotion shifts and where it stays, by two definitions.

Both compare a labelled utterance with an earlier one of the same speaker, whatever is between them; a speaker's first
utterance is in neither subset.

    ``transcript``  the speaker's previous utterance; one without a label counts as different (DAG-ERC: Shen et al., ACL 2021, section 5.6; the published
                    subsets are of this kind: 1003 shifts and 861 others in MELD's test split, 576 and 1002 in
                    IEMOCAP's)
    ``labelled``    the speaker's previous labelled utterance (IEMOCAP: 410 and 1151; MELD labels every utterance)
"""  # noqa: E501

from typing import Any

import numpy as np
from numpy.typing import NDArray

from merc.training.metrics.accuracy import accuracy
from merc.training.metrics.weighted_f1 import weighted_f1

DEFINITIONS = ("transcript", "labelled")

Labels = NDArray[np.int64]
Mask = NDArray[np.bool_]


def shift_subsets(labels: Labels, speakers: Labels, lengths: Labels, definition: str) -> tuple[Mask, Mask]:
    """Which utterances of a split shift, and which stay.

    Args:
        labels: [N], -1 = unlabelled.
        speakers: [N], index in the dialogue.
        lengths: [K], utterances of each dialogue, in the order of the rows; they add up to N.
        definition: see the head of the module.

    Returns:
        Two bool [N]; never both true, and both false if unlabelled.

    Raises:
        ValueError: if there is no such definition or the lengths do not fit.

    Example:
        >>> labels, speakers = np.array([0, -1, 0, 1]), np.zeros(4, dtype=np.int64)
        >>> shift_subsets(labels, speakers, np.array([4]), "transcript")[0].astype(int)
        array([0, 0, 1, 1])
        >>> shift_subsets(labels, speakers, np.array([4]), "labelled")[0].astype(int)
        array([0, 0, 0, 1])
    """
    if definition not in DEFINITIONS:
        raise ValueError(f"no definition named {definition!r}; valid: {', '.join(DEFINITIONS)}")
    if len(labels) != lengths.sum() or len(speakers) != len(labels):
        raise ValueError(
            f"{len(labels)} labels, {len(speakers)} speakers and dialogues of {lengths.sum()} utterances together"
        )
    dialogues = np.repeat(np.arange(len(lengths)), lengths)
    rows = np.arange(len(labels)) if definition == "transcript" else np.flatnonzero(labels >= 0)
    rows = rows[
        np.lexsort((rows, speakers[rows], dialogues[rows]))
    ]  # speaker after speaker, each in the order of the dialogue
    follows = (
        (dialogues[rows[1:]] == dialogues[rows[:-1]])
        & (speakers[rows[1:]] == speakers[rows[:-1]])
        & (labels[rows[1:]] >= 0)
    )
    differs = labels[rows[1:]] != labels[rows[:-1]]
    shift, stay = np.zeros(len(labels), dtype=bool), np.zeros(len(labels), dtype=bool)
    shift[rows[1:]] = follows & differs
    stay[rows[1:]] = follows & ~differs
    return shift, stay


def emotion_shift(
    labels: Labels, predicted: Labels, speakers: Labels, lengths: Labels, classes: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """Definition → ``shift`` and ``no_shift`` → ``accuracy``, ``weighted_f1`` (None without an utterance) and
    ``support``.

    The two subsets' weighted F1 do not average to that of the whole split: F1 is not additive, and first utterances are
    in neither.

    Args:
        labels: [N], all utterances of the split, -1 = unlabelled.
        predicted: [N].
        speakers: [N], index in the dialogue.
        lengths: [K].
        classes: number of classes.

    Raises:
        ValueError: if the labels, predictions, speakers and lengths do not fit each other.
    """
    if len(labels) != len(predicted):
        raise ValueError(f"{len(labels)} labels, and predictions of {len(predicted)} utterances")
    scores: dict[str, dict[str, dict[str, Any]]] = {}
    for definition in DEFINITIONS:
        subsets = zip(("shift", "no_shift"), shift_subsets(labels, speakers, lengths, definition), strict=True)
        scores[definition] = {name: _scores(labels[chosen], predicted[chosen], classes) for name, chosen in subsets}
    return scores


def _scores(labels: Labels, predicted: Labels, classes: int) -> dict[str, Any]:
    if not len(labels):
        return {"accuracy": None, "weighted_f1": None, "support": 0}
    return {
        "accuracy": accuracy(labels, predicted),
        "weighted_f1": weighted_f1(labels, predicted, classes),
        "support": len(labels),
    }
