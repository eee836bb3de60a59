"""The commands that are disturbed, each with the small folder it starts from and the folder it writes to."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import yaml

from merc.commands.adapt import main as adapt
from merc.commands.evaluate import main as evaluate
from merc.commands.extract import main as extract
from merc.commands.report import main as report
from merc.commands.shards import main as shards
from merc.commands.train import main as train

ROOT = Path(__file__).resolve().parents[2]
# A corpus of a few dialogues with very short clips: what is disturbed is the writing, not what is written.
DEMO = {
    "seed": 3,
    "meld_train_dialogues": 3,
    "meld_dev_dialogues": 1,
    "meld_test_dialogues": 2,
    "iemocap_dialogues": 6,
    "iemocap_turns": 8,
    "clip_seconds_min": 0.8,
    "clip_seconds_max": 0.9,
}
SHARDS = "features/demo-meld/shards"
# An encoder that is trained in a second, in the prepared folder.
CHECKPOINT = "tiny_bert"


@dataclass(frozen=True)
class Disturbed:
    """A command.

    Attributes:
        command: one of the package's.
        arguments: its arguments.
        needs: the parts of the prepared folder that it starts from.
        writes: the folders it writes to, below the working directory.
        program: its name on the command line.
    """

    command: click.Command
    program: str
    arguments: Sequence[str]
    needs: Sequence[str]
    writes: Sequence[str]

    def start(self, prepared: Path, folder: Path) -> None:
        """Makes the folder that a run starts from; what is only read is linked."""
        folder.mkdir(parents=True)
        for name in (*self.needs, "params.yaml"):
            source = prepared / name
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, folder / name, copy_function=os.link)
            else:
                shutil.copy(source, folder / name)


COMMANDS = {
    "extract": Disturbed(
        extract,
        "merc-extract",
        ["--dataset", "demo-meld", "--modalities", "text", "--workers", "1"],
        ["raw"],
        ["features"],
    ),
    "train": Disturbed(
        train,
        "merc-train",
        ["--dataset", "demo-meld", "--recipe", "baseline@text", "--device", "cpu", "--workers", "1"],
        ["features"],
        ["runs"],
    ),
    "select": Disturbed(
        shards, "merc-shards", ["select", SHARDS, "part", "--split", "train", "--overwrite"], [SHARDS, "part"], ["part"]
    ),
    "merge": Disturbed(
        shards, "merc-shards", ["merge", "one", "two", "--out", "both", "--overwrite"], ["one", "two", "both"], ["both"]
    ),
    "evaluate": Disturbed(
        evaluate,
        "merc-evaluate",
        [
            "--dataset",
            "demo-meld",
            "--protocol",
            "emotion_shift",
            "--protocol",
            "calibration",
            "--protocol",
            "significance",
            "--device",
            "cpu",
        ],
        ["features", "runs"],
        ["evaluations"],
    ),
    "report": Disturbed(report, "merc-report", [], ["features", "runs", "evaluations", "reports"], ["reports"]),
}
# These take longer and are not disturbed by the tests: media are decoded by other processes, and a model is trained.
LONGER = {
    "extract media": Disturbed(
        extract,
        "merc-extract",
        ["--dataset", "demo-meld", "--modalities", "audio,visual", "--max-failed", "20%", "--workers", "2"],
        ["raw"],
        ["features"],
    ),
    "adapt": Disturbed(
        adapt,
        "merc-adapt",
        ["--dataset", "demo-meld", "--encoder", "tiny_bert", "--device", "cpu", "--workers", "1"],
        ["raw", CHECKPOINT],
        ["features"],
    ),
}


def prepare(folder: Path) -> None:
    """Makes the corpus, shards, two parts of them, a run, its evaluations and a report, using the commands."""
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    settings["demo"] = DEMO
    settings["recipes"] = {"baseline": {"epochs": 2, "seeds": [0, 1]}}
    settings["run"] = {"max_failed": "20%"}  # the broken clips are a larger share of so small a corpus
    settings["encoders"] = {"text": {"tiny_bert": {"base": "minilm", "repo": CHECKPOINT, "revision": "", "dim": 16}}}
    _save_checkpoint(folder / CHECKPOINT)
    (folder / "params.yaml").write_text(yaml.safe_dump(settings))
    for program, *arguments in (
        ("merc-extract", "--dataset", "demo-meld", "--modalities", "text", "--workers", "1"),
        ("merc-shards", "select", SHARDS, "part", "--split", "train"),
        ("merc-shards", "select", SHARDS, "one", "--split", "train"),
        ("merc-shards", "select", SHARDS, "two", "--split", "dev"),
        ("merc-shards", "merge", "one", "two", "--out", "both"),
        ("merc-train", "--dataset", "demo-meld", "--recipe", "baseline@text", "--device", "cpu", "--workers", "1"),
        (
            "merc-evaluate",
            "--dataset",
            "demo-meld",
            "--protocol",
            "emotion_shift",
            "--protocol",
            "significance",
            "--device",
            "cpu",
        ),
        ("merc-report",),
    ):
        done = subprocess.run(
            [Path(sys.executable).parent / program, *arguments], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{program} {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")


def _save_checkpoint(folder: Path) -> None:
    """A BERT of two layers of 16 units whose vocabulary is the letters."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = {
        piece: number
        for number, piece in enumerate(
            ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters)]
        )
    }
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=256, model_input_names=["input_ids", "attention_mask"], **names
    ).save_pretrained(folder)
    torch.manual_seed(3)
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 256,
    }
    BertModel(BertConfig(vocab_size=len(vocabulary), **sizes)).save_pretrained(folder)
