"""Keys of a user's recipe that an addition changes were reported as overridden: the recipe could not be used with any
addition that has one of its keys.
"""

import pytest

from merc.errors import BadSettings
from merc.params import Params
from merc.training.recipes.resolution import resolve


def test_an_addition_overrides_a_recipe_of_params_yaml() -> None:
    params = Params(
        {
            "recipes": {
                "mine": {"base": "mmgcn", "batch_dialogues": 2, "losses": {"cross_entropy": {"unimodal_weight": 0.5}}}
            }
        }
    )
    found = resolve(params, "mine+dclf")
    params.check_overrides()
    assert (found.recipe.batch_dialogues, found.losses[0].config.unimodal_weight) == (8, 1.0)


def test_what_an_addition_overrides_elsewhere_or_on_the_command_line_is_an_error_still() -> None:
    for params in (
        Params({"losses": {"cross_entropy": {"unimodal_weight": 0.5}}}),
        Params({}).with_overrides(recipes__mmgcn__batch_dialogues=2),
    ):
        resolve(params, "mmgcn+dclf")
        with pytest.raises(
            BadSettings, match=r"has no effect, since merc/training/recipes/additions/dclf\.yaml overrides it"
        ):
            params.check_overrides()


def test_a_loss_that_is_only_named_gets_the_keys_of_an_addition() -> None:
    """An empty block is filled in, not overridden."""
    for params in (
        Params({"recipes": {"mmgcn": {"losses": {"focal": {}}}}}),
        Params({}).with_overrides(recipes__mmgcn__losses__focal={}),
    ):
        found = resolve(params, "mmgcn+focal")
        params.check_overrides()
        assert [(term.name, term.weight) for term in found.losses] == [("focal", 1.0)]
