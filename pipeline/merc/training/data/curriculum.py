"""Train dialogues from easy to hard: a recipe's key ``curriculum``.

Source: Nguyen et al., Curriculum Learning Meets Directed Acyclic Graph for Multimodal Emotion Recognition, LREC-COLING
2024, after Yang et al., Hybrid Curriculum Learning for Emotion Recognition in Conversation, AAAI 2022:

    difficulty = (shifts + speakers) / (utterances + speakers)

Sorted by it, dialogues are cut into as many buckets as are asked for. The first epoch trains on the easiest bucket,
every further one on another bucket as well ("baby steps"), until all are in; within an epoch the order is drawn.
"""

from dataclasses import dataclass

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
        buckets: into which the train dialogues are cut, and so the first epoch that trains on all of them.
    """

    buckets: int = Field(ge=2)


def difficulty(split: DialogueSplit) -> Tensor:
    """Of each dialogue, float64 [K], above 0 and at most 1.

    A shift is a labelled utterance whose emotion differs from that of its speaker's labelled utterance before.
    Unlabelled utterances are not counted, their speakers are; a dialogue without any label is thus as hard as can be
    and comes last.
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
    shifts_K = torch.bincount(owners[after[shifted]], minlength=len(split.lengths))
    utterances_K = torch.bincount(owners[labelled], minlength=len(split.lengths))
    return (shifts_K + speakers_K).double() / (utterances_K + speakers_K)


@dataclass(frozen=True)
class Lessons:
    """Which dialogues each epoch trains on.

    Attributes:
        easiest_first: long [K], places in the split; of equally hard dialogues the one that comes first in the split.
        buckets: how many.
    """

    easiest_first: Tensor
    buckets: int

    @classmethod
    def of(cls, split: DialogueSplit, settings: Curriculum) -> "Lessons":
        """Sorts the dialogues of a split.

        Raises:
            BadSettings: if there are fewer dialogues than buckets, or all are equally hard, as dialogues of one
                utterance are.
        """
        if len(split.lengths) < settings.buckets:
            raise BadSettings(
                f"curriculum.buckets is {settings.buckets}, but there are only {len(split.lengths)} train dialogues;"
                " use at most that many buckets"
            )
        hard_K = difficulty(split)
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
        """The dialogues of an epoch, which counts from 1; long [at most K], easiest first."""
        last = -(
            -len(self.easiest_first) * min(epoch, self.buckets) // self.buckets
        )  # rounded up, so that no bucket is empty
        return self.easiest_first[:last]
