"""Dialogues of a split → padded batches, by one gather per tensor and no loop over utterances."""

from collections.abc import Iterator

import torch
from torch import Tensor

from pipeline.training.batch import DialogueBatch
from pipeline.training.dataset import DialogueSplit

# Dialogues scored at once. Changes nothing but speed and memory: a prediction does not depend on its batch mates.
EVALUATION_DIALOGUES = 64


def collate(split: DialogueSplit, chosen: Tensor) -> DialogueBatch:
    """Pads dialogues to the longest among them.

    Args:
        split: where they are.
        chosen: long [B] on the CPU; places of the dialogues in the split, in the order of the batch.
    """
    device = split.labels.device
    chosen_B = chosen.to(device)
    lengths_B = split.lengths[chosen_B]
    steps_T = torch.arange(int(lengths_B.max()), device=device)
    mask_BT = steps_T < lengths_B[:, None]
    rows_BT = torch.where(mask_BT, split.starts[chosen_B, None] + steps_T, split.utterances)
    return DialogueBatch(
        features={name: values_ND[rows_BT] for name, values_ND in split.features.items()},
        modality_mask={name: present_N[rows_BT] for name, present_N in split.present.items()},
        utterance_mask=mask_BT,
        speakers=split.speakers[rows_BT],
        labels=split.labels[rows_BT],
        lengths=lengths_B,
        dialogue_index=chosen_B,
        utterance_index=rows_BT.masked_fill(~mask_BT, -1),
        dialogue_ids=tuple(split.dialogue_ids[index] for index in chosen.tolist()),
        scenario_ids=None if split.scenario_ids is None else tuple(split.scenario_ids[index] for index in chosen.tolist()),
    )


def shuffled_batches(split: DialogueSplit, batch_dialogues: int, generator: torch.Generator) -> Iterator[DialogueBatch]:
    """One epoch: every dialogue once, in an order drawn from ``generator``; the last batch may be smaller."""
    order = torch.randperm(len(split.dialogue_ids), generator=generator)
    for chosen in torch.split(order, batch_dialogues):
        yield collate(split, chosen)


def evaluation_batches(split: DialogueSplit) -> Iterator[DialogueBatch]:
    """Every dialogue once, those of like length together, which keeps the padding small."""
    order = torch.argsort(split.lengths.cpu(), stable=True)
    for chosen in torch.split(order, EVALUATION_DIALOGUES):
        yield collate(split, chosen)
