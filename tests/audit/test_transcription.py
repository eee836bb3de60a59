"""A Whisper transcribes clips, the same alone and in a batch; other models are refused."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

from merc.audit import transcription
from merc.audit.config import Config
from merc.audit.transcription import Transcriber
from merc.audit.wording import letters
from merc.encoders.engine.checkpoint import Checkpoint
from merc.errors import BadSettings, ModelUnavailable

from .conftest import SPECIAL, WORDS, save_whisper, voice

CLIPS = [voice(seconds, 120 + 15 * seed, seed) for seed, seconds in enumerate((0.9, 0.4, 0.02, 0.7))]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _loaded(folder: Path, device: str = "cpu", **settings: Any) -> Transcriber:
    made = Transcriber(Config(**settings), Checkpoint(str(folder)))
    made.load(device)
    return made


def _greedy(made: Transcriber, sound: np.ndarray, language: str, most: int) -> list[int]:
    """Token by token without a cache, as in the definition."""
    features = torch.from_numpy(made._prepare([sound])["spectrograms"])
    tokens = [
        SPECIAL.index(one) + len(WORDS)
        for one in ("<|startoftranscript|>", f"<|{language}|>", "<|transcribe|>", "<|notimestamps|>")
    ]
    begin = len(tokens)
    with torch.inference_mode():
        while len(tokens) < begin + most:
            logits = made._model(input_features=features, decoder_input_ids=torch.tensor([tokens])).logits[0, -1]
            logits[len(WORDS) + 1 :] = -torch.inf
            if len(tokens) == begin:
                logits[len(WORDS)] = -torch.inf
            tokens.append(int(logits.argmax()))
            if tokens[-1] == len(WORDS):
                return tokens[begin:-1]
    return tokens[begin:]


def test_each_clip_is_decoded_greedily_as_it_would_be_alone(whisper: Path, device: str) -> None:
    made = _loaded(whisper, device, windows_per_batch=3)
    texts = made.transcribe(CLIPS, "de")
    assert texts == [made.transcribe([clip], "de")[0] for clip in CLIPS]
    assert len({*texts}) > 1
    here = _loaded(whisper)
    for clip, text in zip(CLIPS, texts, strict=True):
        assert text.split() == [
            WORDS[token] for token in _greedy(here, clip, "de", transcription._most_tokens(len(clip)))
        ]


def test_a_clip_longer_than_the_window_is_transcribed_in_pieces(whisper: Path) -> None:
    made = _loaded(whisper)
    long = np.concatenate([CLIPS[0], CLIPS[3], CLIPS[1]])
    half = len(long) // 2 // 320 * 320
    pieces = made.transcribe([long[:half], long[half:]], "en")
    assert len(made.transcribe([long], "en")) == 1
    assert len(made.transcribe([long], "en")[0].split()) >= len(pieces[0].split())


def test_the_language_is_that_of_the_settings_or_the_likeliest_over_the_clips(whisper: Path) -> None:
    assert _loaded(whisper, language="zh").language_of(CLIPS) == "zh"
    made = _loaded(whisper)
    assert made.language_of(CLIPS) in ("en", "de", "zh")
    assert made.language_of(CLIPS) == made.language_of(CLIPS)
    assert made.language_of([]) == "en"


def test_a_language_that_the_model_does_not_know_is_refused(whisper: Path) -> None:
    with pytest.raises(BadSettings, match=r"audit\.language: .* does not know 'fr'; valid: de, en, zh"):
        _loaded(whisper, language="fr")


def test_a_model_that_knows_no_words_hears_nothing(mute_whisper: Path) -> None:
    texts = _loaded(mute_whisper).transcribe(CLIPS, "en")
    assert [letters(text) for text in texts] == [""] * len(CLIPS)


def test_no_clips_give_no_texts(whisper: Path) -> None:
    assert _loaded(whisper).transcribe([], "en") == []


def _bert(folder: Path, _: Path) -> None:
    BertModel(
        BertConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    ).save_pretrained(folder)


def _encoder_alone(folder: Path, whisper: Path) -> None:
    shutil.copytree(whisper, folder, dirs_exist_ok=True)
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: value for name, value in weights.items() if "encoder." in name},
        folder / "model.safetensors",
        {"format": "pt"},
    )


def _other_rate(folder: Path, whisper: Path) -> None:
    shutil.copytree(whisper, folder, dirs_exist_ok=True)
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "sampling_rate": 8000}))


def _without_start(folder: Path, _: Path) -> None:
    save_whisper(folder, special=("<|endoftext|>", "<|begin|>", *SPECIAL[2:]))


def _not_finite(folder: Path, whisper: Path) -> None:
    shutil.copytree(whisper, folder, dirs_exist_ok=True)
    weights = load_file(folder / "model.safetensors")
    weights["model.decoder.layer_norm.weight"][0] = torch.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _empty(folder: Path, _: Path) -> None:
    folder.mkdir(exist_ok=True)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_bert, "a model of the type 'bert', which does not transcribe"),
        (_encoder_alone, "of the weights of a WhisperForConditionalGeneration are not in its files"),
        (_not_finite, "some of its weights are not finite"),
        (_other_rate, "takes audio with 8000 samples per second"),
        (_without_start, r"its tokenizer has no <\|startoftranscript\|>"),
        (_empty, r"no config\.json, so this is not a transformers model"),
    ],
)
def test_a_folder_that_is_not_a_whisper_is_refused(make: Any, words: str, whisper: Path, tmp_path: Path) -> None:
    make(tmp_path / "model", whisper)
    made = Transcriber(Config(), Checkpoint(str(tmp_path / "model")))
    with pytest.raises(BadSettings, match=words):
        made.identity() and made.load("cpu")


def test_a_half_written_model_is_refused_before_anything_is_listened_to(whisper: Path, tmp_path: Path) -> None:
    shutil.copytree(whisper, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelUnavailable, match="incomplete"):
        Transcriber(Config(), Checkpoint(str(tmp_path / "model"))).identity()


@pytest.fixture(scope="session")
def real_whisper() -> Path:
    """The folder of a real Whisper, named by MERC_REAL_WHISPER; the test is skipped without it."""
    folder = os.environ.get("MERC_REAL_WHISPER")
    if not folder:
        pytest.skip("MERC_REAL_WHISPER is not set: no real Whisper to test with")
    return Path(folder)


def _read(real_data: Path) -> Sequence[np.ndarray]:
    return [soundfile.read(real_data / "media" / f"spk1_snt{number}.wav", dtype="float32")[0] for number in (1, 2)]


def test_a_real_whisper_writes_down_the_sentences_of_the_shared_recordings(real_whisper: Path, real_data: Path) -> None:
    made = _loaded(real_whisper)
    sounds = _read(real_data)
    assert made.language_of(sounds) == "en"
    texts = made.transcribe(sounds, "en")
    assert [letters(text) for text in texts] == ["thechildalmosthurtthesmalldog", "dropthetwowhenyouaddthefigures"]
