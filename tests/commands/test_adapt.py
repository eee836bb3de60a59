"""``merc-adapt`` and then ``merc-extract`` with its result, on your own table."""

import csv
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from merc import files, lock
from merc.commands.adapt import main, modality_of
from merc.commands.extract import main as extract
from merc.errors import BadSettings
from merc.params import Params


@pytest.fixture
def settings(tmp_path: Path, tiny_bert: Path) -> Path:
    """A params.yaml with a tiny encoder, ``plain``, and ``own``, its adapted version; next to it a corpus whose words
    determine the emotion.
    """
    plain = {"base": "minilm", "repo": str(tiny_bert), "revision": "", "dim": 16, "max_tokens": 32}
    made = {
        "repo": str(tmp_path / "features" / "table" / "adapted" / "text" / "plain-full"),
        "made_by": "merc-adapt …",
        "speaker_names": True,
    }
    tree = {
        "encoders": {"text": {"plain": plain, "own": {"base": "plain", **made}}},
        "adaptations": {"text": {"full": {"learning_rate": 0.005, "batch_utterances": 4}}},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    (tmp_path / "raw").mkdir()
    with (tmp_path / "raw" / "utterances.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["dialogue", "speaker", "text", "emotion", "split"])
        for split, dialogues in (("train", 8), ("dev", 2), ("test", 2)):
            for number in range(dialogues):
                for turn, (word, emotion) in enumerate((("glad", "joy"), ("dull", "sadness"), ("glad", "joy"))):
                    writer.writerow([f"{split}{number}", "AB"[turn % 2], f"we saw it {word} {number}", emotion, split])
    return tmp_path / "params.yaml"


@pytest.fixture
def tiny_bert(tmp_path: Path) -> Path:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    torch.set_num_threads(1)
    torch.manual_seed(0)
    vocabulary = {
        word: at
        for at, word in enumerate(
            ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "we", "saw", "it", "glad", "dull", "A", "B", ":"]
        )
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **names).save_pretrained(tmp_path / "bert")
    config = BertConfig(
        vocab_size=12,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def _run(command: Any, settings: Path, *arguments: str) -> Result:
    folder = settings.parent
    where = [
        "--params",
        str(settings),
        "--raw",
        str(folder / "raw"),
        "--out",
        str(folder / "features"),
        "--offline",
        "--device",
        "cpu",
    ]
    return CliRunner().invoke(command, ["--dataset", "table", *where, *arguments])


def test_linear_layers_that_are_given_to_onednn_are_computed_by_it_in_the_extraction_and_by_torch_in_the_training(
    settings: Path,
) -> None:
    by_torch = _run(main, settings, "--modality", "text", "--encoder", "plain")
    assert by_torch.exit_code == 0, by_torch.output
    made = settings.parent / "features" / "table" / "adapted" / "text" / "plain-full"
    bytes_before = {path.name: path.read_bytes() for path in made.iterdir()}
    for path in made.iterdir():
        path.unlink()
    forced = ("--set", "encoders.text.plain.linear_layers=onednn")
    again = _run(main, settings, "--modality", "text", "--encoder", "plain", *forced)
    assert again.exit_code == 0, again.output
    assert {path.name: path.read_bytes() for path in made.iterdir()} == bytes_before

    text = ("--modalities", "text", "--encoder", "text=plain")
    extracted = _run(extract, settings, *text, *forced)
    assert extracted.exit_code == 0, extracted.output
    assert "linear layers by oneDNN, " in extracted.stderr
    record = settings.parent / "features" / "table" / "text" / "plain" / "record.json"
    assert files.read_json(record)["provenance"]["linear_layers"] == "onednn"
    info = files.read_json(settings.parent / "features" / "table" / "shards" / "meta" / "info.json")
    assert info["encoders"]["text"]["linear_layers"] == "onednn"
    unforced = _run(extract, settings, *text, "--set", "encoders.text.plain.linear_layers=torch")
    assert unforced.exit_code == 0, unforced.output
    assert "text/plain: already done" in unforced.stderr
    assert files.read_json(record)["provenance"]["linear_layers"] == "onednn"

    wrong = _run(extract, settings, *text, "--set", "encoders.text.plain.linear_layers=mkl")
    assert wrong.exit_code == 2
    assert "linear_layers" in wrong.stderr


def test_an_encoder_is_adapted_and_extracted_with(settings: Path) -> None:
    missing = _run(extract, settings, "--modalities", "text", "--encoder", "text=own")
    assert missing.exit_code == 6
    adapted = _run(main, settings, "--modality", "text", "--encoder", "plain")
    assert adapted.exit_code == 0, adapted.output
    made = settings.parent / "features" / "table" / "adapted" / "text" / "plain-full"
    lines = adapted.stdout.splitlines()
    record = files.read_json(made / "record.json")
    assert lines[0] == f"dev: weighted F1 {record['dev']['weighted_f1']:.4f}, accuracy {record['dev']['accuracy']:.4f}"
    assert lines[1].startswith("test: weighted F1 ")
    assert lines[2] == str(made)
    extracted = _run(extract, settings, "--modalities", "text", "--encoder", "text=own")
    assert extracted.exit_code == 0, extracted.output
    info = files.read_json(settings.parent / "features" / "table" / "shards" / "meta" / "info.json")
    assert info["encoders"]["text"]["tag"] == "adapted"


def test_two_do_not_write_to_the_features_of_a_dataset_at_once(settings: Path) -> None:
    with lock.held(settings.parent / "features" / "table"):
        refused = _run(main, settings, "--modality", "text", "--encoder", "plain")
    assert refused.exit_code == 7
    assert not (settings.parent / "features" / "table" / "adapted").exists()


@pytest.mark.parametrize("hostile", ["Ann\x1b[2J", "\x1b]0;title\x07", "A\u202eB"])
def test_nothing_of_a_hostile_table_acts_on_the_terminal(settings: Path, hostile: str) -> None:
    """As a speaker, an emotion, a split and a dialogue: reports show its control characters escaped."""
    table = settings.parent / "raw" / "utterances.csv"
    rows = table.read_text().splitlines()
    for column in range(5):
        fields = rows[1].split(",")
        fields[column] = hostile
        table.write_text("\n".join([rows[0], ",".join(fields), *rows[2:]]))
        said = _run(extract, settings, "--modalities", "text", "--encoder", "text=ngrams", "--overwrite")
        assert not isinstance(said.exception, Exception) or isinstance(said.exception, SystemExit)
        assert not {"\x1b", "\x07", "\u202e"} & set(said.output)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--modality", "text", "--encoder", "ngrams"], 2),
        (["--modality", "visual", "--encoder", "plain"], 2),
        (["--modality", "text", "--encoder", "plain", "--settings", "none"], 2),
        (["--modality", "text"], 2),
        (["--modality", "text", "--encoder", "plain", "--set", "adaptations.text.lora.epochs=1"], 2),
        (["--modality", "text", "--encoder", "plain", "--raw", "/nowhere"], 4),
    ],
)
def test_what_cannot_be_done_ends_with_its_exit_code(settings: Path, arguments: list[str], code: int) -> None:
    assert _run(main, settings, *arguments).exit_code == code


def test_a_setting_that_the_fine_tuning_overrides_is_reported_with_the_key_that_does(settings: Path) -> None:
    result = _run(
        main, settings, "--modality", "text", "--encoder", "plain", "--set", "encoders.text.plain.speaker_names=false"
    )
    assert result.exit_code == 2
    assert (
        "encoders.text.plain.speaker_names has no effect, since adaptations.text.full.encoder overrides it"
        in result.stderr
    )
    assert "set adaptations.text.full.encoder.speaker_names instead" in result.stderr


def test_a_misspelt_name_is_reported_before_the_corpus_is_read(settings: Path) -> None:
    result = _run(main, settings, "--modality", "text", "--encoder", "plain2", "--raw", "/nowhere")
    assert result.exit_code == 2
    assert not (settings.parent / "features").exists()


def test_a_dataset_that_is_not_in_the_settings_is_refused_with_the_nearest(settings: Path) -> None:
    result = CliRunner().invoke(
        main, ["--dataset", "tables", "--modality", "text", "--encoder", "plain", "--params", str(settings)]
    )
    assert result.exit_code == 2


def test_the_modality_is_that_of_the_encoder() -> None:
    params = Params({"encoders": {"audio": {"minilm": {"family": "waveform"}}}})
    assert (modality_of(params, "roberta_base"), modality_of(params, "wav2vec2_base")) == ("text", "audio")
    with pytest.raises(BadSettings, match=r"no text or audio encoder 'clip_base'; .*valid: "):
        modality_of(params, "clip_base")
    with pytest.raises(BadSettings, match="'minilm' is both a text and an audio encoder; choose one with --modality"):
        modality_of(params, "minilm")
