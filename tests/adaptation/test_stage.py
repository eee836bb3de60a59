"""The stage as a whole: an encoder that learned, saved so that it can be used like any other, and refusals of data from
which nothing can be learned.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from merc import files
from merc.adaptation.stage import adapt, choose
from merc.encoders.engine.base import UtteranceInput
from merc.encoders.engine.checkpoint import check, content_hash
from merc.encoders.engine.registry import build
from merc.encoders.engine.registry import choose as choose_encoder
from merc.errors import BadSettings, BadTable, ModelUnavailable, RawDataMissing, SettingsDiffer
from merc.extraction.config import Config as ExtractionConfig
from merc.extraction.stage import extract
from merc.job import RunOptions
from merc.layout import Layout
from merc.params import Params
from merc.records.dialogue import Dialogue
from merc.shards.config import Config as ShardsConfig
from merc.shards.stage import build_shards

RUN = RunOptions(workers=1, device="cpu", offline=True)
MakeParams = Callable[..., Params]
WriteManifest = Callable[..., Any]
Change = Callable[[Dialogue], Dialogue]


def _adapt(
    params: Params, layout: Layout, encoder: str = "plain", modality: str = "text", settings: str = "full", **more: Any
) -> Path:
    return adapt(choose(params, modality=modality, encoder=encoder, settings=settings), layout, RUN, **more)


def _extract(params: Params, layout: Layout, encoder: str = "plain_adapted", modality: str = "text") -> Path:
    return extract(choose_encoder(params, modality, encoder), ExtractionConfig(), layout, RUN)


def _digests(folder: Path) -> Mapping[str, str]:
    return {path.name: files.sha256(path) for path in sorted(folder.iterdir())}


@pytest.fixture
def adapted(made_once: Callable[..., Path], params: MakeParams, layout: Layout, write_manifest: WriteManifest) -> Path:
    """The output of a training with the plain settings; made once, and copied."""

    def make(folder: Path) -> None:
        there = replace(layout, out=folder)
        write_manifest(there)
        _adapt(params(), there)

    shutil.copytree(made_once("adapted", make), layout.out)
    return layout.adapted("text", "plain-full")


def test_it_learns_what_the_words_say_and_records_how(adapted: Path, bert: Callable[..., Path]) -> None:
    record = files.read_json(adapted / "record.json")
    assert record["dev"]["weighted_f1"] > 0.9
    assert record["test"]["weighted_f1"] > 0.9
    assert (record["corpus"], record["label_set"], record["method"], record["seed"]) == ("words", "meld7", "full", 0)
    assert record["utterances"] == {"train": 96, "dev": 16, "test": 16}
    assert record["base"]["revision"] == f"sha256:{content_hash(bert())}"
    assert record["trained_with"] == {
        "family": "transformer", "layer": -1, "pooling": "mean", "max_tokens": 64, "history_turns": 0,
        "speaker_names": False,
    }  # fmt: skip
    assert record["weights_sha256"] == files.sha256(adapted / "model.safetensors")
    assert [row["epoch"] for row in record["history"]] == [1, 2, 3, 4, 5, 6]
    assert (
        record["dev"]["weighted_f1"]
        == max(row["dev_weighted_f1"] for row in record["history"])
        == record["history"][record["epoch"] - 1]["dev_weighted_f1"]
    )


@pytest.mark.parametrize(
    "changed", [{}, {"encoder": {"speaker_names": True, "history_turns": 2}}, {"encoder": {"pooling": "first"}}]
)
def test_the_extracted_vectors_with_the_saved_classifier_give_the_recorded_scores(
    params: MakeParams, layout: Layout, write_manifest: WriteManifest, changed: dict[str, Any]
) -> None:
    from safetensors.numpy import load_file

    table = write_manifest(layout)
    settings = params(epochs=2, **changed)
    folder = _adapt(settings, layout)
    check(folder)
    out = _extract(settings, layout)
    rows = pq.read_table(out / "part-00000.parquet")
    vectors = np.array(rows["embedding"].to_pylist(), dtype=np.float32)
    head = load_file(folder / "head.safetensors")
    right = (vectors @ head["weight"].T + head["bias"]).argmax(axis=1) == table["emotion_index"].to_numpy()
    splits = np.array(table["split"].to_pylist())
    record = files.read_json(folder / "record.json")
    assert right[splits == "dev"].mean() == pytest.approx(record["dev"]["accuracy"])
    assert right[splits == "test"].mean() == pytest.approx(record["test"]["accuracy"])


def test_two_runs_and_one_that_was_killed_give_the_same_bytes(
    params: MakeParams,
    layout: Layout,
    write_manifest: WriteManifest,
    bert: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    write_manifest(layout)
    first = _digests(_adapt(params(epochs=2), layout))
    other = replace(layout, out=tmp_path / "again")
    write_manifest(other)
    with monkeypatch.context() as killing:
        killing.setattr("merc.adaptation.saving.shutil.copyfile", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            _adapt(params(epochs=2), other)
    assert not other.adapted("text", "plain-full").exists()
    assert _digests(_adapt(params(epochs=2), other)) == first
    assert str(bert()) not in (other.adapted("text", "plain-full") / "config.json").read_text()
    assert sorted(first) == [
        "config.json", "head.safetensors", "model.safetensors", "record.json", "seen.json", "tokenizer.json",
        "tokenizer_config.json",
    ]  # fmt: skip


def test_finished_work_is_found_again_and_other_settings_are_refused(
    adapted: Path, params: MakeParams, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("merc.adaptation.trainer.adapt_encoder", lambda *_: pytest.fail("trained again"))
    assert _adapt(params(), layout) == adapted
    with pytest.raises(SettingsDiffer, match=r"adaptations\.text\.full\.seed: 0 there, 1 wanted"):
        _adapt(params(seed=1), layout)


def test_finished_work_from_before_there_was_a_start_of_the_classifier_is_found_again(
    adapted: Path, params: MakeParams, layout: Layout
) -> None:
    assert set(files.read_json(adapted / "record.json")["settings"]["adaptations"]["text"]["full"]) == {
        "method", "lora", "epochs", "batch_utterances", "pool_batches", "learning_rate", "head_learning_rate",
        "weight_decay", "warmup_share", "head_dropout", "gradient_clip", "seed", "threads",
    }  # fmt: skip
    with pytest.raises(SettingsDiffer, match=r"adaptations\.text\.full\.head_start"):
        _adapt(params(head_start="probe"), layout)


def test_a_training_from_a_probe_records_epoch_0_and_its_vectors_give_the_recorded_scores(
    params: MakeParams, layout: Layout, write_manifest: WriteManifest
) -> None:
    from safetensors.numpy import load_file

    table = write_manifest(layout)
    # Steps this small change no prediction, so that no epoch is better than epoch 0.
    settings = params(head_start="probe", epochs=1, learning_rate=1e-9, head_learning_rate=1e-9)
    folder = _adapt(settings, layout)
    record = files.read_json(folder / "record.json")
    assert record["settings"]["adaptations"]["text"]["full"]["head_start"] == "probe"
    assert record["epoch"] == 0
    assert [row["epoch"] for row in record["history"]] == [0, 1]
    assert record["dev_weighted_f1"] == record["history"][0]["dev_weighted_f1"]
    rows = pq.read_table(_extract(settings, layout) / "part-00000.parquet")
    vectors = np.array(rows["embedding"].to_pylist(), dtype=np.float32)
    head = load_file(folder / "head.safetensors")
    logits = vectors @ head["weight"].T + head["bias"]
    assert set(logits.argmax(axis=1)) <= set(table["emotion_index"].to_numpy())  # three of the seven classes of meld7
    right, splits = logits.argmax(axis=1) == table["emotion_index"].to_numpy(), np.array(table["split"].to_pylist())
    assert right[splits == "test"].mean() == pytest.approx(record["test"]["accuracy"])


def test_another_seed_under_another_name_is_next_to_it_and_has_other_weights(
    params: MakeParams, layout: Layout, write_manifest: WriteManifest
) -> None:
    write_manifest(layout)
    first, other = _adapt(params(epochs=1), layout), _adapt(params(epochs=1, seed=1), layout, name="seed1")
    assert (other.parent, other.name) == (first.parent, "plain-seed1")
    weights = [files.read_json(folder / "record.json")["weights_sha256"] for folder in (first, other)]
    assert weights[0] != weights[1]


def test_the_labels_of_the_test_split_change_nothing_but_their_score(
    adapted: Path, params: MakeParams, layout: Layout, write_manifest: WriteManifest
) -> None:
    before = files.read_json(adapted / "record.json")
    write_manifest(layout, _labelled({"test": "fear"}))
    after = files.read_json(_adapt(params(), layout) / "record.json")
    assert after["test"] != before["test"]
    assert [after[key] for key in ("weights_sha256", "epoch", "dev", "history")] == [
        before[key] for key in ("weights_sha256", "epoch", "dev", "history")
    ]


def test_a_corpus_without_test_labels_has_no_test_score(
    params: MakeParams, layout: Layout, write_manifest: WriteManifest
) -> None:
    write_manifest(layout, lambda one: None if one.split == "test" else one)
    assert files.read_json(_adapt(params(epochs=1), layout) / "record.json")["test"] == {}


def _with(dialogue: Dialogue, **changed: str) -> Dialogue:
    """The dialogue with all its utterances changed this way."""
    return replace(dialogue, utterances=tuple(replace(utterance, **changed) for utterance in dialogue.utterances))


def _labelled(emotions: Mapping[str, str]) -> Change:
    """Gives all utterances of a split one label."""
    return lambda one: _with(one, emotion=emotions[one.split]) if one.split in emotions else one


@pytest.mark.parametrize(
    ("emotions", "words"),
    [
        (
            {"train": "frustrated"},
            (
                "words: none of its 96 train utterances has a label of meld7 (neutral, surprise, fear, sadness, joy,"
                " disgust, anger)"
            ),
        ),
        ({"dev": "frustrated"}, "none of its 16 dev utterances has a label of meld7"),
        ({"train": "joy"}, "all labelled train utterances are 'joy'; an adaptation needs at least two classes"),
    ],
)
def test_labels_that_teach_nothing_are_refused(
    params: MakeParams, layout: Layout, write_manifest: WriteManifest, emotions: dict[str, str], words: str
) -> None:
    write_manifest(layout, _labelled(emotions))
    with pytest.raises(BadSettings) as error:
        _adapt(params(), layout)
    assert words in str(error.value)


def test_without_a_manifest_the_stage_before_is_named(params: MakeParams, layout: Layout) -> None:
    with pytest.raises(RawDataMissing, match="there is no manifest; run the stage manifest first"):
        _adapt(params(), layout)


@pytest.mark.parametrize(
    ("changed", "wanted", "words"),
    [
        ({}, {"modality": "visual"}, "no encoder of 'visual' can be adapted; valid: audio, text"),
        (
            {},
            {"encoder": "ngrams"},
            "the family ngrams has no weights that can be adapted; valid: transformer, waveform, spectrogram",
        ),
        ({}, {"encoder": "plane"}, "no text encoder 'plane'; did you mean 'plain'?"),
        ({}, {"settings": "ful"}, "no fine-tuning of text 'ful'; did you mean 'full'?"),
        ({"encoder": {"dtype": "bfloat16"}}, {}, "dtype is bfloat16; weights are adapted in float32"),
        (
            {"encoder": {"speaker_name": True}},
            {},
            "unknown key encoders.text.plain.speaker_name; did you mean 'speaker_names'?",
        ),
        ({"method": "lora"}, {}, "method lora, and a block lora is missing"),
        (
            {"lora": {"rank": 2, "alpha": 4, "dropout": 0.0, "modules": "all-linear"}},
            {},
            "method full, and a block lora that it does not use",
        ),
        (
            {"encoder": {"pooling": "mean_std"}},
            {"modality": "audio", "encoder": "sound"},
            "an encoder with pooling mean_std cannot be adapted; valid: mean",
        ),
        (
            {"encoder": {"pooling": "mean_std"}},
            {"modality": "audio", "encoder": "tiny_whisper"},
            "pooling mean_std cannot be adapted; valid: mean, and of AST first and cls_and_distillation",
        ),
    ],
)
def test_what_cannot_be_adapted_is_refused_by_name(
    params: MakeParams,
    layout: Layout,
    write_manifest: WriteManifest,
    changed: dict[str, Any],
    wanted: dict[str, str],
    words: str,
) -> None:
    write_manifest(layout)
    with pytest.raises(BadSettings) as error:
        _adapt(params(**changed), layout, **wanted)
    assert words in str(error.value)


def test_an_adapted_encoder_is_not_adapted_again(adapted: Path, params: MakeParams, layout: Layout) -> None:
    with pytest.raises(BadSettings, match=r"is already adapted, on words; name the encoder that it came from"):
        _adapt(params(), layout, "plain_adapted")


def test_a_checkpoint_without_a_pooler_gets_none(adapted: Path, params: MakeParams, layout: Layout) -> None:
    from safetensors import safe_open

    names = {}
    for encoder, folder in (("plain", adapted), ("no_pooler", _adapt(params(), layout, "no_pooler"))):
        with safe_open(folder / "model.safetensors", "numpy") as weights:
            names[encoder] = set(weights.keys())
    assert {name for name in names["plain"] if "pooler" in name} == {"pooler.dense.weight", "pooler.dense.bias"}
    assert names["no_pooler"] == {name for name in names["plain"] if "pooler" not in name}
    assert files.read_json(layout.adapted("text", "no_pooler-full") / "record.json")["dev"]["weighted_f1"] > 0.9


def test_the_folder_says_of_which_command_it_is_where_it_is_missing(
    params: MakeParams, layout: Layout, write_manifest: WriteManifest
) -> None:
    write_manifest(layout)
    with pytest.raises(ModelUnavailable, match=r"there is no model folder .*; this makes it:\n  merc-adapt …"):
        _extract(params(), layout)
    assert build(params(), "text", "plain_adapted").missing() == "merc-adapt …"


def test_it_is_not_used_with_other_settings_than_in_the_training(
    params: MakeParams, layout: Layout, write_manifest: WriteManifest
) -> None:
    write_manifest(layout)
    _adapt(params(encoder={"speaker_names": True}), layout)
    with pytest.raises(
        BadSettings, match="it was adapted with other settings; speaker_names: True in the training, False now"
    ):
        _extract(params(), layout)


def test_dev_and_test_utterances_that_it_was_trained_on_are_not_encoded(
    adapted: Path, params: MakeParams, layout: Layout, write_manifest: WriteManifest, tmp_path: Path
) -> None:
    def moved(by: Mapping[str, str]) -> Change:
        return lambda one: replace(one, split=by.get(one.split, one.split))

    same_texts = Layout(tmp_path / "raw", tmp_path / "features", "under-another-name")
    for by, words in (
        (
            {"train": "test", "test": "train"},
            "96 test utterances, the first 'test/train0_0', were in the train split of words",
        ),
        (
            {"train": "dev", "dev": "train"},
            "96 dev utterances, the first 'dev/train0_0', were in the train split of words",
        ),
        ({"dev": "test", "test": "dev"}, "16 test utterances, the first 'test/dev0_0', were in the dev split of words"),
    ):
        write_manifest(same_texts, moved(by))
        with pytest.raises(BadSettings) as error:
            _extract(params(), same_texts)
        assert words in str(error.value)
    write_manifest(same_texts, moved({"test": "train"}))
    _extract(params(), same_texts)
    other = Layout(tmp_path / "raw", tmp_path / "features", "other")
    write_manifest(
        other,
        lambda one: _with(replace(one, split={"train": "test", "test": "train"}.get(one.split, "dev")), speaker="Cyd"),
    )
    _extract(params(), other)


def test_shards_say_that_their_encoder_was_adapted_and_on_what(
    adapted: Path, params: MakeParams, layout: Layout
) -> None:
    from merc.shards.card.writing import write_card

    files.write_json(
        layout.folder / "manifest.json",
        {"source": "", "deviations": [], "failures": [], "settings": {"corpora": {"words": {}}}},
    )
    pq.write_table(_no_failures(), _made(layout.media) / "failures.parquet")
    _extract(params(), layout)
    shards = build_shards(ShardsConfig(), layout, RUN, encoders={"text": "plain_adapted"})
    facts = files.read_json(shards / "meta" / "info.json")["encoders"]["text"]
    assert (facts["tag"], facts["adapted"]["corpus"], facts["adapted"]["method"]) == ("adapted", "words", "full")
    assert facts["encoder"] == "folder with a bert model, adapted"
    assert facts["training_data_overlap"].startswith(
        "words: fine-tuned on the emotion labels of its train split, selected on dev; before that: none known"
    )
    write_card(shards)
    card = (shards / "README.md").read_text()
    assert "| text | plain_adapted | folder with a bert model, adapted | adapted |" in card
    assert (
        "overlap of its training data with IEMOCAP and MELD: words: fine-tuned on the emotion labels of its train split"
        in card
    )


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _no_failures() -> Any:
    from merc.records import failures

    return failures.table([])


def test_audio_is_learned_and_its_convolutions_stay_as_they_are(
    params: MakeParams, layout: Layout, write_manifest: WriteManifest, write_sound: Callable[..., None], wav2vec2: Path
) -> None:
    from safetensors.numpy import load_file

    table = write_manifest(layout)
    write_sound(layout, table, silent=[0, 100])
    folder = _adapt(params(epochs=6, learning_rate=0.005), layout, "sound", "audio")
    record = files.read_json(folder / "record.json")
    assert record["dev"]["weighted_f1"] > 0.8
    assert record["utterances"] == {"train": 96, "dev": 16, "test": 16}  # utterances without audio count as well
    before, after = load_file(wav2vec2 / "model.safetensors"), load_file(folder / "model.safetensors")
    assert before.keys() - after.keys() == set()
    same = {name for name in before if np.array_equal(before[name], after[name])}
    assert {name for name in before if name.startswith("feature_extractor.")} <= same
    assert not {name for name in same if name.startswith("encoder.layers.") and "weight" in name}
    out = _extract(params(), layout, "sound_adapted", "audio")
    assert files.read_json(out / "record.json")["counts"]["absent"] == {"no_audio_stream": 2}


@pytest.mark.parametrize("name", ["tiny_whisper", "tiny_ast"])
def test_models_of_spectrograms_learn_and_are_read_again(
    params: MakeParams, layout: Layout, write_manifest: WriteManifest, write_sound: Callable[..., None], name: str
) -> None:
    from safetensors.numpy import load_file

    table = write_manifest(layout)
    write_sound(layout, table, silent=[0])
    folder = _adapt(params(epochs=6, learning_rate=0.002), layout, name, "audio")
    record = files.read_json(folder / "record.json")
    assert record["dev"]["weighted_f1"] > 0.8
    rows = pq.read_table(_extract(params(), layout, f"{name}_adapted", "audio") / "part-00000.parquet")
    vectors = np.array(rows["embedding"].to_pylist(), dtype=np.float32)
    head = load_file(folder / "head.safetensors")
    right = (vectors @ head["weight"].T + head["bias"]).argmax(axis=1) == table["emotion_index"].to_numpy()
    test = np.array(table["split"].to_pylist()) == "test"
    assert right[test].mean() == pytest.approx(record["test"]["accuracy"])


def test_a_whisper_adapted_with_a_shorter_input_keeps_its_whole_table_and_is_used_with_that_input(
    params: MakeParams, layout: Layout, write_manifest: WriteManifest, write_sound: Callable[..., None]
) -> None:
    from safetensors.numpy import load_file

    table = write_manifest(layout)
    write_sound(layout, table)
    settings = params(epochs=4, learning_rate=0.002, encoder={"input_seconds": 1})
    folder = _adapt(settings, layout, "long_whisper", "audio")
    record = files.read_json(folder / "record.json")
    assert record["trained_with"]["input_seconds"] == 1.0
    assert record["base"]["window_seconds"] == 1.0
    source = Path(settings.get("encoders")["audio"]["long_whisper"]["repo"])
    before, after = (load_file(one / "model.safetensors") for one in (source, folder))
    assert before.keys() == after.keys()
    positions = "encoder.embed_positions.weight"
    assert after[positions].shape == (150, 32)
    changed = (after[positions] != before[positions]).any(axis=1)
    assert changed.tolist() == [True] * 50 + [False] * 100  # only the rows of one second were there to be trained
    assert not np.array_equal(after["encoder.conv1.weight"], before["encoder.conv1.weight"])
    assert files.read_json(folder / "config.json")["max_source_positions"] == 150

    with pytest.raises(BadSettings, match=r"other settings; input_seconds: 1\.0 in the training, None now"):
        _extract(settings, layout, "long_whisper_adapted", "audio")
    key = "encoders__audio__long_whisper_adapted__input_seconds"
    with pytest.raises(BadSettings, match=r"input_seconds: 1\.0 in the training, 2\.0 now"):
        _extract(settings.with_overrides(**{key: 2}), layout, "long_whisper_adapted", "audio")
    out = _extract(settings.with_overrides(**{key: 1}), layout, "long_whisper_adapted", "audio")
    rows = pq.read_table(out / "part-00000.parquet")
    vectors = np.array(rows["embedding"].to_pylist(), dtype=np.float32)
    head = load_file(folder / "head.safetensors")
    right = (vectors @ head["weight"].T + head["bias"]).argmax(axis=1) == table["emotion_index"].to_numpy()
    test = np.array(table["split"].to_pylist()) == "test"
    assert right[test].mean() == pytest.approx(record["test"]["accuracy"])


def test_a_whisper_adapted_with_its_whole_input_is_refused_with_a_shorter_one(
    params: MakeParams, layout: Layout, write_manifest: WriteManifest, write_sound: Callable[..., None]
) -> None:
    write_sound(layout, write_manifest(layout))
    _adapt(params(epochs=1), layout, "long_whisper", "audio")
    assert (
        "input_seconds"
        not in files.read_json(layout.adapted("audio", "long_whisper-full") / "record.json")["trained_with"]
    )
    shorter = params().with_overrides(encoders__audio__long_whisper_adapted__input_seconds=1)
    with pytest.raises(BadSettings, match=r"other settings; input_seconds: None in the training, 1\.0 now"):
        _extract(shorter, layout, "long_whisper_adapted", "audio")


def test_an_adapted_encoder_may_be_used_in_another_dtype(adapted: Path, params: MakeParams) -> None:
    rough = params().with_overrides(encoders__text__plain_adapted__dtype="bfloat16")
    assert build(rough, "text", "plain_adapted").identity()["dtype"] == "bfloat16"


def test_utterances_without_words_are_not_trained_on_but_count_in_the_score(
    params: MakeParams, layout: Layout, write_manifest: WriteManifest
) -> None:
    write_manifest(
        layout, lambda one: replace(one, utterances=(replace(one.utterances[0], text="  "), *one.utterances[1:]))
    )
    record = files.read_json(_adapt(params(), layout) / "record.json")
    assert record["utterances"] == {"train": 96, "dev": 16, "test": 16}
    assert record["dev"]["accuracy"] < 1


def test_a_corpus_without_any_words_is_refused(
    params: MakeParams, layout: Layout, write_manifest: WriteManifest
) -> None:
    write_manifest(layout, lambda one: _with(one, text=""))
    with pytest.raises(BadSettings, match="none of the 96 labelled train utterances has anything to encode"):
        _adapt(params(), layout)


def test_the_record_of_what_was_seen_must_be_there(adapted: Path, params: MakeParams, layout: Layout) -> None:
    shutil.copytree(adapted, adapted.parent / "copy")
    (adapted.parent / "copy" / "seen.json").unlink()
    changed = params().with_overrides(encoders__text__plain_adapted__repo=str(adapted.parent / "copy"))
    with pytest.raises(BadTable, match="it is unknown which utterances the encoder has seen"):
        _extract(changed, layout)


def test_a_frozen_and_an_adapted_encoder_give_other_vectors(adapted: Path, params: MakeParams) -> None:
    vectors = []
    for name in ("plain", "plain_adapted"):
        encoder = build(params(), "text", name)
        encoder.load("cpu")
        vectors.append(encoder.encode([UtteranceInput(utterance_id="u", text="glad")]).embeddings)
    assert np.abs(vectors[0] - vectors[1]).max() > 0.1
