"""A corpus whose words or pitch determine the emotion, and tiny checkpoints that can learn it in seconds."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from merc.adaptation.config import Config as AdaptationConfig
from merc.corpora.engine import building
from merc.corpora.engine.labels import label_set
from merc.job import Fingerprint, Job
from merc.layout import Layout
from merc.media import tables as media_tables
from merc.params import Params
from merc.records import failures, manifest
from merc.records.dialogue import Dialogue, Utterance

from ..encoders.conftest import spectrogram_checkpoint  # noqa: F401

EMOTIONS = {
    "joy": ("glad", "bright", "sweet"),
    "sadness": ("dull", "grey", "lost"),
    "neutral": ("table", "door", "street"),
}
FILLERS = ("the", "a", "we", "saw", "it", "then", "there")
SPLITS = {"train": 24, "dev": 4, "test": 4}
TURNS = 4


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _dialogues() -> list[Dialogue]:
    """Dialogues of two speakers; one word of an utterance determines its emotion, the others are irrelevant."""
    rng = np.random.default_rng(0)
    made = []
    for split, count in SPLITS.items():
        for number in range(count):
            utterances = []
            for turn in range(TURNS):
                emotion = tuple(EMOTIONS)[rng.integers(len(EMOTIONS))]
                words = [
                    *rng.choice(FILLERS, rng.integers(1, 6)),
                    rng.choice(EMOTIONS[emotion]),
                    *rng.choice(FILLERS, rng.integers(0, 3)),
                ]
                utterances.append(
                    Utterance(
                        source_utterance_id=f"{split}{number}_{turn}", speaker=("Ann", "Bob")[turn % 2],
                        text=" ".join(words), emotion=emotion,
                        start_seconds=turn, end_seconds=turn + 1,
                    )
                )  # fmt: skip
            made.append(Dialogue(split=split, source_dialogue_id=f"{split}{number}", utterances=tuple(utterances)))
    return made


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "raw", tmp_path / "features", "words")


@pytest.fixture
def write_manifest() -> Callable[..., pa.Table]:
    """Writes a manifest of 24, 4 and 4 dialogues of 4 utterances; ``change`` replaces each by another, or removes
    it.
    """

    def write(layout: Layout, change: Callable[[Dialogue], Dialogue | None] = lambda one: one) -> pa.Table:
        changed = [other for one in _dialogues() if (other := change(one)) is not None]
        table = building.build(layout.dataset, changed, label_set("meld7"))
        manifest.write(layout.manifest, table)
        return table

    return write


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Returns the folder of a tiny BERT; ``pooler=False``: without the weights of a pooler, like a checkpoint from
    masked-language-model training.
    """
    made: dict[bool, Path] = {}

    def folder(*, pooler: bool = True) -> Path:
        if pooler not in made:
            made[pooler] = tmp_path_factory.mktemp("bert")
            _save_bert(made[pooler], pooler)
        return made[pooler]

    return folder


def _save_bert(folder: Path, pooler: bool) -> None:
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertForMaskedLM, BertModel, PreTrainedTokenizerFast

    words = sorted({word for group in EMOTIONS.values() for word in group} | set(FILLERS) | {"ann", "bob", ":"})
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=64, model_input_names=["input_ids", "attention_mask"], **names
    ).save_pretrained(folder)
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64,
        hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1, initializer_range=0.1,
    )  # fmt: skip
    (BertModel if pooler else BertForMaskedLM)(config).save_pretrained(folder)


@pytest.fixture(scope="session")
def wav2vec2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny wav2vec 2.0 with group norm, whose convolutions have their real kernels and strides."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    folder = tmp_path_factory.mktemp("wav2vec2")
    torch.manual_seed(3)
    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=[8] * 7,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2, vocab_size=8, layerdrop=0.0, initializer_range=0.2,
    )  # fmt: skip
    Wav2Vec2Model(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(folder)
    return folder


_SETTINGS: dict[str, Any] = {
    "encoder": {}, "method": "full", "epochs": 6, "batch_utterances": 4, "pool_batches": 2, "learning_rate": 0.005,
    "head_learning_rate": 0.01,
    "weight_decay": 0.01, "warmup_share": 0.1, "head_dropout": 0.0, "gradient_clip": 1.0, "seed": 0, "threads": 1,
}  # fmt: skip


@pytest.fixture
def config() -> Callable[..., AdaptationConfig]:
    """Returns the settings of a training; changed ones by name."""
    return lambda **changed: AdaptationConfig(**{**_SETTINGS, **changed})


@pytest.fixture
def params(
    bert: Callable[..., Path], wav2vec2: Path, spectrogram_checkpoint: Callable[[str], Path], layout: Layout
) -> Callable[..., Params]:
    """Returns settings with tiny encoders (``plain`` and ``no_pooler``; ``sound``, ``tiny_whisper``, ``long_whisper``
    with an input of 3 s, and ``tiny_ast``) and some adapted ones; further settings of the training by name.
    """
    words = {"licence": "none", "training_data_overlap": "none known (random numbers)"}
    text = {"family": "transformer", "pooling": "mean", "max_tokens": 64, "tokens_per_batch": 200, **words}
    sound = {
        "family": "waveform", "repo": str(wav2vec2), "pooling": "mean", "window_seconds": 1.0, "overlap_seconds": 0.2,
        "minimum_seconds": 0.1,
        "samples_per_batch": 40_000, **words,
    }  # fmt: skip

    spectrograms = {
        name: {
            "family": "spectrogram",
            "repo": str(spectrogram_checkpoint(kind)),
            "overlap_seconds": 0.2,
            **words,
        }
        for name, kind in (
            ("tiny_whisper", "whisper"),
            ("long_whisper", "whisper of three seconds"),
            ("tiny_ast", "ast"),
        )
    }

    def make(**settings: Any) -> Params:
        block = {**_SETTINGS, **settings}
        of_text = {
            **block,
            "encoder": {"speaker_names": False, **block["encoder"]},
        }  # unlike the shipped one
        encoders = {
            "text": {
                "ngrams": {
                    "family": "ngrams",
                    "word_dims": 8,
                    "char_dims": 8,
                    "word_ngrams": [1, 1],
                    "char_ngrams": [2, 2],
                },
                "plain": {**text, "repo": str(bert())},
                "no_pooler": {**text, "repo": str(bert(pooler=False))},
                "plain_adapted": {
                    **text,
                    "repo": str(layout.adapted("text", "plain-full")),
                    "made_by": "merc-adapt …",
                    **block["encoder"],
                },
            },
            "audio": {
                name: {**block, "repo": repo}
                for one, block in {"sound": sound, **spectrograms}.items()
                for name, repo in (
                    (one, block["repo"]),
                    (f"{one}_adapted", str(layout.adapted("audio", f"{one}-full"))),
                )
            },
            "visual": {},
        }
        return Params({"encoders": encoders, "adaptations": {"text": {"full": of_text}, "audio": {"full": block}}})

    return make


@pytest.fixture
def tone() -> Callable[[str, int], np.ndarray]:
    """Returns the audio of an emotion, a different one for every number."""
    return _tone


def _tone(emotion: str, number: int) -> np.ndarray:
    """0.2 to 0.5 seconds of audio whose pitch determines the emotion."""
    seconds = np.arange(3200 + 700 * (number % 8)) / 16_000
    pitch = {"joy": 900.0, "sadness": 150.0, "neutral": 400.0}[emotion]
    rng = np.random.default_rng(number)
    return (0.3 * np.sin(2 * np.pi * pitch * seconds) + 0.01 * rng.standard_normal(seconds.size)).astype(np.float32)


@pytest.fixture
def write_sound() -> Callable[..., None]:
    """Writes the media of a manifest: a tone for each utterance; the rows in ``silent`` have none."""

    def write(layout: Layout, table: pa.Table, silent: Sequence[int] = ()) -> None:
        rows: list[dict[str, Any]] = []
        for row, one in enumerate(table.select(["utterance_id", "dialogue_id", "emotion"]).to_pylist()):
            empty = {
                one.name: (
                    None
                    if one.nullable
                    else []
                    if pa.types.is_list(one.type)
                    else ""
                    if pa.types.is_string(one.type)
                    else 0
                )
                for one in media_tables.SCHEMA
            }
            buffer = io.BytesIO()
            soundfile.write(buffer, _tone(one["emotion"], row), 16_000, format="FLAC", subtype="PCM_16")
            heard = (
                {"audio": b"", "audio_status": "no_audio_stream"}
                if row in silent
                else {"audio": buffer.getvalue(), "audio_status": "ok"}
            )
            rows.append(
                {
                    **empty,
                    "utterance_id": one["utterance_id"],
                    "dialogue_id": one["dialogue_id"],
                    "truncated": False,
                    **heard,
                }
            )
        job = Job(
            "media",
            layout.media,
            layout.scratch,
            Fingerprint({"media": {}}, {"streams": {"audio": table["utterance_id"].to_pylist()}}),
        )
        job.start()
        for index, (start, stop) in enumerate(manifest.cut_into_parts(table, 20)):
            pq.write_table(pa.Table.from_pylist(rows[start:stop], schema=media_tables.SCHEMA), job.part(index))
            job.mark_done(index, [])
        pq.write_table(failures.table([]), job.folder / "failures.parquet")
        job.finish({})

    return write
