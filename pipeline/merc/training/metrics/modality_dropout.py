"""A split as if audio, faces or text of some utterances were missing: zeros with ``present`` false, as in the shards.

Utterances dropped at one rate are also dropped at every higher one, and a modality's dropped utterances do not depend
on other modalities' rates.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from merc.layout import MODALITIES
from merc.training.data.dataset import DialogueSplit
from merc.training.data.sequences import Sequences


def without_modalities(split: DialogueSplit, rates: Mapping[str, float], seed: int) -> DialogueSplit:
    """The split with some modalities of some utterances removed.

    Args:
        split: the original split.
        rates: modality → share, 0 to 1, of its utterances that lose it, rounded to whole utterances.
        seed: determines which.

    Raises:
        ValueError: if the split lacks a modality, or a rate is not a share.
    """
    dropped = {name: _dropped(split, name, rate, seed) for name, rate in rates.items()}
    return replace(
        split,
        features=split.features
        | {
            name: split.features[name].masked_fill(gone[:, None].to(split.labels.device), 0.0)
            for name, gone in dropped.items()
        },
        present=split.present
        | {name: split.present[name] & ~gone.to(split.labels.device) for name, gone in dropped.items()},
        sequences={
            name: _silenced(sequences, dropped[name]) if name in dropped else sequences
            for name, sequences in split.sequences.items()
        },
    )


def _dropped(split: DialogueSplit, name: str, rate: float, seed: int) -> Tensor:
    """bool [N + 1] on the CPU."""
    if name not in split.features or not 0 <= rate <= 1:
        raise ValueError(f"{name} at a rate of {rate}; modalities: {', '.join(split.features)}, rates: 0 to 1")
    present = np.flatnonzero(split.present[name].cpu().numpy())
    order = np.random.default_rng((seed, MODALITIES.index(name))).permutation(len(present))
    gone = torch.zeros(split.utterances + 1, dtype=torch.bool)
    gone[torch.from_numpy(present[order[: round(rate * len(present))]])] = True
    return gone


def _silenced(sequences: Sequences, gone: Tensor) -> Sequences:
    return Sequences(sequences.values, sequences.starts.masked_fill(gone, 0), sequences.counts.masked_fill(gone, 0))
