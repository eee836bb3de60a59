"""Distributions with plug-ins, installed like a wheel into a folder on the path: their files, and the metadata next to
them.
"""

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from merc import outline, plugins
from merc.commands import extract, train
from merc.commands.inventory import describe, fetch
from merc.commands.resolve import sources
from merc.corpora import stage as corpora
from merc.corpora.engine.base import CorpusReader
from merc.encoders.engine import registry
from merc.encoders.engine.base import Encoder, UtteranceInput
from merc.errors import BadPlugin, BadSettings
from merc.params import Params
from merc.shards.format.reader import Dialogues
from merc.training.loop import checkpoint
from merc.training.losses.engine.base import MERCLoss
from merc.training.models.engine.base import MERCModel
from merc.training.recipes.resolution import resolve

MODEL = '''
from merc.params import Settings
from merc.training.models.engine.base import Gives, MERCModel, MERCOutput
from torch import nn

from .parts import UNITS


class MyModel(MERCModel):
    """A linear map of the text."""

    causal = True

    class Config(Settings):
        """Settings of it."""

        units: int = UNITS
        """Width of what is hidden."""

    def __init__(self, config, dims, classes):
        super().__init__(config, dims, classes)
        self.gives = Gives(hidden=config.units, unimodal={name: config.units for name in dims})
        self.inner, self.outer = nn.Linear(dims["text"], config.units), nn.Linear(config.units, classes)

    def forward(self, batch):
        hidden = self.inner(batch.features["text"])
        return MERCOutput(logits=self.outer(hidden), hidden=hidden, unimodal={name: hidden for name in self.modalities})
'''
LOSS = '''
from merc.params import Settings
from merc.training.losses.engine.base import MERCLoss


class Far(MERCLoss):
    """How far the scores are from 0."""

    class Config(Settings):
        """Settings of it."""

        power: float = 2.0
        """Of the scores."""

    def forward(self, output, batch, *, epoch, generator):
        return output.logits[batch.labelled].abs().pow(self.config.power).mean()
'''
ENCODER = '''
import numpy as np
from merc.encoders.engine.base import Encoded, Encoder, EncoderConfig


class Length(Encoder):
    """The number of letters."""

    MODALITY = "text"
    dim = 1

    class Config(EncoderConfig):
        """Settings of it."""

        scale: float = 1.0
        """Of the number."""

    def provenance(self):
        return self.rule_provenance(pooling="sum")

    def load(self, device):
        pass

    def encode(self, utterances):
        lengths = np.array([[len(one.text) * self.config.scale] for one in utterances], np.float32).reshape(-1, 1)
        return Encoded(lengths, lengths[:, 0] > 0)
'''
READER = '''
from merc.corpora.engine.base import CorpusConfig, CorpusReader, Reading
from merc.errors import RawDataMissing
from merc.records.dialogue import Dialogue, Utterance


class Lines(CorpusReader):
    """A dialogue per split: the lines of a file."""

    LABEL_SETS = ("meld7",)
    SOURCE = "nowhere"
    EXPECTED_TREE = "train.txt, dev.txt, test.txt"

    class Config(CorpusConfig):
        """Settings of it."""

        label_set: str = "meld7"
        """The one there is."""

    def read(self, root, raw, *, media, splits):
        return Reading([self.dialogue(split, (root / f"{split}.txt").read_text().splitlines()) for split in splits])

    def dialogue(self, split, lines):
        utterances = [
            Utterance(source_utterance_id=f"u{number}", speaker="Ann", text=line, emotion=("joy", "anger")[len(line) > 6], start_seconds=number, end_seconds=9)
            for number, line in enumerate(lines)
        ]
        return Dialogue(split=split, source_dialogue_id="d", utterances=tuple(utterances))
'''  # noqa: E501
FILES = {"__init__": "", "parts": "UNITS = 3\n", "model": MODEL, "loss": LOSS, "encoder": ENCODER, "reader": READER}
POINTS = {
    "merc.models": {"mine": "my_package.model:MyModel"},
    "merc.losses": {"far": "my_package.loss:Far"},
    "merc.encoders.text": {"length": "my_package.encoder:Length"},
    "merc.corpora": {"lines": "my_package.reader:Lines"},
}
RECIPE = {
    "model": "mine",
    "modalities": ["text"],
    "losses": {"cross_entropy": {}, "far": {"weight": 0.1, "power": 3.0}},
    "optimizer": {"name": "adam", "learning_rate": 0.1, "weight_decay": 0.0},
    "epochs": 2,
    "patience_epochs": 1,
    "batch_dialogues": 4,
    "seeds": [0],
}
Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a distribution; keywords ``name``, ``version``, ``points`` (group → name → value), ``files`` (module →
    source), ``package``.
    """
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    packages = []

    def put(
        name: str = "my-plugins",
        version: str = "1.5",
        points: Mapping[str, Mapping[str, str]] = POINTS,
        files: Mapping[str, str] = FILES,
        package: str = "my_package",
    ) -> Path:
        written = [site / package / f"{module}.py" for module in files]
        (site / package).mkdir()
        for path, source in zip(written, files.values(), strict=True):
            path.write_text(source)
        metadata = site / f"{name.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n")
        (metadata / "entry_points.txt").write_text(
            "\n".join(
                f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in named.items())
                for group, named in points.items()
            )
        )
        (metadata / "RECORD").write_text("".join(f"{path.relative_to(site)},,\n" for path in written))
        packages.append(package)
        plugins._installed.cache_clear()
        importlib.invalidate_caches()
        return site

    yield put
    plugins._installed.cache_clear()
    for module in [module for module in sys.modules if module.split(".")[0] in packages]:
        del sys.modules[module]


def run(site: Path, script: str) -> str:
    """The output of a Python program with the folder on its path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ["PYTHONPATH"]])}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_settings_of_plug_ins_are_listed_without_importing_them(install: Install) -> None:
    script = """
import sys
from merc import outline
print(outline.titles("merc.training.models")["mine"], outline.read("merc.training.models", "mine").settings)
print(outline.read("merc.training.losses", "far").settings)
print([name for name in sys.modules if name.startswith("my_package.") or name == "torch"])
"""
    assert run(install(), script).splitlines() == [
        "A linear map of the text (Setting(name='units', type='int', default='UNITS', about='Width of what is"
        " hidden.'),)",
        "(Setting(name='power', type='float', default='2.0', about='Of the scores.'),)",
        "[]",
    ]


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("my_package.gone", "my_package.gone cannot be found"),
        ("no_package.model", "no_package.model cannot be found: No module named 'no_package'"),
        ("my_package.text", "text.py is not Python: invalid syntax"),
    ],
)
def test_a_plug_in_whose_file_cannot_be_read_does_not_hide_the_others(
    install: Install, module: str, words: str
) -> None:
    install(points={"merc.losses": {"mine": f"{module}:Mine"}}, files={"__init__": "", "text": "class:\n"})
    titles = outline.titles("merc.training.losses")
    assert titles["mine"].startswith("unreadable: ")
    assert words in titles["mine"]
    assert titles["supcon"].startswith("Supervised contrastive loss")
    with pytest.raises(BadPlugin, match=re.escape(words)):
        outline.read("merc.training.losses", "mine")


def test_a_corpus_is_read_encoded_and_trained_on_by_plug_ins_of_another_distribution(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw" / "lines").mkdir(parents=True)
    for split, lines in {
        "train": "Hello.\nHow are you today?\nFine.\n",
        "dev": "Bye.\nBye bye, everybody!\n",
        "test": "Hi.\n",
    }.items():
        (tmp_path / "raw" / "lines" / f"{split}.txt").write_text(lines)
    (tmp_path / "params.yaml").write_text(
        yaml.safe_dump({"models": {"mine": {"units": 5}}, "recipes": {"own": RECIPE}})
    )
    runner = CliRunner()
    chosen = ["--encoder", "text=length", "--set", "encoders.text.length.scale=0.5"]
    made = runner.invoke(extract.main, ["--dataset", "lines", "--modalities", "text", *chosen])
    assert made.exit_code == 0, made.output
    table = Dialogues(tmp_path / "features" / "lines" / "shards", "train", ["text"])
    assert [row["text"].tolist() for row in table.rows()] == [[[3.0], [9.0], [2.5]]]
    made = runner.invoke(train.main, ["--dataset", "lines", "--recipe", "own"])
    assert made.exit_code == 0, made.output
    loaded = checkpoint.load(tmp_path / "runs" / "lines" / "own" / "models" / "seed-0" / "model.safetensors")
    assert (type(loaded.model).__name__, loaded.model.config.units) == ("MyModel", 5)
    assert "loss_cross_entropy,loss_far" in (tmp_path / "runs" / "lines" / "own" / "history.csv").read_text()


def test_an_encoder_of_another_distribution_is_one_by_its_own_name_and_the_family_of_others(install: Install) -> None:
    install()
    params = Params({"encoders": {"text": {"long": {"family": "length", "scale": 0.5}}}})
    assert {"length", "long", "ngrams", "minilm"} <= set(registry.names(params, "text"))
    assert "lines" in corpora.DATASETS.names(params)
    for name, length in (("length", 4.0), ("long", 2.0)):
        assert registry.build(params, "text", name).encode(
            [UtteranceInput(utterance_id="a", text="four")]
        ).embeddings.tolist() == [[length]]
    assert describe(params, "text", "length").state == "built in"


def test_listing_plug_ins_imports_nothing(install: Install) -> None:
    script = """
import sys
from merc import outline, plugins
wanted = {"training.models": ["mine", "mmgcn"], "training.losses": ["far"], "encoders.text": ["length"], "corpora": ["lines"]}
print(*(one in plugins.names(f"merc.{package}") for package, named in wanted.items() for one in named))
print([name for name in sys.modules if name.split(".")[0] in ("torch", "transformers", "my_package")])
"""  # noqa: E501
    assert run(install(), script) == "True True True True True\n[]\n"


def test_each_package_has_its_group(install: Install) -> None:
    groups = [
        "corpora",
        "encoders.text",
        "encoders.audio",
        "encoders.visual",
        "models",
        "losses",
        "frameworks",
        "metrics",
    ]
    install(points={f"merc.{group}": {f"of_{group.split('.')[-1]}": "my_package.model:MyModel"} for group in groups})
    for group in groups:
        package = f"merc.{group}" if group.startswith(("corpora", "encoders")) else f"merc.training.{group}"
        assert [name for name in plugins.names(package) if name.startswith("of_")] == [f"of_{group.split('.')[-1]}"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("my_package.broken:Any", "ModuleNotFoundError: No module named 'a_library_that_is_not_there'"),
        ("my_package.raising:Any", "RuntimeError: no licence"),
        ("my_package.nowhere:Any", "ModuleNotFoundError: No module named 'my_package.nowhere'"),
        ("my_package.model:Nothing", "AttributeError: module 'my_package.model' has no attribute 'Nothing'"),
    ],
)
def test_one_that_cannot_be_imported_is_named_with_its_distribution_when_it_is_asked_for(
    install: Install, value: str, words: str
) -> None:
    broken = {"broken": "import a_library_that_is_not_there\n", "raising": "raise RuntimeError('no licence')\n"}
    install(points={"merc.models": {"broken": value, "mine": "my_package.model:MyModel"}}, files={**FILES, **broken})
    assert {"broken", "mine", "mmgcn"} <= set(plugins.names("merc.training.models", MERCModel))
    assert plugins.load("merc.training.models", "mine", MERCModel).__name__ == "MyModel"
    assert plugins.load("merc.training.models", "mmgcn", MERCModel).__name__ == "MMGCN"
    with pytest.raises(BadPlugin) as raised:
        resolve(Params({"recipes": {"own": {**RECIPE, "model": "broken"}}}), "own")
    assert (
        str(raised.value)
        == f"MERCModel 'broken': the entry point broken = {value!r} of my-plugins 1.5 cannot be imported: {words}"
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("my_package.loss:Far", "is not a subclass of merc.training.models.engine.base.MERCModel"),
        ("my_package.parts:UNITS", "is not a subclass of merc.training.models.engine.base.MERCModel"),
        ("my_package.model", "is not a subclass of merc.training.models.engine.base.MERCModel"),
        ("my_package.unfinished:Unfinished", "lacks forward"),
    ],
)
def test_one_that_names_something_else_says_so(install: Install, value: str, words: str) -> None:
    unfinished = "from merc.training.models.engine.base import MERCModel\nclass Unfinished(MERCModel): ...\n"
    install(points={"merc.models": {"odd": value}}, files={**FILES, "unfinished": unfinished})
    with pytest.raises(BadPlugin) as raised:
        plugins.load("merc.training.models", "odd", MERCModel)
    assert str(raised.value) == f"MERCModel 'odd': the entry point odd = {value!r} of my-plugins 1.5 {words}"


def test_a_name_that_a_file_has_already_is_refused_with_both(install: Install) -> None:
    install(points={"merc.losses": {"focal": "my_package.loss:Far", "far": "my_package.loss:Far"}})
    assert plugins.names("merc.training.losses").count("focal") == 1
    assert plugins.load("merc.training.losses", "far", MERCLoss).__name__ == "Far"
    with pytest.raises(BadPlugin) as raised:
        plugins.load("merc.training.losses", "focal", MERCLoss)
    both = "the file merc.training.losses.focal and the entry point focal = 'my_package.loss:Far' of my-plugins 1.5"
    assert str(raised.value) == f"there are 2 MERCLoss plug-ins named 'focal': {both}; rename or uninstall one"


def test_a_name_that_two_distributions_use_is_refused_with_both(install: Install) -> None:
    install(points={"merc.losses": {"far": "my_package.loss:Far"}})
    install("others", "0.1", points={"merc.losses": {"far": "other_package.loss:Far"}}, package="other_package")
    assert plugins.names("merc.training.losses").count("far") == 1
    with pytest.raises(
        BadPlugin,
        match=(
            r"'far': the entry point far = '\w+\.loss:Far' of (my-plugins 1\.5|others 0\.1) and .* of"
            r" (others|my-plugins) .*; rename"
        ),
    ):
        plugins.load("merc.training.losses", "far", MERCLoss)


def test_an_unknown_name_gives_the_nearest_of_all_distributions(install: Install) -> None:
    install()
    with pytest.raises(BadSettings, match=r"no MERCLoss named 'farr' in merc\.training\.losses; did you mean 'far'"):
        plugins.load("merc.training.losses", "farr", MERCLoss)


def test_a_broken_encoder_or_reader_does_not_disturb_the_others(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    broken = "import a_library_that_is_not_there\n"
    install(
        points={"merc.encoders.text": {"bad": "my_package.bad:Bad"}, "merc.corpora": {"worse": "my_package.bad:Bad"}},
        files={**FILES, "bad": broken},
    )
    params = Params({})
    assert {"bad", "ngrams"} <= set(registry.names(params, "text"))
    assert registry.build(params, "text", "ngrams").config.family == "ngrams"
    listed = describe(params, "text", "bad")
    assert (listed.state, "my-plugins 1.5 cannot be imported" in listed.problem) == ("refused", True)
    fetch(params, [("text", "bad"), ("text", "ngrams")], offline=True, asked_for=False)
    assert "text=bad: Encoder 'bad': the entry point" in caplog.text
    with pytest.raises(BadPlugin, match="Encoder 'bad'"):
        registry.choose(params, "text", "bad")
    assert corpora.choose(params, "meld").name == "meld"
    with pytest.raises(BadPlugin, match="CorpusReader 'worse'"):
        corpora.choose(params, "worse")


def test_what_a_plug_in_is_made_of_are_its_module_and_those_it_imports_from_next_to_it(install: Install) -> None:
    site = install()
    assert list(sources(plugins.load("merc.training.models", "mine", MERCModel))) == [
        "my_package.model",
        "my_package.parts",
    ]
    (site / "alone.py").write_text(LOSS + "import typing\n")
    alone = importlib.import_module("alone")
    try:
        assert list(sources(alone.Far)) == ["alone"]
    finally:
        del sys.modules["alone"]


@pytest.mark.parametrize(("package", "base"), [("merc.encoders.text", Encoder), ("merc.corpora", CorpusReader)])
def test_without_other_distributions_the_plug_ins_are_those_of_the_folder(package: str, base: type) -> None:
    assert set(plugins.names(package, base)) <= set(plugins._files(package))
