"""A step of recipes of params.yaml with their published sizes, alone and with what goes over any model."""

from pathlib import Path

import pytest

from merc.params import Params
from merc.training.recipes.resolution import resolve

PARAMS = Params.load(Path(__file__).resolve().parents[2] / "params.yaml")
MODELS = ("dialogue_rnn", "mm_dfn", "aghmn")


@pytest.mark.parametrize("addition", ["", "_iemocap", "+dclf@text", "+idcl", "+dclf+idcl@audio-visual"])
@pytest.mark.parametrize("base", MODELS)
def test_every_term_of_the_loss_counts_and_trains_the_model(one_step, base, addition):
    terms_L, moved = one_step(base + addition)
    assert terms_L.isfinite().all()
    assert terms_L.all()
    encoders = {name for name in moved if "projections" in name and name.endswith("linear.weight")}
    assert len(encoders) == len(resolve(PARAMS, base + addition).recipe.modalities)


def test_the_forward_half_is_causal():
    plans = {name: resolve(PARAMS, name) for name in ("dialogue_rnn", "dialogue_rnn_forward")}
    assert {name: plan.build({"text": 3}, 2).causal for name, plan in plans.items()} == {"dialogue_rnn": False, "dialogue_rnn_forward": True}
