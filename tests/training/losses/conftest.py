"""Shared by the tests of the losses: an output for a batch, facts, and a guard against operations that make the host
wait for a GPU.
"""

import contextlib

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from merc.training.data.batch import DialogueBatch
from merc.training.losses.engine.base import TrainingFacts
from merc.training.models.engine.base import Gives, MERCOutput

# Operations that need values, or the number of Trues, before they can continue.
WAITING = {
    "aten::nonzero",
    "aten::_local_scalar_dense",
    "aten::item",
    "aten::masked_select",
    "aten::unique_dim",
    "aten::_unique2",
    "aten::equal",
}


class _Watch(TorchDispatchMode):
    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation.name().split(".")[0]
        indexed_by_bools = name in ("aten::index", "aten::index_put_") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        assert name not in WAITING, f"{name} makes the host wait for a GPU"
        assert not indexed_by_bools, f"{name} with bool tensors makes the host wait for a GPU"
        return operation(*args, **(kwargs or {}))


@pytest.fixture
def no_waiting(monkeypatch):
    """A context in which nothing may read a tensor's values on the host; given a batch, it first works out the batch's
    positions.
    """

    @contextlib.contextmanager
    def watch(batch=None):
        if batch is not None:
            for name in ("real_positions", "labelled_positions"):
                monkeypatch.setattr(DialogueBatch, name, getattr(batch, name))
        with _Watch():
            yield

    return watch


@pytest.fixture
def facts():
    return TrainingFacts(
        class_counts=torch.tensor([60.0, 30.0, 10.0]),
        gives=Gives(hidden=6, unimodal={"text": 4, "audio": 5, "visual": 3}, aligned=4),
    )


@pytest.fixture
def make_output(facts):
    """A possible output of a model for a batch: random, the same for an utterance however the batch is padded; float32
    leaves that require gradients.
    """

    def make(batch, seed=0):
        generator = torch.Generator().manual_seed(seed)
        steps = 32
        assert batch.labels.shape[1] <= steps

        def leaf(width):
            drawn = torch.randn(len(batch.lengths), steps, width, generator=generator)
            return drawn[:, : batch.labels.shape[1]].clone().requires_grad_()

        return MERCOutput(
            logits=leaf(3),
            hidden=leaf(facts.gives.hidden),
            unimodal={name: leaf(dim) for name, dim in facts.gives.unimodal.items()},
            unimodal_logits={name: leaf(3) for name in facts.gives.unimodal},
            aligned={name: leaf(facts.gives.aligned) for name in facts.gives.unimodal},
            extras={
                "confidence": {
                    name: leaf(1).detach().squeeze(-1).sigmoid().requires_grad_() for name in facts.gives.unimodal
                }
            },
        )

    return make
