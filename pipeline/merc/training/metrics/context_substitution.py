"""Scores with the context replaced: does a model use the emotions of a conversation, or its words?

Every labelled utterance gets a copy of its dialogue, in which it and the sequence of speakers are kept and the other
utterances are replaced, with all their modalities, by utterances of other dialogues of the same split (an idea of Zhang
and Song, 2022; Xie et al., DCLF, COLING 2025, Table 6):

    ``eccs``      by one of the same emotion
    ``eics``      by one of another emotion than that of the utterance replaced
    ``identity``  by itself, which gives the score on the unchanged split

A context utterance is kept if it has no label, or if no other dialogue has a suitable one. The labels only choose the
replacements and are not shown to the model.

MELD's test split becomes 2,610 dialogues. They are grouped by length into splits of a few thousand utterances, which a
model scores in 42 batches.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
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

# Number of utterances of a split made here: for MELD's test split, 33,000 with vectors of 2,000 numbers would take 270
# MB at once.
_UTTERANCES = 8192


def substituted_logits(
    split: DialogueSplit, predict: Callable[[DialogueSplit], Tensor], kind: Kind, *, causal: bool, seed: int
) -> Tensor:
    """A model's output for every labelled utterance in its replaced context.

    Args:
        split: a split with N utterances.
        predict: logits [N', C] of all utterances of a split, in order, such as ``merc.training.loop.trainer.predict``
            with a model.
        kind: see the head of the module.
        causal: replace only earlier utterances; for models that see no others.
        seed: seed of the draws.

    Returns:
        [N, C] on the CPU, zeros for unlabelled utterances.

    Raises:
        ValueError: if there is no such kind, or nothing is labelled.
    """
    logits: Tensor | None = None
    for substituted, targets in substituted_splits(split, kind, causal=causal, seed=seed):
        found = predict(substituted).cpu()[substituted.labelled.cpu()]
        if logits is None:
            logits = found.new_zeros(split.utterances, found.shape[1])
        logits[torch.from_numpy(targets)] = found
    if logits is None:
        raise ValueError("nothing is labelled")
    return logits


def substituted_splits(
    split: DialogueSplit, kind: Kind, *, causal: bool, seed: int
) -> Iterator[tuple[DialogueSplit, Rows]]:
    """Splits of rebuilt dialogues, one dialogue for each labelled utterance, shortest first.

    Args:
        split: the original split.
        kind: see the head of the module.
        causal: replace only earlier utterances.
        seed: seed of the draws.

    Yields:
        A split of M dialogues, in each of which only one utterance, the target, is labelled and the others are
        replaced; and [M] the targets' rows in the original split.

    Raises:
        ValueError: if there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"no kind named {kind!r}; valid: {', '.join(KINDS)}")
    rng = np.random.default_rng(seed)
    labels = split.labels[:-1].cpu().numpy()
    bounds = zip(split.starts.tolist(), split.lengths.tolist(), strict=True)
    rebuilt = [
        one for start, length in bounds for one in _rebuilt(labels, np.arange(start, start + length), kind, causal, rng)
    ]
    rebuilt.sort(key=lambda one: len(one.rows))  # stable: equally long ones stay in order
    ends = np.cumsum([len(one.rows) for one in rebuilt])
    for _, some in groupby(zip(rebuilt, ends, strict=True), key=lambda pair: int(pair[1] - 1) // _UTTERANCES):
        chosen = [one for one, _ in some]
        yield _split_of(split, chosen), np.array([one.target for one in chosen])


@dataclass(frozen=True)
class _Rebuilt:
    """A dialogue of T utterances: its own rows, the rows that replace them, and the target's."""

    own: Rows
    rows: Rows
    target: int


def _rebuilt(labels: Rows, own: Rows, kind: Kind, causal: bool, rng: np.random.Generator) -> Iterator[_Rebuilt]:
    """The copies of a dialogue, one for each of its labelled utterances."""
    targets = own[labels[own] != UNLABELLED]
    rows_CT = np.tile(own, (len(targets), 1))
    if kind != "identity" and len(targets):
        is_context_CT = (own < targets[:, None]) if causal else (own != targets[:, None])
        rows_CT = np.where(is_context_CT, _replacements(labels, own, len(targets), kind, rng), rows_CT)
    return (_Rebuilt(own, rows, int(target)) for rows, target in zip(rows_CT, targets, strict=True))


def _replacements(labels: Rows, own: Rows, copies: int, kind: Kind, rng: np.random.Generator) -> Rows:
    """[copies, T]: a row drawn for every utterance of a dialogue, from labelled ones of other dialogues; its own if
    none is suitable.
    """
    outside = np.flatnonzero(labels != UNLABELLED)
    outside = outside[(outside < own[0]) | (outside > own[-1])]
    pool = outside[np.argsort(labels[outside], kind="stable")]  # class after class
    # Start and length of its emotion's block in the pool.
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


def _split_of(split: DialogueSplit, rebuilt: Sequence[_Rebuilt]) -> DialogueSplit:
    """A split of rebuilt dialogues: the features of the given rows, the original speakers, and labels only at the
    targets.
    """
    own, taken = (
        np.append(np.concatenate([getattr(one, name) for one in rebuilt]), split.utterances) for name in ("own", "rows")
    )  # and the row of padding
    lengths = torch.tensor([len(one.rows) for one in rebuilt])
    is_target = np.append(np.concatenate([one.own == one.target for one in rebuilt]), False)
    on_device = torch.from_numpy(taken).to(split.labels.device)
    places = np.searchsorted(split.starts.numpy(), [one.target for one in rebuilt], side="right") - 1
    return replace(
        split,
        features={name: values_ND[on_device] for name, values_ND in split.features.items()},
        present={name: present_N[on_device] for name, present_N in split.present.items()},
        labels=split.labels[on_device].masked_fill(torch.from_numpy(~is_target).to(split.labels.device), UNLABELLED),
        speakers=split.speakers[torch.from_numpy(own).to(split.speakers.device)],
        identities=split.identities[on_device],
        starts=lengths.cumsum(0) - lengths,
        lengths=lengths,
        dialogue_ids=tuple(
            f"{split.dialogue_ids[place]}/{split.utterance_ids[one.target]}"
            for place, one in zip(places, rebuilt, strict=True)
        ),
        scenario_ids=None if split.scenario_ids is None else tuple(split.scenario_ids[place] for place in places),
        utterance_ids=tuple(
            f"{split.utterance_ids[one.target]}/{split.utterance_ids[row]}" for one in rebuilt for row in one.own
        ),
        neighbours=None,
        neighbour_similarity=None,
        sequences={name: sequences.of(torch.from_numpy(taken)) for name, sequences in split.sequences.items()},
    )
