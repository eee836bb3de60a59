"""Scores with the context replaced: does a model read the emotions of a conversation, or its words?

Every labelled utterance gets a dialogue of its own, in which it and the sequence of speakers stay and the other utterances are replaced, as a whole with all
their modalities, by utterances of other dialogues of the same split (an idea of Zhang and Song, 2022; Xie et al., DCLF, COLING 2025, Table 6):

    ``eccs``      by one of the same emotion
    ``eics``      by one of another emotion than that of the utterance replaced
    ``identity``  by itself, which gives the score on the split as it is

A context utterance stays where it has no label, or where no other dialogue has a fitting one. The labels choose the replacements and are shown to no model.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from merc.training.data.batch import UNLABELLED
from merc.training.data.dataset import DialogueSplit

Kind = Literal["eccs", "eics", "identity"]
KINDS = ("eccs", "eics", "identity")

Rows = NDArray[np.int64]


def substituted_predictions(split: DialogueSplit, predict: Callable[[DialogueSplit], Tensor], kind: Kind, *, causal: bool, seed: int) -> NDArray[np.int64]:
    """What a model predicts for every labelled utterance in its replaced context.

    Args:
        split: with N utterances.
        predict: logits [N', C] of all utterances of a split, in order, such as ``merc.training.loop.trainer.predict`` with a model.
        kind: see the head of the module.
        causal: replace earlier utterances alone; for models that see no others.
        seed: of the draws.

    Returns:
        [N] class indices, -1 for unlabelled utterances.

    Raises:
        ValueError: if there is no such kind.
    """
    predicted = np.full(split.utterances, UNLABELLED, dtype=np.int64)
    for substituted, targets in substituted_splits(split, kind, causal=causal, seed=seed):
        chosen = substituted.labels[:-1].cpu().numpy() != UNLABELLED
        predicted[targets] = predict(substituted).argmax(dim=1).cpu().numpy()[chosen]
    return predicted


def substituted_splits(split: DialogueSplit, kind: Kind, *, causal: bool, seed: int) -> Iterator[tuple[DialogueSplit, Rows]]:
    """For each dialogue with a label, a split of as many copies of it as it has labelled utterances.

    Args:
        split: as it is.
        kind: see the head of the module.
        causal: replace earlier utterances alone.
        seed: of the draws.

    Yields:
        Splits in which copy i's one labelled utterance is the dialogue's i-th labelled one and the others are replaced, and [copies] these utterances' rows
        in the original split.

    Raises:
        ValueError: if there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"no kind named {kind!r}; valid: {', '.join(KINDS)}")
    rng = np.random.default_rng(seed)
    labels = split.labels[:-1].cpu().numpy()
    for place, (start, length) in enumerate(zip(split.starts.tolist(), split.lengths.tolist(), strict=True)):
        own = np.arange(start, start + length)
        targets = own[labels[own] != UNLABELLED]
        if not len(targets):
            continue
        rows_CT = np.tile(own, (len(targets), 1))
        if kind != "identity":
            is_context_CT = (own < targets[:, None]) if causal else (own != targets[:, None])
            rows_CT = np.where(is_context_CT, _replacements(labels, own, len(targets), kind, rng), rows_CT)
        yield _copies(split, place, rows_CT, own == targets[:, None]), targets


def _replacements(labels: Rows, own: Rows, copies: int, kind: Kind, rng: np.random.Generator) -> Rows:
    """[copies, T]: a row drawn for every utterance of a dialogue, from labelled ones of other dialogues; its own where none fits."""
    outside = np.flatnonzero(labels != UNLABELLED)
    outside = outside[(outside < own[0]) | (outside > own[-1])]
    pool = outside[np.argsort(labels[outside], kind="stable")]  # class after class
    # Of its emotion's block in the pool: where it begins and how long it is.
    begins_T, ends_T = (np.searchsorted(labels[pool], labels[own], side=side) for side in ("left", "right"))
    n_same_T = ends_T - begins_T
    n_fitting_T = n_same_T if kind == "eccs" else len(pool) - n_same_T
    drawn_CT = (rng.random((copies, len(own))) * n_fitting_T).astype(np.int64)
    if kind == "eccs":
        drawn_CT += begins_T
    else:
        drawn_CT += np.where(drawn_CT >= begins_T, n_same_T, 0)  # step over the block
    stays_T = (labels[own] == UNLABELLED) | (n_fitting_T == 0)
    if stays_T.all():
        return np.tile(own, (copies, 1))
    return np.where(stays_T, own, pool[np.where(stays_T, 0, drawn_CT)])


def _copies(split: DialogueSplit, place: int, rows_CT: Rows, is_target_CT: NDArray[np.bool_]) -> DialogueSplit:
    """A split of copies of the dialogue at ``place``: the features of the given rows, its own speakers, and a label at each copy's target alone."""
    copies, length = rows_CT.shape
    device = split.labels.device
    rows = torch.from_numpy(np.append(rows_CT.ravel(), split.utterances)).to(device)  # and the row of padding
    own = torch.arange(length, device=device) + int(split.starts[place])
    padding = torch.tensor([split.utterances], device=device)
    labels = split.labels[rows].masked_fill(torch.from_numpy(np.append(~is_target_CT.ravel(), True)).to(device), UNLABELLED)
    ids = [split.utterance_ids[row] for row in own.tolist()]
    return replace(
        split,
        features={name: values_ND[rows] for name, values_ND in split.features.items()},
        present={name: present_N[rows] for name, present_N in split.present.items()},
        labels=labels,
        speakers=split.speakers[torch.cat([own.repeat(copies), padding])],
        starts=torch.arange(copies, device=split.starts.device) * length,
        lengths=torch.full((copies,), length, device=split.lengths.device),
        dialogue_ids=tuple(f"{split.dialogue_ids[place]}/{copy}" for copy in range(copies)),
        scenario_ids=None if split.scenario_ids is None else (split.scenario_ids[place],) * copies,
        utterance_ids=tuple(f"{one}/{copy}" for copy in range(copies) for one in ids),
    )
