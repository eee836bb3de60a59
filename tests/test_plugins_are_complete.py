"""Every plug-in keeps its contract: its own test file, and a block in params.yaml that fills its Config."""

import re
from pathlib import Path
from typing import Any

import pytest

from merc import plugins
from merc.adaptation.config import Config as AdaptationConfig
from merc.corpora.engine.base import CorpusReader
from merc.encoders.engine.base import Encoder
from merc.layout import MODALITIES
from merc.params import Params
from merc.training.frameworks.base import Framework
from merc.training.losses.engine.base import MERCLoss
from merc.training.models.engine.base import MERCModel
from merc.training.recipes.composition import RecipeName
from merc.training.recipes.resolution import resolve

ROOT = Path(__file__).resolve().parents[1]
PARAMS = Params.load(ROOT / "params.yaml")
PACKAGES: dict[str, type[Any]] = {
    "merc.corpora": CorpusReader,
    **{f"merc.encoders.{modality}": Encoder for modality in MODALITIES},
    "merc.training.models": MERCModel,
    "merc.training.frameworks": Framework,
    "merc.training.losses": MERCLoss,
}
ALL = [(package, name, base) for package, base in PACKAGES.items() for name in plugins.names(package, base)]


def _blocks(package: str, name: str) -> list[str]:
    """Dotted keys of the blocks in params.yaml that a plug-in has."""
    folder = package.removeprefix("merc.").removeprefix("training.")
    if folder in ("models", "frameworks", "losses"):
        return [f"{folder}.{name}"]
    field = "reader" if folder == "corpora" else "family"
    return [f"{folder}.{key}" for key, block in PARAMS.get(folder).items() if block[field] == name]


@pytest.mark.parametrize(("package", "name", "base"), ALL, ids=[f"{package}.{name}" for package, name, _ in ALL])
def test_every_plugin_has_a_test_file_and_a_block_that_fills_its_config(package: str, name: str, base: type[Any]) -> None:
    folder = Path(*package.removeprefix("merc.").split("."))
    assert (ROOT / "tests" / folder / f"test_{name}.py").is_file()
    config = plugins.load(package, name, base).Config
    blocks = _blocks(package, name)
    assert blocks
    for block in blocks:
        PARAMS.fill(block, config)


@pytest.mark.parametrize(("package", "base"), PACKAGES.items(), ids=list(PACKAGES))
def test_every_folder_of_plugins_has_some(package: str, base: type[Any]) -> None:
    assert plugins.names(package, base) or base is Framework


@pytest.mark.parametrize("table", ["build", "presets"])
def test_every_encoder_that_params_names_exists(table: str) -> None:
    for encoders in PARAMS.get(table).values():
        for modality, encoder in encoders.items():
            assert encoder in PARAMS.get(f"encoders.{modality}")


def test_every_preset_has_all_modalities_and_the_embedded_one_needs_no_checkpoint() -> None:
    presets = PARAMS.get("presets")
    assert {"embedded", "base", "large"} <= presets.keys()
    assert all(set(encoders) == set(MODALITIES) for encoders in presets.values())
    assert not any("repo" in PARAMS.get(f"encoders.{modality}.{name}") for modality, name in presets["embedded"].items())


@pytest.mark.parametrize("table", ["build", "default_encoders"])
def test_every_dataset_that_params_names_exists(table: str) -> None:
    assert PARAMS.get(table).keys() <= PARAMS.get("corpora").keys()


def test_every_corpus_has_a_default_preset() -> None:
    defaults = PARAMS.get("default_encoders")
    assert defaults.keys() == PARAMS.get("corpora").keys()
    assert set(defaults.values()) <= PARAMS.get("presets").keys()


CHECKPOINTS = [f"encoders.{modality}.{name}" for modality in MODALITIES for name, block in PARAMS.get(f"encoders.{modality}").items() if "repo" in block]


@pytest.mark.parametrize("key", CHECKPOINTS)
def test_every_checkpoint_is_pinned_and_described(key: str) -> None:
    block = PARAMS.get(key)
    assert re.fullmatch("[0-9a-f]{40}", block.get("revision", "")) or block["made_by"].startswith("merc-adapt ")
    assert block["dim"] > 0
    assert block["megabytes"] > 0
    assert block["licence"]
    assert re.match("none known|.*(IEMOCAP|MELD)", block["training_data_overlap"])


@pytest.mark.parametrize("table", ["train", "train_second"])
def test_every_training_that_params_names_exists(table: str) -> None:
    for training in PARAMS.get(table).values():
        plan = resolve(PARAMS, training["recipe"])
        assert training["dataset"] in PARAMS.get("build")
        assert RecipeName.parse(training["recipe"]).base == training["base"]
        first = plan.recipe.pretraining
        expected = None if first is None else (first.dataset, RecipeName.parse(first.recipe).base)
        assert expected == ((training["first"], training["first_base"]) if table == "train_second" else None)


@pytest.mark.parametrize("modality", ["text", "audio"])
def test_every_adaptation_fills_its_config_and_those_that_params_names_exist(modality: str) -> None:
    for name in PARAMS.get(f"adaptations.{modality}"):
        PARAMS.fill(f"adaptations.{modality}.{name}", AdaptationConfig)
    for run in PARAMS.get(f"adapt_{modality}").values():
        assert run["dataset"] in PARAMS.get("build")
        assert run["encoder"] in PARAMS.get(f"encoders.{modality}")
        assert run["settings"] in PARAMS.get(f"adaptations.{modality}")


@pytest.mark.parametrize(("settings", "block"), [("full", "minilm_meld"), ("context", "minilm_meld_context")])
def test_the_block_of_an_adapted_encoder_is_that_of_its_training(settings: str, block: str) -> None:
    """Which is what ``merc-adapt --dataset meld --modality text --encoder minilm --settings SETTINGS`` trains with, and where it leaves the encoder."""
    trained, used = {**PARAMS.get("encoders.text.minilm"), **PARAMS.get(f"adaptations.text.{settings}.encoder")}, PARAMS.get(f"encoders.text.{block}")
    assert used["repo"] == f"features/meld/adapted/text/minilm-{settings}"
    same = {"family", "pooling", "layer", "max_tokens", "dtype", "history_turns", "speaker_names", "dim", "licence"}
    assert {key: trained[key] for key in same} == {key: used[key] for key in same}
