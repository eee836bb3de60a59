"""DCLF around every model, and the recipes of params.yaml that use it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from merc import plugins
from merc.params import Params
from merc.shards.format import reader
from merc.training.data.collate import collate
from merc.training.frameworks.dclf import DCLF
from merc.training.loop import checkpoint
from merc.training.loop.trainer import predict, train_seed
from merc.training.losses.engine.base import TrainingFacts
from merc.training.models.engine.base import MERCModel
from merc.training.recipes.resolution import MODELS, resolve
from merc.training.stage import load_data

DIMS = {"text": 6, "audio": 5, "visual": 4}
LARGEST = 16  # integers in the settings of a model are reduced to this; a multiple of all numbers of heads
PARAMS = Params.load(Path(__file__).resolve().parents[3] / "params.yaml")
EVERY_MODEL = plugins.names(MODELS, MERCModel)
EMOTIONS = [[0, 1, 1, 2, 0], [2, 1, 1, 2], [0, -1, 1], [1], [1, 1, 2, 0, 1, 1]]


def build(model="context_gru", modalities=tuple(DIMS), **settings):
    """DCLF around a model with its default settings, reduced; absent vectors are as after some training."""
    torch.manual_seed(3)
    kind = plugins.load(MODELS, model, MERCModel)
    small = {
        key: min(value, LARGEST) if type(value) is int else value for key, value in kind.Config().model_dump().items()
    }
    wrapped = DCLF(DCLF.Config(**settings), kind(kind.Config(**small), {name: DIMS[name] for name in modalities}, 3))
    for absent in wrapped.absent.values():
        torch.nn.init.normal_(absent)  # absent vectors are not zero
    return wrapped.eval()


@pytest.mark.parametrize("modalities", [("text",), ("text", "audio", "visual")])
@pytest.mark.parametrize("model", EVERY_MODEL)
def test_a_dialogue_is_predicted_alike_alone_and_in_any_batch(make_split, model, modalities):
    split, wrapped = make_split(EMOTIONS, modalities=modalities), build(model, modalities)
    together = wrapped(collate(split, torch.tensor([4, 2, 3, 0, 1])))
    for place, number in enumerate([4, 2, 3, 0, 1]):
        alone = wrapped(collate(split, torch.tensor([number]))).logits[0]
        torch.testing.assert_close(together.logits[place, : len(EMOTIONS[number])], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("model", EVERY_MODEL)
def test_around_any_model_the_output_has_the_shapes_of_the_contract(make_split, model):
    wrapped, batch = build(model), collate(make_split(EMOTIONS), torch.arange(5))
    output, own = wrapped(batch), wrapped.model(batch)
    assert output.logits.shape == (5, 6, 3)
    assert {name: tuple(logits.shape) for name, logits in output.unimodal_logits.items()} == dict.fromkeys(
        wrapped.gives.unimodal, (5, 6, 3)
    )
    assert output.hidden.shape[-1] == wrapped.gives.hidden
    assert torch.equal(output.hidden, own.hidden)
    assert {name: vectors.shape[-1] for name, vectors in output.unimodal.items()} == wrapped.gives.unimodal
    assert (output.context is None) == (own.context is None) == (wrapped.gives.context is None)
    assert wrapped.causal == wrapped.model.causal


def test_logits_are_one_linear_map_of_the_hidden_and_the_unimodal_vectors(make_split):
    wrapped, batch = build(), collate(make_split(EMOTIONS), torch.arange(5))
    output = wrapped(batch)
    for row, step in [(0, 0), (1, 3), (4, 5)]:
        beside = [
            output.unimodal[name][row, step] if batch.modality_mask[name][row, step] else wrapped.absent[name]
            for name in DIMS
        ]
        expected = wrapped.decoder.weight @ torch.cat([output.hidden[row, step], *beside]) + wrapped.decoder.bias
        torch.testing.assert_close(output.logits[row, step], expected)
        for name in DIMS:
            own = wrapped.heads[name].weight @ output.unimodal[name][row, step] + wrapped.heads[name].bias
            torch.testing.assert_close(output.unimodal_logits[name][row, step], own)


@pytest.mark.parametrize(("model", "rate"), [("mmgcn", 0.4), ("context_gru", 0.0)])
def test_what_the_decoder_sees_next_to_the_hidden_vector_is_dropped_as_that_was(make_split, model, rate):
    wrapped, batch = build(model).train(), collate(make_split(EMOTIONS), torch.arange(5))
    seen = []
    wrapped.decoder.register_forward_hook(lambda _, given, __: seen.append(given[0][batch.utterance_mask]))
    unimodal = wrapped(batch).unimodal
    whole = [
        torch.where(batch.modality_mask[name][..., None], unimodal[name], wrapped.absent[name])[batch.utterance_mask]
        for name in DIMS
    ]
    beside = seen[0][:, wrapped.gives.hidden :]
    kept = beside != 0
    assert (0.3 < 1 - kept.float().mean() < 0.5) if rate else kept.all()
    torch.testing.assert_close(beside, torch.where(kept, torch.cat(whole, dim=-1) / (1 - rate), 0.0))


def test_without_independent_concatenation_the_decoder_sees_the_hidden_vector_alone(make_split):
    wrapped, batch = build(independent_concatenation=False), collate(make_split(EMOTIONS), torch.arange(5))
    output = wrapped(batch)
    assert wrapped.decoder.in_features == wrapped.gives.hidden
    assert not wrapped.absent
    assert set(output.unimodal_logits) == set(DIMS)
    torch.testing.assert_close(output.logits, wrapped.decoder(output.hidden))


def test_a_modality_that_is_nowhere_present_gives_finite_scores(make_split):
    wrapped, batch = build(), collate(make_split(EMOTIONS), torch.arange(5))
    nothing = replace(
        batch,
        features={name: torch.zeros_like(value) for name, value in batch.features.items()},
        modality_mask={name: torch.zeros_like(value) for name, value in batch.modality_mask.items()},
    )
    assert torch.isfinite(wrapped(nothing).logits).all()


def losses_of(plan, wrapped, split):
    """The losses of a recipe at the start of an epoch, by name."""
    facts = TrainingFacts(class_counts=torch.ones(3), gives=wrapped.gives, train=split)
    losses = {term.name: term.kind(term.config, facts) for term in plan.losses}
    for loss in losses.values():
        loss.begin_epoch(0, wrapped, torch.Generator().manual_seed(0))
    return losses


def reached(loss, wrapped, batch):
    """Which parts of the framework, the model among them, get a gradient from a loss."""
    wrapped.zero_grad(set_to_none=True)
    loss(wrapped(batch), batch, epoch=0, generator=torch.Generator()).backward()
    names = [name for name, weight in wrapped.named_parameters() if weight.grad is not None and weight.grad.any()]
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("modalities", [("text",), ("text", "audio", "visual")])
@pytest.mark.parametrize("model", EVERY_MODEL)
def test_each_part_is_trained_by_the_loss_that_is_meant_to_train_it(make_split, model, modalities):
    split, wrapped = make_split(EMOTIONS, modalities=modalities), build(model, modalities).train()
    batch = collate(split, torch.arange(5))
    losses = losses_of(resolve(PARAMS, "baseline+dclf"), wrapped, split)
    assert list(losses) == ["cross_entropy", "context_aware", "modality_contribution"]
    assert reached(losses["cross_entropy"], wrapped, batch) == {"model", "decoder", "heads", "absent"}
    assert all(weight.grad.any() for part in (wrapped.heads, wrapped.absent) for weight in part.parameters())
    assert reached(losses["context_aware"], wrapped, batch) == {"model"}
    assert all(weight.grad.any() for weight in losses["context_aware"].parameters())
    with torch.no_grad():  # heads that recognise only class 1, so that there are pseudo-labels of both kinds
        for head in wrapped.heads.values():
            head.weight.zero_()
            head.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
    assert reached(losses["modality_contribution"], wrapped, batch) == {"model"}


def test_detached_heads_train_nothing_below_themselves(make_split):
    batch = collate(make_split(EMOTIONS), torch.arange(5))
    for detach, parts in [(True, {"heads"}), (False, {"heads", "model"})]:
        wrapped = build(detach_unimodal=detach)
        wrapped(batch).unimodal_logits["text"].logsumexp(dim=-1).sum().backward()
        names = [name for name, weight in wrapped.named_parameters() if weight.grad is not None and weight.grad.any()]
        assert {name.split(".")[0] for name in names} == parts


ALL = {"cross_entropy": 1.0, "context_aware": 0.6, "modality_contribution": 0.4}


@pytest.mark.parametrize(
    ("addition", "losses", "concatenation", "extract"),
    [
        ("dclf", ALL, True, True),
        ("dclf_iemocap", {**ALL, "context_aware": 0.8}, True, True),
        ("dclf+without_context", {"cross_entropy": 1.0, "modality_contribution": 0.4}, True, None),
        ("dclf+without_extraction", ALL, True, False),
        ("dclf+without_modality", {"cross_entropy": 1.0, "context_aware": 0.6}, False, True),
        ("dclf+without_independent", ALL, False, True),
    ],
)
def test_the_recipes_of_the_paper_and_its_ablations(addition, losses, concatenation, extract):
    plan = resolve(PARAMS, f"baseline+{addition}")
    found = {term.name: term for term in plan.losses}
    iemocap = addition == "dclf_iemocap"
    assert {name: term.weight for name, term in found.items()} == losses
    assert found["cross_entropy"].config.unimodal_weight == 1.0
    assert plan.recipe.batch_dialogues == (16 if iemocap else 8)
    assert plan.framework.name == "dclf"
    assert plan.framework.config.independent_concatenation is concatenation
    assert {found[name].config.denominator for name in ("context_aware", "modality_contribution") if name in found} == {
        "all"
    }
    if extract is not None:
        assert found["context_aware"].config.contextual_extract is extract
        assert (found["context_aware"].config.window, found["context_aware"].config.temperature) == (
            10 if iemocap else 4,
            0.07,
        )


def test_printed_the_negatives_are_alone_below_the_line():
    terms = {term.name: term for term in resolve(PARAMS, "mmgcn+dclf_iemocap+printed").losses}
    assert {name: terms[name].config.denominator for name in ("context_aware", "modality_contribution")} == {
        "context_aware": "neg",
        "modality_contribution": "neg",
    }
    assert (terms["context_aware"].weight, terms["context_aware"].config.window) == (0.8, 10)


@pytest.mark.parametrize("fold", ["no visual", "no class 1", "both"])
def test_a_fold_without_a_modality_or_a_class_is_trained_on(make_split, fold):
    """With the losses of the recipe; a modality that is never present has zero vectors, as in shards."""
    emotions = EMOTIONS if fold == "no visual" else [[0, 2, 2, 0], [2, 0, 0], [0, 2]]
    split, wrapped = make_split(emotions), build().train()
    if fold != "no class 1":
        split.present["visual"].fill_(False)
        split.features["visual"].zero_()
    batch = collate(split, torch.arange(len(emotions)))
    losses = losses_of(resolve(PARAMS, "baseline+dclf"), wrapped, split)
    values = [loss(wrapped(batch), batch, epoch=0, generator=torch.Generator()) for loss in losses.values()]
    sum(values).backward()
    assert all(value.isfinite() for value in values)
    assert all(weight.grad.isfinite().all() for weight in wrapped.parameters() if weight.grad is not None)


@pytest.mark.parametrize(
    "recipe",
    [
        "all+dclf",
        "text+dclf",
        "all+dclf+without_context",
        "all+dclf+without_extraction",
        "all+dclf+without_modality",
        "all+dclf+without_independent",
    ],
)
def test_it_trains_and_what_is_read_back_scores_as_what_was_trained(make_shards, tree, tmp_path, recipe):
    layout, plan = make_shards(), resolve(Params(tree), recipe)
    data, standardisation = load_data(plan, reader.info(layout.shards), layout)
    trained = train_seed(plan, data, 0, torch.device("cpu"))
    assert trained.dev["accuracy"] > 0.6
    header = checkpoint.Header(
        model="context_gru",
        model_settings=plan.model_config.model_dump(),
        framework="dclf",
        framework_settings=plan.framework.config.model_dump(),
        dims=data.dims,
        classes=data.classes,
        label_set="tiny3",
        dataset="tiny",
        recipe={"name": recipe},
        seed=0,
        encoders={},
        feature_limit_std=standardisation.limit,
        version=plan.model.VERSION,
    )
    checkpoint.save(tmp_path / "model.safetensors", trained.model, standardisation, header)
    torch.testing.assert_close(
        predict(checkpoint.load(tmp_path / "model.safetensors").model, data.test), predict(trained.model, data.test)
    )
