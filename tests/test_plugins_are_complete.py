"""Every plug-in has its own test file and settings that need no block in params.yaml; everything named in params.yaml
exists.
"""

from pathlib import Path
from typing import Any

import pytest

from merc import plugins
from merc.adaptation import stage as adaptation
from merc.corpora.engine.base import CorpusReader
from merc.corpora.stage import DATASETS
from merc.encoders.engine import registry
from merc.encoders.engine.base import Encoder
from merc.evaluation.engine.base import Comparison, Protocol
from merc.layout import MODALITIES
from merc.media import networks
from merc.media.config import of_preset
from merc.params import Params
from merc.training.frameworks.base import Framework
from merc.training.losses.engine.base import MERCLoss
from merc.training.models.engine.base import MERCModel

ROOT = Path(__file__).resolve().parents[1]
PARAMS = Params.load(ROOT / "params.yaml")
PACKAGES: dict[str, type[Any]] = {
    "merc.corpora": CorpusReader,
    **{f"merc.encoders.{modality}": Encoder for modality in MODALITIES},
    "merc.training.models": MERCModel,
    "merc.training.frameworks": Framework,
    "merc.training.losses": MERCLoss,
    "merc.evaluation.protocols": Protocol,
    "merc.evaluation.comparisons": Comparison,
}
ALL = [(package, name, base) for package, base in PACKAGES.items() for name in plugins.names(package, base)]
every_plugin = pytest.mark.parametrize(
    ("package", "name", "base"), ALL, ids=[f"{package}.{name}" for package, name, _ in ALL]
)
# Settings without a default, which say where something comes from: a file next to the code sets them.
GIVEN_BY_A_FILE: dict[type[Any], set[str]] = {
    CorpusReader: {"reader"},
    Encoder: {"family", "repo", "licence", "training_data_overlap"},
}


@every_plugin
def test_every_plugin_has_a_test_file_of_its_own(package: str, name: str, base: type[Any]) -> None:
    assert (ROOT / "tests" / Path(*package.split(".")[1:]) / f"test_{name}.py").is_file()


def test_so_has_every_metric() -> None:
    assert [
        name
        for name in plugins.names("merc.training.metrics")
        if not (ROOT / "tests" / "training" / "metrics" / f"test_{name}.py").is_file()
    ] == []


@every_plugin
def test_every_plugin_is_described_and_so_is_each_of_its_settings_which_has_a_default(
    package: str, name: str, base: type[Any]
) -> None:
    kind = plugins.load(package, name, base)
    assert kind.__doc__
    assert kind.__doc__ != base.__doc__
    assert kind.Config.__doc__
    given = GIVEN_BY_A_FILE.get(base, set())
    fields = kind.Config.model_fields.items()
    assert [key for key, field in fields if not (field.description or "").strip()] == []
    assert [key for key, field in fields if field.is_required() and key not in given] == []


@pytest.mark.parametrize(("package", "base"), PACKAGES.items(), ids=list(PACKAGES))
def test_every_folder_of_plugins_has_some(package: str, base: type[Any]) -> None:
    assert plugins.names(package, base)


@pytest.mark.parametrize("table", ["build", "presets"])
def test_every_encoder_that_params_names_exists(table: str) -> None:
    for encoders in PARAMS.get(table).values():
        for modality in MODALITIES:
            assert encoders[modality] in registry.names(PARAMS, modality)


def test_every_preset_has_all_modalities_and_the_embedded_one_needs_no_checkpoint() -> None:
    presets = PARAMS.get("presets")
    assert {"embedded", "base", "large"} <= presets.keys()
    assert all(set(encoders) - {"media"} == set(MODALITIES) for encoders in presets.values())
    assert not any(
        hasattr(registry.choose(PARAMS, modality, name).config, "repo")
        for modality, name in presets["embedded"].items()
    )


def test_the_presets_with_downloads_follow_the_speaker_and_the_embedded_one_needs_no_file_for_the_media() -> None:
    configs = {preset: of_preset(PARAMS, preset) for preset in ("embedded", "base", "large")}
    assert {preset: (config.detector, config.choice) for preset, config in configs.items()} == {
        "embedded": ("haar", "speaking"),
        "base": ("yunet", "active_speaker"),
        "large": ("yunet", "active_speaker"),
    }
    assert networks.contents(configs["embedded"]) == {}


def test_every_dataset_has_a_default_preset_and_every_one_that_params_names_exists() -> None:
    defaults = PARAMS.get("default_encoders")
    assert sorted(defaults) == DATASETS.names(PARAMS)
    assert set(defaults.values()) <= PARAMS.get("presets").keys()
    assert PARAMS.get("build").keys() <= defaults.keys()


def test_what_is_trained_is_built() -> None:
    for training in PARAMS.get("train").values():
        assert {training["dataset"], training["also_reads"]} <= PARAMS.get("build").keys()


@pytest.mark.parametrize(("settings", "name"), [("full", "minilm_meld"), ("context", "minilm_meld_context")])
def test_an_adapted_encoder_is_used_as_it_was_trained(settings: str, name: str) -> None:
    """Its file names the adaptation that makes it and looks for it where the adaptation writes it."""
    used = registry.choose(PARAMS, "text", name).config.model_dump()
    trained = adaptation.choose(
        PARAMS, modality="text", encoder="minilm", settings=settings
    ).encoder.config.model_dump()
    assert used["repo"] == f"features/meld/adapted/text/minilm-{settings}"
    assert used["made_by"].startswith("merc-adapt --dataset meld --encoder minilm")
    assert used["made_by"].endswith("--encoder minilm" if settings == "full" else f" --settings {settings}")
    not_the_same = {"repo", "revision", "made_by", "megabytes", "training_data_overlap"}
    assert {key: value for key, value in used.items() if key not in not_the_same} == {
        key: value for key, value in trained.items() if key not in not_the_same
    }
