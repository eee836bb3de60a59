"""What can be imported from the packages themselves, as in a user's program."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from merc import encoders, plugins
from merc.errors import BadSettings
from merc.training import losses
from merc.training.frameworks.base import Framework
from merc.training.losses.engine.base import MERCLoss
from merc.training.models.engine.base import MERCModel

PLUGINS = {"merc.training.losses": MERCLoss, "merc.training.models": MERCModel, "merc.training.frameworks": Framework}
EVERY = [(package, name) for package, base in PLUGINS.items() for name in plugins.names(package, base)]
LAZY = [*PLUGINS, "merc.shards", "merc.encoders"]


@pytest.mark.parametrize(("package", "name"), EVERY, ids=[f"{package}.{name}" for package, name in EVERY])
def test_the_classes_of_every_plug_in_can_be_imported_from_its_package(package: str, name: str) -> None:
    exporting = importlib.import_module(package)
    kind = plugins.load(package, name, PLUGINS[package])
    assert getattr(exporting, kind.__name__) is kind
    module = sys.modules[kind.__module__]
    public = [
        key
        for key, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__ and not key.startswith("_")
    ]
    for key in public:
        assert key in dir(exporting)
        if len(plugins.public_classes(package)[key]) == 1:  # models may have blocks of the same name
            assert getattr(exporting, key) is getattr(module, key)


@pytest.mark.parametrize("package", LAZY)
def test_importing_a_package_imports_none_of_its_files(package: str) -> None:
    script = (
        f"import sys, {package}; print([name for name in sys.modules if name in ('torch', 'numpy') or"
        f" name.startswith('{package}.')])"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_wrong_name_gives_the_nearest() -> None:
    with pytest.raises(
        AttributeError, match=r"has no attribute 'InterDialogLoss'; did you mean 'InterDialogueLoss'\? valid: "
    ):
        _ = losses.InterDialogLoss


PROGRAM = """
from merc.encoders import UtteranceInput, encoder
from merc.shards import Dialogues
from merc.training.frameworks import DCLF, Framework
from merc.training.losses import CrossEntropy, MERCLoss
from merc.training.models import MMGCN, MERCModel

model = DCLF(DCLF.Config(), MMGCN(MMGCN.Config(hidden_units=8), {"text": 4}, 3))
print(isinstance(model, Framework), isinstance(model, MERCModel), issubclass(CrossEntropy, MERCLoss), Dialogues.__module__)
ngrams = encoder("text", "ngrams", word_dims=64)
ngrams.load("cpu")
print(ngrams.config.word_dims, ngrams.encode([UtteranceInput(utterance_id="a", text="Hello!")]).present.tolist())
print(encoder("audio", "wavlm_large", pooling="mean_std").config.pooling)
"""  # noqa: E501


def test_a_program_in_a_folder_of_its_own_that_has_a_folder_pipeline_finds_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").write_text("raise RuntimeError('not this one')\n")
    environment = {**os.environ, "PYTHONPATH": str(Path(encoders.__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["True True True merc.shards.format.reader", "64 [True]", "mean_std"]
    assert [path.name for path in tmp_path.iterdir()] == ["pipeline"]


@pytest.mark.parametrize(
    ("modality", "name", "settings", "words"),
    [
        ("text", "ngram", {}, "no text encoder 'ngram'; did you mean 'ngrams'"),
        ("video", "ngrams", {}, "no modality 'video'; valid: audio, text, visual"),
        ("text", "ngrams", {"word_dim": 3}, r"unknown key encoders\.text\.ngrams\.word_dim; did you mean 'word_dims'"),
        ("text", "transformer", {}, "no text encoder 'transformer'"),
    ],
)
def test_an_encoder_that_is_invalid_is_refused_with_the_nearest(
    modality: str, name: str, settings: dict[str, int], words: str
) -> None:
    with pytest.raises(BadSettings, match=words):
        encoders.encoder(modality, name, **settings)
