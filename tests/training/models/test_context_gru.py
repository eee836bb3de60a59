"""The context model: what a dialogue is predicted to be depends on that dialogue alone."""

from dataclasses import replace

import pytest
import torch

from pipeline.params import fill
from pipeline.training.models.context_gru import ContextGRU, ContextGRUConfig

DIMS = {"text": 6, "audio": 5, "visual": 4}
SUBSETS = [("text",), ("audio",), ("visual",), ("text", "audio"), ("audio", "visual"), ("text", "audio", "visual")]


def build(modalities=tuple(DIMS), **settings):
    torch.manual_seed(3)
    config = fill({"hidden_units": 8, "layers": 2, "dropout": 0.5, "speakers": "slots", **settings}, ContextGRUConfig, where="models.context_gru")
    model = ContextGRU(config, {name: DIMS[name] for name in modalities}, classes=3).eval()
    for branch in model.branches.values():
        torch.nn.init.normal_(branch.absent_H)  # as after some training: absence is something
    return model


def dialogue(batch, index, length):
    """One dialogue of a batch by itself, without padding."""
    pick = slice(index, index + 1), slice(0, length)
    return replace(
        batch,
        features={name: value[pick] for name, value in batch.features.items()},
        modality_mask={name: value[pick] for name, value in batch.modality_mask.items()},
        utterance_mask=batch.utterance_mask[pick],
        speakers=batch.speakers[pick],
        labels=batch.labels[pick],
        lengths=batch.lengths[index : index + 1],
        dialogue_index=batch.dialogue_index[index : index + 1],
        utterance_index=batch.utterance_index[pick],
        dialogue_ids=batch.dialogue_ids[index : index + 1],
    )


@pytest.mark.parametrize("speakers", ["none", "same", "slots"])
@pytest.mark.parametrize("modalities", SUBSETS)
def test_a_dialogue_is_predicted_alike_alone_and_in_any_batch(make_batch, modalities, speakers):
    model, lengths = build(modalities, speakers=speakers), [5, 1, 9, 3]
    together = make_batch(lengths, modalities=modalities)
    padded = make_batch(lengths, modalities=modalities, pad_to=15, padding=1e3)
    logits, far = model(together).logits, model(padded).logits
    for index, length in enumerate(lengths):
        alone = model(dialogue(together, index, length)).logits[0]
        torch.testing.assert_close(logits[index, :length], alone, atol=1e-5, rtol=0)
        torch.testing.assert_close(far[index, :length], alone, atol=1e-5, rtol=0)


def test_the_order_of_a_batch_changes_nothing(make_batch):
    model, lengths = build(), [2, 7, 4]
    batch = make_batch(lengths)
    order = [2, 0, 1]
    shuffled = replace(
        batch,
        features={name: value[order] for name, value in batch.features.items()},
        modality_mask={name: value[order] for name, value in batch.modality_mask.items()},
        **{name: getattr(batch, name)[order] for name in ("utterance_mask", "speakers", "labels", "lengths", "dialogue_index", "utterance_index")},
        dialogue_ids=tuple(batch.dialogue_ids[index] for index in order),
    )
    expected, found = model(batch).logits[order], model(shuffled).logits
    mask = shuffled.utterance_mask
    torch.testing.assert_close(found[mask], expected[mask], atol=1e-5, rtol=0)


def test_labels_are_not_looked_at(make_batch):
    model, batch = build(), make_batch([4, 2])
    unlabelled = replace(batch, labels=torch.full_like(batch.labels, -1))
    torch.testing.assert_close(model(batch).logits, model(unlabelled).logits, atol=0, rtol=0)


def test_vectors_of_absent_utterances_are_not_looked_at(make_batch):
    model, batch = build(), make_batch([6, 4])
    noisy = replace(batch, features={name: torch.where(batch.modality_mask[name][..., None], value, 77.0) for name, value in batch.features.items()})
    mask = batch.utterance_mask
    torch.testing.assert_close(model(batch).logits[mask], model(noisy).logits[mask], atol=0, rtol=0)


def test_an_absent_vector_is_not_a_vector_of_zeros(make_batch):
    model, batch = build(("text",)), make_batch([4], modalities=("text",))
    zeros = replace(batch, features={"text": torch.zeros_like(batch.features["text"])}, modality_mask={"text": torch.ones_like(batch.utterance_mask)})
    absent = replace(zeros, modality_mask={"text": torch.zeros_like(batch.utterance_mask)})
    assert not torch.allclose(model(zeros).logits, model(absent).logits, atol=1e-2)


def test_dialogues_without_any_modality_give_finite_scores(make_batch):
    model, batch = build(), make_batch([4, 2])
    nothing = replace(
        batch,
        features={name: torch.zeros_like(value) for name, value in batch.features.items()},
        modality_mask={name: torch.zeros_like(value) for name, value in batch.modality_mask.items()},
    )
    assert torch.isfinite(model(nothing).logits).all()


@pytest.mark.parametrize("changed", [0, 3])
def test_context_reaches_both_ways(make_batch, changed):
    model, batch = build(), make_batch([4])
    features = {name: value.clone() for name, value in batch.features.items()}
    for value in features.values():
        value[0, changed] += 5.0
    everywhere = {name: torch.ones_like(mask) for name, mask in batch.modality_mask.items()}
    before = model(replace(batch, modality_mask=everywhere)).logits[0]
    after = model(replace(batch, features=features, modality_mask=everywhere)).logits[0]
    assert (before - after).abs().amax(dim=1).min() > 1e-4
    assert model.causal is False


def test_who_speaks_counts_only_where_it_is_asked_for(make_batch):
    batch = make_batch([6])
    others = replace(batch, speakers=(batch.speakers + torch.tensor([0, 1, 2, 0, 5, 3])) % 9)
    for speakers, same in {"none": True, "same": False, "slots": False}.items():
        model = build(speakers=speakers)
        assert torch.equal(model(batch).logits, model(others).logits) is same


def test_the_output_has_the_shapes_of_the_contract(make_batch):
    model = build()
    output = model(make_batch([3, 5]))
    assert output.logits.shape == (2, 5, 3)
    assert output.hidden.shape == (2, 5, model.hidden_dim)
    assert {name: tuple(value.shape) for name, value in output.unimodal.items()} == {name: (2, 5, dim) for name, dim in model.unimodal_dims.items()}
    assert {name: tuple(value.shape) for name, value in output.unimodal_logits.items()} == dict.fromkeys(DIMS, (2, 5, 3))


def test_every_weight_is_trained(make_batch):
    model, batch = build().train(), make_batch([6, 4, 5])
    model(batch).logits[batch.labelled].logsumexp(dim=-1).sum().backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


def test_probabilities_are_averaged_over_the_modalities_that_are_present(make_batch):
    model = build()
    batch = make_batch([3, 2])
    mask = {name: torch.zeros_like(value) for name, value in batch.modality_mask.items()}
    mask["text"][0, 0] = mask["text"][0, 1] = mask["audio"][0, 1] = True  # one modality, two, none
    output = model(replace(batch, modality_mask=mask))
    own = {name: logits[0].softmax(dim=-1) for name, logits in output.unimodal_logits.items()}
    expected = [own["text"][0], (own["text"][1] + own["audio"][1]) / 2, (own["text"][2] + own["audio"][2] + own["visual"][2]) / 3]
    torch.testing.assert_close(output.logits[0].exp(), torch.stack(expected))


def test_with_one_modality_its_logits_are_the_models_and_count_once(make_batch):
    assert build(("text",))(make_batch([3], modalities=("text",))).unimodal_logits == {}
