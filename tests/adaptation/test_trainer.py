"""The training loop compared with a plain one written only with transformers, and its pieces with hand-computed
values.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from merc.adaptation import probe
from merc.adaptation.config import Config as AdaptationConfig
from merc.adaptation.examples import Examples
from merc.adaptation.scoring import scores
from merc.adaptation.stage import choose
from merc.adaptation.trainer import _Training, adapt_encoder
from merc.encoders.engine.base import UtteranceInput
from merc.errors import BadSettings, PipelineError
from merc.params import Params

MakeConfig = Callable[..., AdaptationConfig]
TEXTS = (
    "glad",
    "we saw a door",
    "it then the dull street there",
    "a sweet day",
    "lost",
    "the grey table",
    "we saw it then",
    "bright street",
)
LABELS = (0, 1, 2, 0, 2, 1, 1, 0)


def _examples(texts: Sequence[str] = TEXTS) -> dict[str, Examples]:
    made = Examples(
        "train",
        [UtteranceInput(utterance_id=str(at), text=text) for at, text in enumerate(texts)],
        np.array(LABELS[: len(texts)]),
    )
    return {"train": made, "dev": made, "test": Examples("test", [], np.zeros(0, dtype=np.int64))}


def _loaded(params: Params, modality: str = "text", name: str = "plain") -> Any:
    encoder = choose(params, modality=modality, encoder=name, settings="full").trainable(offline=True)
    encoder.load("cpu")
    return encoder


def _without_dropout(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout_prob"):
            module.dropout_prob = 0.0


@pytest.mark.parametrize("tokens_per_batch", [1000, 12])
def test_the_weights_are_those_of_a_plain_loop(
    params: Callable[..., Params], config: MakeConfig, bert: Callable[..., Path], tokens_per_batch: int
) -> None:
    """Also if the utterances of a step are computed in several pieces."""
    from transformers import AutoModel, AutoTokenizer

    encoder = _loaded(params())
    encoder.budget.units = tokens_per_batch
    _without_dropout(encoder.model)
    settings = {
        "epochs": 2,
        "batch_utterances": 3,
        "pool_batches": 1,
        "warmup_share": 0.25,
        "learning_rate": 0.002,
        "weight_decay": 0.1,
        "gradient_clip": 0.5,
    }
    training = _Training(encoder, _examples(), 3, config(**settings), "cpu")
    head = nn.Linear(16, 3)
    head.load_state_dict(training.head.state_dict())
    # Three batches an epoch, six steps, a quarter of them (1.5, rounded to 2) of warm-up.
    batches = [batch.tolist() for epoch in (1, 2) for batch in _trained_on(training, epoch)]
    factors = (1 / 3, 2 / 3, 1, 3 / 4, 2 / 4, 1 / 4)

    model, tokenizer = AutoModel.from_pretrained(bert()).eval(), AutoTokenizer.from_pretrained(bert())
    weights = [(weight, rate) for module, rate in ((model, 0.002), (head, 0.01)) for weight in module.parameters()]
    optimizer = torch.optim.AdamW(
        [{"params": [weight], "weight_decay": 0.1 if weight.ndim > 1 else 0.0} for weight, _ in weights]
    )
    for batch, factor in zip(batches, factors, strict=True):
        loss = torch.zeros(())
        for index in batch:
            vector = model(**tokenizer(TEXTS[index], return_tensors="pt")).last_hidden_state[0].mean(dim=0)
            loss = loss - head(vector).log_softmax(dim=0)[LABELS[index]] / len(batch)
        optimizer.zero_grad()
        loss.backward()
        gradients = [weight.grad for weight, _ in weights if weight.grad is not None]
        norm = float(torch.sqrt(sum((gradient**2).sum() for gradient in gradients)))
        for gradient in gradients:
            gradient.mul_(min(1.0, 0.5 / norm))
        for group, (_, rate) in zip(optimizer.param_groups, weights, strict=True):
            group["lr"] = factor * rate
        optimizer.step()
    for name, weight in model.named_parameters():
        # Adam divides by the size of a gradient: where that is nearly 0, rounding determines the direction, by at most
        # one step.
        torch.testing.assert_close(encoder.model.get_parameter(name), weight, atol=5e-4, rtol=0, msg=name)
    assert (
        torch.dist(
            encoder.model.get_parameter("embeddings.word_embeddings.weight"),
            _loaded(params()).model.embeddings.word_embeddings.weight,
        )
        > 0.05
    )
    torch.testing.assert_close(training.head.weight, head.weight, atol=2e-4, rtol=0)


def _trained_on(training: Any, epoch: int) -> list[np.ndarray]:
    """Trains for an epoch; returns the batches in order."""
    taken: list[np.ndarray] = []
    inner = training._step
    training._step = lambda batch: taken.append(batch) or inner(batch)
    training._epoch(epoch, lambda: None)
    training._step = inner
    return taken


def test_gradients_of_audio_are_those_of_transformers(
    params: Callable[..., Params], tone: Callable[[str, int], np.ndarray], wav2vec2: Path
) -> None:
    from transformers import AutoFeatureExtractor, AutoModel

    encoder = _loaded(params(), "audio", "sound")
    _without_dropout(encoder.model)
    clips = [tone(emotion, number) for number, emotion in enumerate(("joy", "sadness", "neutral"))]
    items = encoder.training_items(
        [UtteranceInput(utterance_id=str(at), waveform=clip) for at, clip in enumerate(clips)]
    )
    inputs = {
        name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        for name, value in items.batch(np.arange(len(items.utterances))).items()
    }
    encoder.frozen_part().requires_grad_(False)
    direction = torch.randn(16, generator=torch.Generator().manual_seed(0))
    (items.vectors(inputs) @ direction).square().sum().backward()

    model, extractor = AutoModel.from_pretrained(wav2vec2).eval(), AutoFeatureExtractor.from_pretrained(wav2vec2)
    model.feature_extractor.requires_grad_(False)
    for clip in clips:
        given = extractor(clip, sampling_rate=16_000, return_tensors="pt")["input_values"]
        (model(given).last_hidden_state[0].mean(dim=0) @ direction).square().backward()
    expected = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    found = {name: weight.grad for name, weight in encoder.model.named_parameters() if weight.grad is not None}
    assert found.keys() == expected.keys()
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(
            found[name], gradient, atol=1e-5 * largest, rtol=1e-3, msg=name
        )  # the gradient of a key's bias is only rounding


@pytest.mark.parametrize("kind", ["whisper", "ast"])
def test_gradients_of_models_of_spectrograms_are_those_of_transformers(
    kind: str,
    params: Callable[..., Params],
    tone: Callable[[str, int], np.ndarray],
    spectrogram_checkpoint: Callable[[str], Path],
) -> None:
    from transformers import AutoFeatureExtractor, AutoModel

    encoder = _loaded(params(), "audio", f"tiny_{kind}")
    _without_dropout(encoder.model)
    clips = [tone(emotion, number)[:12_000] for number, emotion in enumerate(("joy", "sadness", "neutral"))]
    items = encoder.training_items(
        [UtteranceInput(utterance_id=str(at), waveform=clip) for at, clip in enumerate(clips)]
    )
    given = items.batch(np.arange(len(clips)))
    inputs = {key: torch.from_numpy(value) if isinstance(value, np.ndarray) else value for key, value in given.items()}
    direction = torch.randn(32, generator=torch.Generator().manual_seed(0))
    (items.vectors(inputs) @ direction).square().sum().backward()

    folder = spectrogram_checkpoint(kind)
    model, extractor = AutoModel.from_pretrained(folder).eval(), AutoFeatureExtractor.from_pretrained(folder)
    model = model.get_encoder() if kind == "whisper" else model
    for clip, counts_T in zip(clips, given["counts"], strict=True):
        made = extractor(clip, sampling_rate=16_000, return_tensors="pt")
        hidden_PD = model(next(iter(made.values()))).last_hidden_state[0]
        if kind == "ast":
            hidden_PD = hidden_PD[2:].reshape(-1, len(counts_T), 32).mean(dim=0)
        (hidden_PD[torch.from_numpy(counts_T)].mean(dim=0) @ direction).square().backward()
    expected = {key: weight.grad for key, weight in model.named_parameters() if weight.grad is not None}
    found = {key: weight.grad for key, weight in encoder.model.named_parameters() if weight.grad is not None}
    assert found.keys() == expected.keys()
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key], gradient, atol=1e-5 * largest, rtol=1e-3, msg=key)


@pytest.mark.parametrize("name", ["sound", "tiny_whisper"])
def test_a_long_clip_is_learned_from_window_by_window(name: str, params: Callable[..., Params]) -> None:
    encoder = _loaded(params(), "audio", name)
    noise = np.random.default_rng(0).standard_normal(40_000).astype(np.float32)
    sounds = [noise, None, noise[:8_000]]
    items = encoder.training_items(
        [UtteranceInput(utterance_id=str(at), waveform=sound) for at, sound in enumerate(sounds)]
    )
    assert items.utterances.tolist() == [0, 0, 0, 2]


def test_of_equal_epochs_the_first_is_kept_and_its_weights_come_back(
    params: Callable[..., Params], config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = _loaded(params())
    training = _Training(encoder, _examples(), 3, config(epochs=4), "cpu")
    dev = iter([0.2, 0.7, 0.7, 0.5, 0.7])
    kept: list[dict[str, torch.Tensor]] = []

    def scored(_: Examples) -> dict[str, float]:
        kept.append({name: weight.clone() for name, weight in encoder.model.state_dict().items()})
        return {"weighted_f1": next(dev), "accuracy": 0.5}

    monkeypatch.setattr(training, "_scores", scored)
    found = training.run()
    assert found.epoch == 2
    assert [row["dev_weighted_f1"] for row in found.history] == [0.2, 0.7, 0.7, 0.5]
    assert all(torch.equal(weight, kept[1][name]) for name, weight in encoder.model.state_dict().items())
    assert not all(torch.equal(weight, kept[2][name]) for name, weight in encoder.model.state_dict().items())


def _vectors(params: Params, examples: Examples) -> Any:
    return _loaded(params).encode(examples.utterances)


@pytest.mark.parametrize("lora", [None, {"rank": 2, "alpha": 4, "dropout": 0.0, "modules": "all-linear"}])
def test_a_probe_is_fitted_to_the_vectors_of_the_untouched_encoder_and_absent_ones_are_left_out(
    params: Callable[..., Params], config: MakeConfig, lora: dict[str, Any] | None
) -> None:
    if lora:
        pytest.importorskip("peft")
    texts = (*TEXTS[:3], "  ", *TEXTS[4:])
    examples = _examples(texts)
    method = "lora" if lora else "full"
    training = _Training(_loaded(params()), examples, 4, config(head_start="probe", method=method, lora=lora), "cpu")
    encoded = _vectors(params(), examples["train"])
    assert encoded.present.tolist() == [True] * 3 + [False] + [True] * 4
    expected = probe.fit(encoded, examples["train"].labels, encoded, examples["dev"].labels, 4)
    vectors, labels = encoded.embeddings[encoded.present], examples["train"].labels[encoded.present]
    slow = make_pipeline(StandardScaler(), LogisticRegression(C=expected.strength, max_iter=1000)).fit(vectors, labels)
    logits = training.head(torch.from_numpy(vectors)).detach().numpy()
    np.testing.assert_allclose(logits[:, :3], slow.decision_function(vectors), atol=1e-4, rtol=0)
    assert (logits[:, 3] < logits[:, :3].min()).all()
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert training.loss_at_start == pytest.approx(-np.log(shares[np.arange(7), labels]).mean(), abs=1e-5)


def test_dropout_before_a_fitted_classifier_keeps_the_mean_of_the_vectors(
    params: Callable[..., Params], config: MakeConfig
) -> None:
    training = _Training(_loaded(params()), _examples(), 3, config(head_start="probe", head_dropout=0.5), "cpu")
    encoded = training.encoder.encode(training.examples["train"].utterances)
    mean_D = torch.from_numpy(encoded.embeddings[encoded.present]).mean(dim=0)
    torch.testing.assert_close(training.dropped(mean_D.expand(100, -1)), mean_D.expand(100, -1))
    values_BD = (mean_D + 1).expand(1000, -1)
    dropped_BD = training.dropped(values_BD)
    assert 0.4 < float((dropped_BD - mean_D < 0.5).float().mean()) < 0.6
    torch.testing.assert_close(dropped_BD.mean(), values_BD.mean(), atol=0.1, rtol=0)


def test_dropout_before_a_random_classifier_sets_values_to_0(params: Callable[..., Params], config: MakeConfig) -> None:
    training = _Training(_loaded(params()), _examples(), 3, config(head_dropout=0.5), "cpu")
    values_BD = torch.ones(1000, training.encoder.dim)
    assert set(training.dropped(values_BD).unique().tolist()) == {0.0, 2.0}


@pytest.mark.parametrize(
    ("head_start", "dev", "epoch"),
    [
        ("probe", [0.7, 0.2, 0.7], 0),
        ("probe", [0.7, 0.8, 0.8], 1),
        ("random", [0.2, 0.7], 2),
    ],
)
def test_the_state_before_the_training_is_epoch_0_and_is_kept_unless_another_is_better(
    params: Callable[..., Params],
    config: MakeConfig,
    monkeypatch: pytest.MonkeyPatch,
    head_start: str,
    dev: list[float],
    epoch: int,
) -> None:
    encoder = _loaded(params())
    training = _Training(encoder, _examples(), 3, config(epochs=2, head_start=head_start), "cpu")
    head = training.head.weight.detach().clone()
    given = iter([*dev, 0.0])
    monkeypatch.setattr(training, "_scores", lambda _: {"weighted_f1": next(given), "accuracy": 0.5})
    found = training.run()
    numbers = [0, 1, 2] if head_start == "probe" else [1, 2]
    assert [row["epoch"] for row in found.history] == numbers
    assert [row["dev_weighted_f1"] for row in found.history] == dev
    assert all(isinstance(row["train_loss"], float) for row in found.history)
    assert found.epoch == epoch
    untouched = _loaded(params()).model.state_dict()
    same = all(torch.equal(weight, untouched[name]) for name, weight in encoder.model.state_dict().items())
    assert (same, torch.equal(found.head.weight, head)) == ((True, True) if epoch == 0 else (False, False))


def test_a_kept_epoch_0_of_low_rank_updates_is_the_untouched_encoder(
    params: Callable[..., Params], config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    encoder = _loaded(params())
    lora = {"rank": 2, "alpha": 4, "dropout": 0.0, "modules": "all-linear"}
    training = _Training(encoder, _examples(), 3, config(head_start="probe", method="lora", lora=lora), "cpu")
    monkeypatch.setattr(training, "_scores", lambda _: {"weighted_f1": 0.5, "accuracy": 0.5})
    assert training.run().epoch == 0
    encoder.model.eval()
    examples = _examples()["train"]
    assert np.array_equal(encoder.encode(examples.utterances).embeddings, _vectors(params(), examples).embeddings)


def test_a_training_from_a_probe_gives_equal_numbers_whatever_the_process_has(
    params: Callable[..., Params], config: MakeConfig
) -> None:
    found = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        torch.manual_seed(threads)
        encoder = _loaded(params())
        made = adapt_encoder(encoder, _examples(), 3, config(head_start="probe", epochs=2, head_dropout=0.5), "cpu")
        found.append((made.history, [weight.tolist() for weight in made.head.parameters()]))
    assert found[0] == found[1]


def test_dropout_and_order_come_from_the_seed_and_torch_is_left_as_it_was(
    params: Callable[..., Params], config: MakeConfig
) -> None:
    weights = []
    for seed, noise in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        encoder = _loaded(params())
        adapt_encoder(encoder, _examples(), 3, config(seed=seed, head_dropout=0.5), "cpu")
        assert torch.equal(torch.get_rng_state(), before)
        weights.append(encoder.encode(_examples()["train"].utterances).embeddings)
    assert np.array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_is_that_of_the_settings_whatever_the_process_has(
    params: Callable[..., Params], config: MakeConfig, threads: int
) -> None:
    before = torch.get_num_threads()
    encoder, seen = _loaded(params()), []
    encoder.model.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    adapt_encoder(encoder, _examples(), 3, config(epochs=1, threads=threads), "cpu")
    assert set(seen) == {threads}
    assert torch.get_num_threads() == before


def test_a_loss_that_is_not_finite_ends_it(params: Callable[..., Params], config: MakeConfig) -> None:
    encoder = _loaded(params())
    with torch.no_grad():
        next(encoder.model.parameters())[5:] = float("nan")
    with pytest.raises(PipelineError, match=r"adaptation, epoch 1: the loss is not finite; a lower learning_rate"):
        adapt_encoder(encoder, _examples(), 3, config(), "cpu")


def test_the_scores_are_those_of_a_slow_count() -> None:
    labels, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 0])
    # class 0: precision 2/4, recall 2/3, F1 4/7; class 1: 1/2, 1/2, 1/2; class 2: 0
    found = scores(labels, predicted, 4)
    assert found == {"weighted_f1": pytest.approx((3 * 4 / 7 + 2 * 1 / 2) / 6), "accuracy": pytest.approx(0.5)}


LORA = {"rank": 2, "alpha": 4, "dropout": 0.0, "modules": "all-linear"}


def test_low_rank_updates_change_linear_layers_by_so_much_rank_and_nothing_else(
    params: Callable[..., Params], config: MakeConfig, bert: Callable[..., Path]
) -> None:
    pytest.importorskip("peft")
    from safetensors.torch import load_file

    encoder = _loaded(params())
    adapt_encoder(encoder, _examples(), 3, config(method="lora", lora=LORA, learning_rate=0.05, epochs=5), "cpu")
    before, after = load_file(bert() / "model.safetensors"), encoder.model.state_dict()
    assert before.keys() == {name for name in after if name in before}
    assert not [name for name in after if "lora" in name]
    changed = {name: after[name] - weight for name, weight in before.items() if not torch.equal(after[name], weight)}
    assert changed
    assert all(
        name.startswith("encoder.layer.") and name.endswith(".weight") and "LayerNorm" not in name for name in changed
    )
    ranks = {int(torch.linalg.matrix_rank(difference, rtol=1e-3)) for difference in changed.values()}
    assert max(ranks) == 2
    vectors = encoder.encode(_examples()["train"].utterances).embeddings
    assert not np.allclose(vectors, _loaded(params()).encode(_examples()["train"].utterances).embeddings, atol=1e-2)


def test_names_of_layers_that_the_model_lacks_are_refused(params: Callable[..., Params], config: MakeConfig) -> None:
    pytest.importorskip("peft")
    with pytest.raises(BadSettings, match=r"lora\.modules \('nothing',\): "):
        adapt_encoder(
            _loaded(params()), _examples(), 3, config(method="lora", lora={**LORA, "modules": ["nothing"]}), "cpu"
        )


def test_low_rank_updates_without_influence_are_reported_and_refused_if_there_are_no_others(
    params: Callable[..., Params], config: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("peft")
    adapt_encoder(
        _loaded(params().with_overrides(encoders__text__plain__layer=1)),
        _examples(),
        3,
        config(method="lora", lora=LORA, epochs=1),
        "cpu",
    )
    assert "12 of 24 low-rank weights, such as" in caplog.text
    with pytest.raises(
        BadSettings,
        match=r"none of the 24 low-rank weights, such as .*, affects the vectors; name other lora\.modules",
    ):
        adapt_encoder(
            _loaded(params().with_overrides(encoders__text__plain__layer=0)),
            _examples(),
            3,
            config(method="lora", lora=LORA, epochs=1),
            "cpu",
        )
