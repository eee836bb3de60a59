"""Dialogues of a split → padded batches, by one gather per tensor and no loop over utterances.

The indices of rows are computed on the CPU, where the bounds of the dialogues and the labels are known; a GPU receives
the indices and gathers, and the host does not wait for it.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from merc.training.data.batch import UNLABELLED, DialogueBatch
from merc.training.data.dataset import DialogueSplit

# Number of dialogues scored at once. Affects only speed and memory: a prediction does not depend on the rest of its
# batch.
EVALUATION_DIALOGUES = 64
# The same for models that read sequences, which need as much memory for one utterance as others for many.
EVALUATION_DIALOGUES_OF_SEQUENCES = 8


def collate(split: DialogueSplit, chosen: Tensor) -> DialogueBatch:
    """Pads dialogues to the longest among them.

    Args:
        split: split of the dialogues.
        chosen: long [B] on the CPU; places of the dialogues in the split, in the order of the batch.
    """
    device = split.labels.device
    lengths_B = split.lengths[chosen]
    steps_T = torch.arange(int(lengths_B.max()))
    mask_BT = steps_T < lengths_B[:, None]
    rows_BT = torch.where(mask_BT, split.starts[chosen, None] + steps_T, split.utterances)
    index_BT = rows_BT.masked_fill(~mask_BT, -1)
    labelled_BT = split.labels_cpu[rows_BT] != UNLABELLED
    gathered = {
        name: sequences.gathered(rows_BT[mask_BT]) for name, sequences in split.sequences.items()
    }  # on the CPU, where they are memory-mapped
    there = {
        name: _sent(tensor, device)
        for name, tensor in {"rows": rows_BT, "index": index_BT, "lengths": lengths_B, "chosen": chosen}.items()
    }
    batch = DialogueBatch(
        features={name: values_ND[there["rows"]] for name, values_ND in split.features.items()},
        modality_mask={name: present_N[there["rows"]] for name, present_N in split.present.items()},
        utterance_mask=there["index"] >= 0,
        speakers=split.speakers[there["rows"]],
        labels=split.labels[there["rows"]],
        lengths=there["lengths"],
        dialogue_index=there["chosen"],
        utterance_index=there["index"],
        dialogue_ids=tuple(split.dialogue_ids[index] for index in chosen.tolist()),
        scenario_ids=None
        if split.scenario_ids is None
        else tuple(split.scenario_ids[index] for index in chosen.tolist()),
        neighbours=None if split.neighbours is None else _sent(split.neighbours[chosen], device),
        neighbour_similarity=None
        if split.neighbour_similarity is None
        else _sent(split.neighbour_similarity[chosen], device),
        sequences={name: _sent(values_NLD, device).float() for name, (values_NLD, _) in gathered.items()},
        sequence_mask={name: _sent(mask_NL, device) for name, (_, mask_NL) in gathered.items()},
    )
    return batch.knowing(
        real_positions=_sent(mask_BT.flatten().nonzero().squeeze(1), device),
        labelled_positions=_sent(labelled_BT.flatten().nonzero().squeeze(1), device),
        lengths_cpu=lengths_B,
        speakers_cpu=split.speakers_cpu[rows_BT],
        dialogue_index_cpu=chosen,
        utterance_index_cpu=index_BT,
    )


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; from pinned memory, so that the host does not wait for a GPU."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def shuffled_batches(
    split: DialogueSplit, batch_dialogues: int, generator: torch.Generator, places: Tensor | None = None
) -> Iterator[DialogueBatch]:
    """One epoch: every dialogue once, or those at ``places``, in an order drawn from ``generator``; the last batch may
    be smaller.
    """
    order = torch.randperm(len(split.dialogue_ids) if places is None else len(places), generator=generator)
    for chosen in torch.split(order if places is None else places[order], batch_dialogues):
        yield collate(split, chosen)


def neighbour_batches(
    split: DialogueSplit, batch_dialogues: int, per_dialogue: int, generator: torch.Generator
) -> Iterator[DialogueBatch]:
    """One epoch in which dialogues are batched with their neighbours: every dialogue is an anchor once, and brings some
    of its neighbours.

    A batch contains no dialogue twice: its anchors first, then the neighbours that are not anchors, in the order of the
    split. The losses treat them equally, so a dialogue is trained on once as an anchor and again whenever it is drawn
    as a neighbour.

    Args:
        split: split with neighbours.
        batch_dialogues: anchors of a batch; it may hold (1 + ``per_dialogue``) times as many dialogues.
        per_dialogue: number of neighbours drawn for each anchor, without replacement; all, if it has fewer.
        generator: seeded, on the CPU.
    """
    if split.neighbours is None:
        raise ValueError("the split was read without neighbours")
    order = torch.randperm(len(split.dialogue_ids), generator=generator)
    for anchors_A in torch.split(order, batch_dialogues):
        near_AK = split.neighbours[anchors_A]
        chance_AK = torch.rand(near_AK.shape, generator=generator).masked_fill(near_AK < 0, -1.0)
        drawn = torch.unique(near_AK.gather(1, chance_AK.topk(min(per_dialogue, near_AK.shape[1])).indices))
        yield collate(split, torch.cat([anchors_A, drawn[(drawn >= 0) & ~torch.isin(drawn, anchors_A)]]))


def evaluation_batches(split: DialogueSplit) -> Iterator[DialogueBatch]:
    """Every dialogue once, with those of similar length together, which keeps padding small."""
    order = torch.argsort(split.lengths, stable=True)
    for chosen in torch.split(order, EVALUATION_DIALOGUES_OF_SEQUENCES if split.sequences else EVALUATION_DIALOGUES):
        yield collate(split, chosen)
