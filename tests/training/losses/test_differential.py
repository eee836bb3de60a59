"""The differential regulariser compared with loops over layers, dialogues and numbers."""

import math

import pytest
import torch

from merc.errors import BadSettings
from merc.training.losses.differential import Differential, DifferentialLoss
from merc.training.losses.engine.base import TrainingFacts
from merc.training.models.engine.base import Gives


def slowly(short, long):
    """One layer: dialogues as lists of utterances, which are lists of numbers."""
    directions = []
    for dialogues in (short, long):
        rows = []
        for dialogue in dialogues:
            row = []
            for place, vector in enumerate(dialogue):
                others = [other[place] for other in dialogues if len(other) > place]
                row += [value - sum(other[d] for other in others) / len(others) for d, value in enumerate(vector)]
            length = math.sqrt(sum(value * value for value in row))
            rows.append([value / (length + 1e-6) for value in row])
        directions.append(rows)
    distances = [math.dist(s, f) for s, f in zip(*directions, strict=True)]
    mean = sum(distances) / len(distances)
    return 1 / mean if mean else 0.0


@pytest.mark.parametrize("lengths", [[3, 3, 3], [5, 1, 4, 2], [2, 2], [4]])
def test_it_is_the_loop_over_layers_and_dialogues(lengths):
    generator = torch.Generator().manual_seed(0)
    shape = (len(lengths), max(lengths) + 1)
    mask = torch.arange(shape[1]) < torch.tensor(lengths)[:, None]
    short, long = (
        {
            f"layer {number}": torch.randn(*shape, width, generator=generator, dtype=torch.float64).requires_grad_()
            for number, width in enumerate((3, 2), start=1)
        }
        for _ in range(2)
    )
    expected = sum(
        slowly(*([one[:n].tolist() for one, n in zip(branch[name], lengths, strict=True)] for branch in (short, long)))
        for name in short
    )
    value = DifferentialLoss()(short, long, mask=mask)
    assert value.item() == pytest.approx(expected, abs=1e-12)
    value.backward()
    for values in (*short.values(), *long.values()):
        assert values.grad.isfinite().all()
        assert values.grad.any() == (len(lengths) > 1)
        assert not values.grad[~mask].any()


def test_opposite_branches_cost_half_and_equal_ones_nothing():
    values = {"layer 1": torch.tensor([[[1.0, 2.0]], [[-3.0, 1.0]]])}
    opposite = {name: -value for name, value in values.items()}
    loss, mask = DifferentialLoss(), torch.ones(2, 1, dtype=torch.bool)
    assert loss(values, opposite, mask=mask).item() == pytest.approx(0.5, abs=1e-5)
    assert loss(values, values, mask=mask).item() == 0.0


def test_the_nearer_the_branches_the_more_they_cost():
    generator = torch.Generator().manual_seed(1)
    short, noise = (torch.randn(4, 3, 5, generator=generator) for _ in range(2))
    loss, mask = DifferentialLoss(), torch.ones(4, 3, dtype=torch.bool)
    far, near = (loss({"layer 1": short}, {"layer 1": short + much * noise}, mask=mask) for much in (1.0, 0.1))
    assert near > far > 0.5


def test_branches_of_different_shapes_are_refused():
    short, long = torch.zeros(2, 3, 4), torch.zeros(2, 3, 5)
    with pytest.raises(ValueError, match=r"the same layers and shapes, not \{'layer 1': \(2, 3, 4\)\} and \{'layer 1'"):
        DifferentialLoss()({"layer 1": short}, {"layer 1": long}, mask=torch.ones(2, 3, dtype=torch.bool))


def test_a_model_without_such_branches_is_refused():
    facts = TrainingFacts(class_counts=torch.ones(3), gives=Gives(hidden=4, unimodal={"text": 4}))
    with pytest.raises(BadSettings, match="differential compares branches over short and long distances"):
        Differential(Differential.Config(), facts)
