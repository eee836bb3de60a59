"""What every loss promises; a new file in ``pipeline/merc/training/losses`` is tested here automatically.

The tables only extend what a loss receives. A loss that needs more of a model's output than most models provide fails
here until ``NEEDS`` says what.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from merc import plugins
from merc.params import Params, Settings, fill
from merc.training.data.collate import collate
from merc.training.losses.engine.base import MERCLoss, TrainingFacts
from merc.training.models.engine.base import Gives, MERCModel, MERCOutput

PACKAGE = "merc.training.losses"
NAMES = plugins.names(PACKAGE, MERCLoss)
CLASSES = ("neutral", "joy", "anger")
EMOTIONS = [[0, 1, 1, 2, 0], [2, 1, 1], [0, -1, 1, 0, 2, 1], [1], [1, 1, 2, 0], [-1, 2]]
EVERY, ORDER = torch.arange(6), torch.tensor([3, 0, 5, 1, 4, 2])
ONE_UTTERANCE = torch.tensor([3])

# Widths of a model's output by part; those per modality by modality, and those per layer by layer.
MODALITIES = ("text", "audio", "visual")
USUAL = {
    "logits": 3,
    "hidden": 6,
    "unimodal": {"text": 4, "audio": 5, "visual": 3},
    "unimodal_logits": dict.fromkeys(MODALITIES, 3),
}
SPECIAL = {
    "context": 5,
    "aligned": dict.fromkeys(MODALITIES, 4),
    "confidence": dict.fromkeys(MODALITIES, 1),
    "of_modality": dict.fromkeys(MODALITIES, 4),
    "of_utterance": dict.fromkeys(MODALITIES, 4),
    "pooled": dict.fromkeys(MODALITIES, 4),
    "short_distance": {"layer 1": 4, "layer 2": 3},
    "long_distance": {"layer 1": 4, "layer 2": 3},
}
# The special parts that are extras of the output.
EXTRAS = frozenset({"confidence", "of_modality", "of_utterance", "short_distance", "long_distance"})
# What a loss needs besides the usual parts.
NEEDS = {
    "differential": {"short_distance", "long_distance"},
    "prototype": {"aligned"},
    "true_class_probability": {"confidence"},
}
# What a loss uses if a model provides it: further cases.
USES = {
    "context_aware": {"context"},
    "disentanglement": {"of_modality", "of_utterance"},
    "inter_dialogue": {"pooled"},
    "soft_hgr": {"aligned"},
}
# Models that provide special parts; all other losses are tested with context_gru.
GIVEN_BY = {"aligned": "df_erc", "confidence": "df_erc", "long_distance": "lsdgnn"}

USUALLY = [pytest.param(name, NEEDS.get(name, set()), id=name) for name in NAMES]
FURTHER = [
    pytest.param(name, NEEDS.get(name, set()) | parts, id=f"{name}-{'-'.join(sorted(parts))}")
    for name, parts in USES.items()
]
every_loss = pytest.mark.parametrize("name", NAMES)
every_case = pytest.mark.parametrize(("name", "parts"), USUALLY + FURTHER)


class Table(MERCModel):
    """A model whose output for an utterance is rows of its weights, whatever the batch; for padding it is the last
    row.
    """

    causal = True

    def __init__(self, split, parts):
        super().__init__(Settings(), split.dims, len(CLASSES))
        generator = torch.Generator().manual_seed(3)

        def table(part, width):
            rows = len(split.lengths) if part == "pooled" else split.utterances
            draw = torch.rand if part == "confidence" else torch.randn
            return nn.Parameter(draw(rows + 1, width, generator=generator))

        self.widths = {part: widths for part, widths in {**USUAL, **SPECIAL}.items() if part in USUAL or part in parts}
        self.tables = nn.ModuleDict()
        for part, widths in self.widths.items():
            by_modality = widths if isinstance(widths, dict) else {"all": widths}
            self.tables[part] = nn.ParameterDict({name: table(part, width) for name, width in by_modality.items()})
        self.gives = Gives(
            hidden=USUAL["hidden"],
            unimodal=USUAL["unimodal"],
            context=self.widths.get("context"),
            aligned=SPECIAL["aligned"]["text"] if "aligned" in parts else None,
            extras=EXTRAS & parts,
        )
        self.dtype = torch.float32

    def forward(self, batch):
        given = {}
        for part, tables in self.tables.items():
            index = batch.dialogue_index if part == "pooled" else batch.utterance_index
            rows = {name: rows[index].to(self.dtype) for name, rows in tables.items()}
            if part == "confidence":
                rows = {name: values.squeeze(-1) for name, values in rows.items()}
            given[part] = rows if isinstance(self.widths[part], dict) else rows["all"]
        extras = {part: given.pop(part) for part in EXTRAS & given.keys()}
        return MERCOutput(**given, extras=extras)

    def fill_padding(self, value):
        with torch.no_grad():
            for weight in self.parameters():
                weight[-1] = value
        return self


@pytest.fixture
def split(make_split):
    return make_split(EMOTIONS)


def facts_of(model, split):
    return TrainingFacts(class_counts=split.class_counts(len(CLASSES)), gives=model.gives, classes=CLASSES, train=split)


def generator():
    return torch.Generator().manual_seed(5)


def begun(name, split, model):
    """The loss with its default settings, at the start of the first epoch."""
    torch.manual_seed(0)
    kind = plugins.load(PACKAGE, name, MERCLoss)
    term = kind(kind.Config(), facts_of(model, split)).to(split.labels.device)
    term.begin_epoch(0, model, generator())
    return term


def step(term, model, batch, epoch=0):
    """The value for a batch, after backward."""
    value = term(model(batch), batch, epoch=epoch, generator=generator())
    value.backward()
    return value


def taken(name, split, batch, parts=frozenset(), dtype=torch.float32):
    """The value for a batch of the first epoch, and the model with its gradients."""
    model = Table(split, parts)
    model.dtype = dtype
    return step(begun(name, split, model), model, batch), model


def gradients(module):
    return [weight.grad for weight in module.parameters() if weight.grad is not None]


def padded(batch, more):
    """The batch with more padding."""

    def pad(values, fill):
        return nn.functional.pad(values, (0, 0) * (values.ndim - 2) + (0, more), value=fill)

    return replace(
        batch,
        features={name: pad(values, 0.0) for name, values in batch.features.items()},
        modality_mask={name: pad(values, False) for name, values in batch.modality_mask.items()},
        utterance_mask=pad(batch.utterance_mask, False),
        speakers=pad(batch.speakers, 0),
        labels=pad(batch.labels, -1),
        utterance_index=pad(batch.utterance_index, -1),
    )


def unlabelled(batch):
    return replace(batch, labels=torch.full_like(batch.labels, -1))


@pytest.mark.parametrize("table", [NEEDS, USES], ids=["needs", "uses"])
def test_the_tables_name_losses_and_parts_that_exist(table):
    assert table.keys() <= set(NAMES)
    assert set().union(*table.values()) <= SPECIAL.keys()


@every_loss
def test_every_setting_has_a_default_and_a_description(name):
    config = plugins.load(PACKAGE, name, MERCLoss).Config
    assert config.__doc__
    assert [key for key, field in config.model_fields.items() if field.is_required() or not field.description] == []
    assert config() == config.model_validate(config().model_dump())


@every_case
def test_it_is_a_finite_float32_scalar_whose_gradient_reaches_the_model_and_all_its_own_weights(name, parts, split):
    model = Table(split, parts)
    term = begun(name, split, model)
    value = step(term, model, collate(split, EVERY))
    assert value.dtype == torch.float32
    assert value.shape == ()
    assert torch.isfinite(value)
    assert value.item() != 0.0
    assert any(gradient.any() for gradient in gradients(model))
    assert all(weight.grad is not None for weight in term.parameters())
    assert all(torch.isfinite(gradient).all() for gradient in gradients(model) + gradients(term))


@every_case
def test_it_stays_float32_if_the_model_computes_in_half_precision(name, parts, split):
    batch = collate(split, EVERY)
    expected, _ = taken(name, split, batch, parts)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, _ = taken(name, split, batch, parts, dtype=torch.bfloat16)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected, rtol=0.1, atol=0.1)


@every_case
def test_a_batch_without_labels_costs_exactly_nothing_unless_labels_never_matter(name, parts, split):
    batch = collate(split, EVERY)
    expected, _ = taken(name, split, batch, parts)
    value, model = taken(name, split, unlabelled(batch), parts)
    if not torch.equal(value, expected):
        assert value.item() == 0.0
        assert not any(gradient.any() for gradient in gradients(model))


@every_case
def test_an_utterance_without_label_and_modalities_costs_exactly_nothing_and_backward_runs(name, parts, split):
    batch = unlabelled(collate(split, ONE_UTTERANCE))
    batch = replace(batch, modality_mask={key: torch.zeros_like(mask) for key, mask in batch.modality_mask.items()})
    value, model = taken(name, split, batch, parts)
    assert value.item() == 0.0
    assert not any(gradient.any() for gradient in gradients(model))


@every_case
@pytest.mark.parametrize("label", [1, -1])
def test_a_dialogue_of_one_utterance_is_a_batch_like_any_other(name, parts, split, label):
    batch = collate(split, ONE_UTTERANCE)
    value, model = taken(name, split, replace(batch, labels=torch.full_like(batch.labels, label)), parts)
    assert torch.isfinite(value)
    assert all(torch.isfinite(gradient).all() for gradient in gradients(model))


@every_case
def test_padding_changes_nothing_whatever_the_model_gives_there(name, parts, split):
    bare = collate(split, EVERY)
    expected, _ = taken(name, split, bare, parts)
    model = Table(split, parts).fill_padding(float("nan"))
    torch.testing.assert_close(step(begun(name, split, model), model, padded(bare, 3)), expected)
    for gradient in gradients(model):
        assert torch.isfinite(gradient).all()
        assert not gradient[-1].any()


@every_case
def test_the_order_of_dialogues_changes_nothing(name, parts, split):
    value, _ = taken(name, split, collate(split, ORDER), parts)
    expected, _ = taken(name, split, collate(split, EVERY), parts)
    torch.testing.assert_close(value, expected)


@every_case
def test_it_draws_random_numbers_from_the_generator_alone(name, parts, split):
    batch, values, found = collate(split, EVERY), [], []
    for seed in (1, 2):
        model = Table(split, parts)
        term = begun(name, split, model)
        torch.manual_seed(seed)
        values.append(torch.stack([step(term, model, batch), step(term, model, batch)]))
        found.append(gradients(model) + gradients(term))
    assert torch.equal(*values)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@every_case
def test_a_second_epoch_follows_and_what_it_observes_is_what_it_says(name, parts, split):
    model = Table(split, parts)
    term = begun(name, split, model)
    for epoch in range(2):
        if epoch:
            term.begin_epoch(epoch, model, generator())
        for dialogues in (EVERY[:3], EVERY[3:]):
            assert torch.isfinite(step(term, model, collate(split, dialogues), epoch))
        assert term.observed().keys() == set(term.observes)


@every_case
def test_a_step_waits_for_no_gpu(name, parts, split, no_waiting):
    batch, model = collate(split, EVERY), Table(split, parts)
    term = begun(name, split, model)
    with no_waiting(batch):
        for _ in range(2):
            step(term, model, batch)


@every_loss
def test_it_trains_a_model_that_comes_with_the_pipeline(name, split):
    model_name = next((GIVEN_BY[part] for part in sorted(NEEDS.get(name, set()))), "context_gru")
    kind = plugins.load("merc.training.models", model_name, MERCModel)
    block = Params.load(Path(__file__).resolve().parents[3] / "params.yaml").read(f"models.{model_name}").tree
    torch.manual_seed(0)
    model = kind(
        fill({**block, "hidden_units": 4}, kind.Config, where=f"models.{model_name}"), split.dims, len(CLASSES)
    )
    term = begun(name, split, model)
    step(term, model, collate(split, EVERY))
    assert any(gradient.any() for gradient in gradients(model))
    assert all(weight.grad is not None for weight in term.parameters())


@pytest.mark.needs_cuda
@every_case
def test_on_a_gpu_a_step_waits_for_nothing(name, parts, split, no_waiting):
    split = split.to("cuda")
    batch, model = collate(split, EVERY), Table(split, parts).to("cuda")
    term = begun(name, split, model)
    with no_waiting(batch):
        step(term, model, batch)  # the first call loads kernels
        torch.cuda.set_sync_debug_mode("error")
        try:
            step(term, model, batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
