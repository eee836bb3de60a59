"""Train dialogues from easy to hard: a recipe's key ``curriculum``.

Source: Nguyen et al., Curriculum Learning Meets Directed Acyclic Graph for Multimodal Emotion Recognition, LREC-COLING
2024, after Yang et al., Hybrid Curriculum Learning for Emotion Recognition in Conversation, AAAI 2022:

    difficulty = (shifts + speakers) / (utterances + speakers)

With ``shifts: weighted``, a shift between emotions a and b counts 0.4 + s(a, b) instead of 1, so that shifts between
similar emotions make a dialogue harder (Li, Xu and Qiao, Long-Short Distance Graph Neural Networks and Improved
Curriculum Learning for Emotion Recognition in Conversation, ECAI 2025, and its code, LiXinran6/LSDGNN_ICL at 4dbfeed):

    s(a, b) = 1 / C                   if a or b is neutral, of C classes
              0                       if one of them is pleasant and the other is not
              max(0, cos(α_a - α_b))  else, of their angles α on a wheel of emotions

Unlabelled utterances are left out in both variants; in that code they are counted, and hide the shifts across them.

Dialogues are sorted by difficulty and divided into the given number of buckets. The first epoch trains on the easiest
bucket, and every further epoch adds the next one ("baby steps"), until all are in; within an epoch the order is random.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from merc.errors import BadSettings
from merc.params import Settings
from merc.training.data.batch import UNLABELLED
from merc.training.data.dataset import DialogueSplit


class Curriculum(Settings):
    """A recipe's key ``curriculum``.

    Attributes:
        buckets: number of buckets of train dialogues, and so the first epoch that trains on all of them.
        shifts: ``counted``: each shift counts 1; ``weighted``: the more, the more similar its two emotions are.
    """

    buckets: int = Field(ge=2)
    shifts: Literal["counted", "weighted"] = "counted"


NEUTRAL = "neutral"
_JOY, _ANGER, _SADNESS = 27, 99, 261
WHEEL = {
    "joy": _JOY,
    "happiness": _JOY,
    "happy": _JOY,
    "excited": 63,
    "surprise": 81,
    "anger": _ANGER,
    "angry": _ANGER,
    "disgust": 153,
    "fear": 171,
    "frustrated": 189,
    "sadness": _SADNESS,
    "sad": _SADNESS,
}
"""Angles of the emotions in degrees: pleasant ones from 270 to 90, aroused ones from 0 to 180; as in LSDGNN's code."""


def shift_weights(classes: Sequence[str]) -> Tensor:
    """Weight of a shift between two classes with ``shifts: weighted``, float64 [C, C]; the diagonal is meaningless.

    Raises:
        BadSettings: if a class is not on the wheel.

    Example:
        >>> shift_weights(["neutral", "joy", "surprise", "anger"])[1]
        tensor([0.6500, 1.4000, 0.9878, 0.4000], dtype=torch.float64)
    """
    for name in classes:
        if name not in WHEEL and name != NEUTRAL:
            raise BadSettings(
                f"curriculum.shifts is weighted, and {name!r} is not on the wheel of emotions, which has"
                f" {', '.join([NEUTRAL, *WHEEL])}"
            )
    angles_C = torch.tensor([WHEEL.get(name, 0) for name in classes], dtype=torch.float64).deg2rad()
    neutral_C = torch.tensor([name == NEUTRAL for name in classes])
    pleasant_C = angles_C.cos() > 0
    alike_CC = (angles_C[:, None] - angles_C).cos().clamp(min=0) * (pleasant_C[:, None] == pleasant_C)
    return 0.4 + torch.where(neutral_C[:, None] | neutral_C, 1 / len(classes), alike_CC)


def difficulty(split: DialogueSplit, weights_CC: Tensor | None = None) -> Tensor:
    """Difficulty of each dialogue, float64 [K], above 0.

    A shift is a labelled utterance whose emotion differs from that of its speaker's previous labelled utterance.
    Unlabelled utterances are not counted, but their speakers are, so a dialogue without labels has difficulty 1, which
    no other exceeds unless shifts are weighted.

    Args:
        split: the dialogues.
        weights_CC: weight of a shift from one class (row) to another (column); None: 1.
    """
    labels, speakers = split.labels_cpu[:-1], split.speakers[:-1].cpu()
    owners = torch.repeat_interleave(split.lengths)
    parties = int(speakers.max()) + 1
    who = owners * parties + speakers
    speakers_K = torch.bincount(torch.unique(who) // parties, minlength=len(split.lengths))
    labelled = (labels != UNLABELLED).nonzero().squeeze(1)
    by_speaker = labelled[who[labelled].argsort(stable=True)]
    before, after = by_speaker[:-1], by_speaker[1:]
    shifted = (who[before] == who[after]) & (labels[before] != labels[after])
    before, after = before[shifted], after[shifted]
    counts = None if weights_CC is None else weights_CC[labels[before], labels[after]]
    shifts_K = torch.bincount(owners[after], counts, minlength=len(split.lengths))
    utterances_K = torch.bincount(owners[labelled], minlength=len(split.lengths))
    return (shifts_K + speakers_K).double() / (utterances_K + speakers_K)


@dataclass(frozen=True)
class Lessons:
    """Which dialogues each epoch trains on.

    Attributes:
        easiest_first: long [K], places in the split; in case of ties, in the order of the split.
        buckets: number of buckets.
    """

    easiest_first: Tensor
    buckets: int

    @classmethod
    def of(cls, split: DialogueSplit, settings: Curriculum, classes: Sequence[str]) -> "Lessons":
        """Sorts the dialogues of a split.

        Args:
            split: the dialogues.
            settings: settings in the recipe.
            classes: names of the classes, in the order of the labels.

        Raises:
            BadSettings: if there are fewer dialogues than buckets, or all are equally hard, as with dialogues of one
                utterance; see also :func:`shift_weights`.
        """
        if len(split.lengths) < settings.buckets:
            raise BadSettings(
                f"curriculum.buckets is {settings.buckets}, but there are only {len(split.lengths)} train dialogues;"
                " use at most that many buckets"
            )
        hard_K = difficulty(split, shift_weights(classes) if settings.shifts == "weighted" else None)
        if bool((hard_K == hard_K[0]).all()):
            what = (
                "have one utterance"
                if bool((split.lengths == 1).all())
                else f"have the difficulty {float(hard_K[0]):.3g}"
            )
            raise BadSettings(
                f"a curriculum goes from easy to hard, but all {len(hard_K)} train dialogues {what}; leave the"
                " recipe's curriculum out"
            )
        return cls(hard_K.argsort(stable=True), settings.buckets)

    def places(self, epoch: int) -> Tensor:
        """The dialogues of an epoch, counted from 1; long [at most K], easiest first."""
        last = -(
            -len(self.easiest_first) * min(epoch, self.buckets) // self.buckets
        )  # rounded up, so that no bucket is empty
        return self.easiest_first[:last]
