"""The examples of `docs/adding/` are run: the package in `docs/examples/plugins`, installed like a wheel, from raw
files to a trained model.
"""

import importlib
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from merc import plugins
from merc.commands import extract, train
from merc.encoders.engine.base import UtteranceInput
from merc.errors import BadTable, RawDataMissing
from merc.params import Params
from merc.shards.format import reader
from merc.training.data.batch import DialogueBatch
from merc.training.losses.engine.base import MERCLoss
from merc.training.models.engine.base import MERCModel, MERCOutput
from merc.training.recipes.resolution import resolve

PACKAGE = Path(__file__).resolve().parents[1] / "docs" / "examples" / "plugins"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Puts the package on the path, with the metadata that pip would write next to it."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = tmp_path / "site" / f"walks-{project['version']}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: walks\nVersion: {project['version']}\n", encoding="utf-8"
    )
    groups = (
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in named.items())
        for group, named in project["entry-points"].items()
    )
    (metadata / "entry_points.txt").write_text("\n".join(groups), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.syspath_prepend(PACKAGE)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    plugins._installed.cache_clear()
    importlib.invalidate_caches()
    yield
    plugins._installed.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "walks"]:
        del sys.modules[name]


@pytest.fixture
def params(installed: None) -> Params:
    return Params.load(PACKAGE / "params.yaml")


def _run(command: object, *words: str) -> None:
    result = CliRunner().invoke(command, [*words, "--params", str(PACKAGE / "params.yaml")])  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output


def test_the_example_goes_from_raw_files_to_a_trained_model(
    installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _run(extract.main, "--dataset", "walks", "--raw", str(PACKAGE / "raw"), "--modalities", "text", "--workers", "1")
    info = reader.info(tmp_path / "features" / "walks" / "shards")
    assert (info["classes"], info["counts"]["train"]["dialogues"], info["counts"]["test"]["unlabelled"]) == (
        ["glad", "curious", "cross"],
        4,
        1,
    )
    _run(train.main, "--dataset", "walks", "--recipe", "recap+modest", "--workers", "1", "--device", "cpu")
    history = (tmp_path / "runs" / "walks" / "recap+modest" / "history.csv").read_text(encoding="utf-8")
    assert "loss_cross_entropy,loss_confidence_penalty" in history


def test_settings_of_the_example_reach_what_they_are_of(params: Params) -> None:
    recap = resolve(
        Params.load(PACKAGE / "params.yaml", ("models.recap.fading=0.25", "losses.confidence_penalty.temperature=2")),
        "recap+modest",
    )
    settings = recap.settings()
    assert "0.25" in str(settings)
    assert [term.kind.__name__ for term in recap.losses] == ["CrossEntropy", "ConfidencePenalty"]


def test_the_reader_merges_labels_and_leaves_out_strangers(installed: None) -> None:
    kind = plugins.load("merc.corpora", "walks", importlib.import_module("merc.corpora.engine.base").CorpusReader)
    root = PACKAGE / "raw" / "walks"
    read = kind(kind.Config(reader="walks", strangers=False)).read(
        root, root.parent, media=frozenset(), splits=("train",)
    )
    assert [one.source_dialogue_id for one in read.dialogues] == ["heron", "rain", "tea"]
    assert [one.emotion for one in read.dialogues[0].utterances] == ["glad", "curious", "glad"]


def test_the_reader_refuses_what_is_missing_and_what_it_does_not_know(installed: None, tmp_path: Path) -> None:
    kind = plugins.load("merc.corpora", "walks", importlib.import_module("merc.corpora.engine.base").CorpusReader)
    corpus = kind(kind.Config(reader="walks"))
    with pytest.raises(RawDataMissing, match=r"train\.json is missing\. Expected:"):
        corpus.read(tmp_path, tmp_path, media=frozenset(), splits=("train",))
    (tmp_path / "train.json").write_text(
        '[{"id": "a", "turns": [{"who": "Ann", "says": "Oh.", "feels": "bored"}]}]', encoding="utf-8"
    )
    with pytest.raises(BadTable, match="unknown emotion 'bored'; valid: glad, curious, cross"):
        corpus.read(tmp_path, tmp_path, media=frozenset(), splits=("train",))


def test_the_encoder_counts_marks_and_records_an_empty_text(installed: None) -> None:
    kind = plugins.load("merc.encoders.text", "marks", importlib.import_module("merc.encoders.engine.base").Encoder)
    encoder = kind(kind.Config(family="marks", marks="!?"))
    encoder.load("cpu")
    found = encoder.encode([UtteranceInput(utterance_id="a", text="Oh!!"), UtteranceInput(utterance_id="b", text=" ")])
    np.testing.assert_allclose(found.embeddings, np.log1p([[2, 0, 4], [0, 0, 0]]), rtol=1e-6)
    assert (found.present.tolist(), [remark[:2] for remark in found.remarks]) == ([True, False], [(1, "no_text")])


def _batch(turns: int) -> DialogueBatch:
    mask = torch.ones(1, turns, dtype=torch.bool)
    return DialogueBatch(
        features={"text": torch.arange(turns, dtype=torch.float32)[None, :, None] + 1},
        modality_mask={"text": mask},
        utterance_mask=mask,
        speakers=torch.zeros(1, turns, dtype=torch.long),
        labels=torch.zeros(1, turns, dtype=torch.long),
        lengths=torch.tensor([turns]),
        dialogue_index=torch.zeros(1, dtype=torch.long),
        utterance_index=torch.arange(turns)[None],
        dialogue_ids=("a",),
    )


def test_the_model_is_causal_and_fades(installed: None) -> None:
    kind = plugins.load("merc.training.models", "recap", MERCModel)
    torch.manual_seed(0)
    model = kind(kind.Config(hidden_units=4), {"text": 1}, 2)  # type: ignore[call-arg]
    long, short = model(_batch(4)), model(_batch(2))
    torch.testing.assert_close(long.logits[:, :2], short.logits)
    torch.testing.assert_close(
        model._weights(torch.zeros(1, 3, 4)), torch.tensor([[0, 0, 0], [0.5, 0, 0], [0.25, 0.5, 0]])
    )


def test_the_loss_is_the_negative_entropy_by_hand(installed: None) -> None:
    kind = plugins.load("merc.training.losses", "confidence_penalty", MERCLoss)
    loss = kind(kind.Config(), type("Facts", (), {"class_counts": torch.ones(2)}))  # type: ignore[arg-type]
    logits = torch.tensor([[[0.0, 0.0], [0.0, float(np.log(3))]]])
    by_hand = np.mean([np.log(1 / 2), 1 / 4 * np.log(1 / 4) + 3 / 4 * np.log(3 / 4)])
    value = loss(MERCOutput(logits=logits, hidden=logits), _batch(2), epoch=0, generator=torch.Generator())
    assert value.item() == pytest.approx(by_hand)
