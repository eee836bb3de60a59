"""A step of recipes of params.yaml with their published sizes, alone and with what goes over any model."""

from pathlib import Path

import pytest
import torch

from pipeline.params import Params
from pipeline.training.collate import collate
from pipeline.training.recipe import resolve
from pipeline.training.trainer import _Training

PARAMS = Params.load(Path(__file__).resolve().parents[2] / "params.yaml")
EMOTIONS = [[0, 1, 1, 2, 0], [2, 1, 1, 2], [0, -1, 1], [1], [1, 1, 2, 0, 1, 1]]
MODELS = ("dialogue_rnn", "mm_dfn", "aghmn")


@pytest.mark.parametrize("addition", ["", "_iemocap", "+dclf@text", "+idcl", "+dclf+idcl@audio-visual"])
@pytest.mark.parametrize("base", MODELS)
def test_every_term_of_the_loss_counts_and_trains_the_model(make_split, base, addition):
    plan = resolve(PARAMS, base + addition)
    split = make_split(EMOTIONS, modalities=plan.recipe.modalities)
    training = _Training(plan, split, 3, 0, torch.device("cpu"))
    for loss in training.losses:
        loss.begin_epoch(0, training.model, training.generator)
    before = {name: weight.detach().clone() for name, weight in training.model.named_parameters()}
    terms_L = training.step(collate(split, torch.arange(5)), 1)
    assert terms_L.isfinite().all()
    assert terms_L.all()
    moved = {name for name, weight in training.model.named_parameters() if not torch.equal(weight, before[name])}
    encoders = {name for name in before if "projections" in name and name.endswith("linear.weight")}
    assert len(encoders) == len(plan.recipe.modalities)
    assert encoders <= moved


def test_the_forward_half_is_causal():
    plans = {name: resolve(PARAMS, name) for name in ("dialogue_rnn", "dialogue_rnn_forward")}
    assert {name: plan.build({"text": 3}, 2).causal for name, plan in plans.items()} == {"dialogue_rnn": False, "dialogue_rnn_forward": True}
