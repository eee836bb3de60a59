"""What every framework promises; a new file in ``pipeline/merc/training/frameworks`` is tested here automatically."""

from dataclasses import replace

import pytest
import torch

from merc import plugins
from merc.training.frameworks.base import Framework
from merc.training.models.context_gru import ContextGRU
from merc.training.models.dialogue_transformer import DialogueTransformer

PACKAGE = "merc.training.frameworks"
DIMS = {"text": 6, "audio": 5, "visual": 4}
every_framework = pytest.mark.parametrize("name", plugins.names(PACKAGE, Framework))
every_subset = pytest.mark.parametrize("modalities", [("text",), ("audio", "visual"), tuple(DIMS)], ids="+".join)


def build(name, modalities=tuple(DIMS), model=ContextGRU):
    kind = plugins.load(PACKAGE, name, Framework)
    torch.manual_seed(3)
    return kind(kind.Config(), model(model.Config(hidden_units=16), {one: DIMS[one] for one in modalities}, 3)).eval()


@every_framework
def test_every_framework_is_built_from_its_default_settings(make_batch, name):
    kind = plugins.load(PACKAGE, name, Framework)
    framework = kind(kind.Config(), ContextGRU(ContextGRU.Config(), DIMS, 3))
    assert framework(make_batch([3, 1])).logits.shape == (2, 3, 3)


@every_framework
@every_subset
def test_its_output_has_the_shapes_that_it_says(make_batch, name, modalities):
    framework = build(name, modalities)
    output = framework(make_batch([3, 5], modalities=modalities))
    assert output.logits.shape == (2, 5, framework.classes)
    assert output.hidden.shape == (2, 5, framework.gives.hidden)
    assert {one: tuple(value.shape) for one, value in output.unimodal.items()} == {
        one: (2, 5, framework.gives.unimodal[one]) for one in modalities
    }
    assert {one: tuple(value.shape) for one, value in output.unimodal_logits.items()} in (
        {},
        dict.fromkeys(modalities, (2, 5, 3)),
    )
    assert (None if output.context is None else output.context.shape[-1]) == framework.gives.context


@every_framework
@every_subset
def test_a_dialogue_comes_out_alike_alone_and_in_a_padded_batch_regardless_of_its_labels(make_batch, name, modalities):
    framework, lengths = build(name, modalities), [5, 2]
    padded = framework(make_batch(lengths, modalities=modalities, pad_to=9, padding=1e3)).logits
    batch = make_batch(lengths, modalities=modalities)
    bare = framework(replace(batch, labels=torch.full_like(batch.labels, -1))).logits
    for index, length in enumerate(lengths):
        torch.testing.assert_close(padded[index, :length], bare[index, :length], atol=1e-5, rtol=0)


@every_framework
@pytest.mark.parametrize("model", [ContextGRU, DialogueTransformer])
def test_it_sees_the_future_only_if_it_says_so(make_batch, name, model):
    framework, batch = build(name, model=model), make_batch([7])
    later = {one: torch.cat([value[:, :4], value[:, 4:] + 1], dim=1) for one, value in batch.features.items()}
    here = {one: torch.ones_like(mask) for one, mask in batch.modality_mask.items()}
    before, after = (
        framework(replace(batch, features=features, modality_mask=here)).logits for features in (batch.features, later)
    )
    assert torch.equal(before[:, :4], after[:, :4]) is framework.causal
    assert not torch.equal(before[:, 4:], after[:, 4:])


@every_framework
def test_the_weights_of_a_modality_are_those_of_the_model(name):
    framework = build(name)
    assert framework.branch("text") == framework.model.branch("text")
    own = {key for key, _ in framework.named_parameters() if not key.startswith("model.")}
    assert {key.removeprefix("model.") for key, _ in framework.named_parameters()} - own == {
        key for key, _ in framework.model.named_parameters()
    }
