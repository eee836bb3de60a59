"""What every shipped encoder promises; a new file in ``pipeline/merc/encoders`` is tested here automatically."""

import re

import pytest

from merc import plugins
from merc.encoders.engine import registry
from merc.encoders.engine.base import Encoder
from merc.layout import MODALITIES
from merc.params import Params

EVERY = [(modality, name) for modality in MODALITIES for name in registry.names(Params({}), modality)]
IDS = [f"{modality}={name}" for modality, name in EVERY]
every_encoder = pytest.mark.parametrize(("modality", "name"), EVERY, ids=IDS)
with_a_checkpoint = pytest.mark.parametrize(
    ("modality", "name"),
    [one for one in EVERY if hasattr(registry.choose(Params({}), *one).config, "repo")],
    ids=lambda part: part,
)


@every_encoder
def test_it_is_an_encoder_of_its_modality(modality: str, name: str) -> None:
    chosen = registry.choose(Params({}), modality, name)
    assert modality == chosen.kind.MODALITY
    assert chosen.kind is plugins.load(f"merc.encoders.{modality}", chosen.config.family, Encoder)
    assert chosen.config.model_validate(chosen.config.model_dump()) == chosen.config


@pytest.mark.parametrize("modality", MODALITIES)
def test_every_family_has_an_encoder_and_every_file_a_family(modality: str) -> None:
    shelf = registry._shelf(modality)
    assert set(shelf.shipped()) <= set(registry.names(Params({}), modality))
    used = {registry.choose(Params({}), modality, name).config.family for name in shelf.names(Params({}))}
    assert used == set(plugins.names(shelf.package, Encoder))


@with_a_checkpoint
def test_its_checkpoint_is_pinned_and_described(modality: str, name: str) -> None:
    config = registry.choose(Params({}), modality, name).config.model_dump()
    assert re.fullmatch("[0-9a-f]{40}", config["revision"]) or config["made_by"].startswith("merc-adapt ")
    assert not (config["revision"] and config.get("made_by"))
    assert config["dim"] > 0
    assert config["megabytes"] > 0
    assert config["licence"]
    assert re.match("none known|.*(IEMOCAP|MELD)", config["training_data_overlap"])
