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


def test_the_published_settings_of_both_corpora():
    """What the sheets of the three systems have, where they differ between the corpora."""
    found = {}
    for base in MODELS:
        for name in (base, f"{base}_iemocap"):
            plan = resolve(PARAMS, name)
            recipe, config, loss = plan.recipe, plan.model_config, plan.losses[0]
            own = {"dialogue_rnn": "state_units", "mm_dfn": "party_weights", "aghmn": "window"}[base]
            found[name] = (getattr(config, own), loss.name, loss.config.class_weights, recipe.optimizer.learning_rate, recipe.epochs, recipe.batch_dialogues)
    weights = {name: (row[0].audio, row[0].visual, row[0].text) for name, row in found.items() if name.startswith("mm_dfn")}
    assert weights == {"mm_dfn": (0.5, 0.5, 1.5), "mm_dfn_iemocap": (3.0, 0.0, 1.0)}
    assert {name: row[name.startswith("mm_dfn") :] for name, row in found.items()} == {
        "dialogue_rnn": (150, "cross_entropy", "none", 5e-4, 100, 30),
        "dialogue_rnn_iemocap": (500, "cross_entropy", "inverse", 1e-4, 60, 30),
        "mm_dfn": ("focal", "none", 5e-4, 30, 32),
        "mm_dfn_iemocap": ("focal", "inverse", 3e-4, 30, 32),
        "aghmn": (10, "cross_entropy", "inverse_sqrt", 5e-4, 20, 1),
        "aghmn_iemocap": (40, "cross_entropy", "none", 5e-4, 60, 1),
    }
