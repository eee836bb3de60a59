"""The context model: which utterances it uses, and how its modalities vote. See test_contract.py for what all models
promise.
"""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from merc.training.models.context_gru import ContextGRU

DIMS = {"text": 6, "audio": 5, "visual": 4}


def build(modalities=tuple(DIMS), **settings):
    torch.manual_seed(3)
    config = ContextGRU.Config(**{"hidden_units": 8, "layers": 2, "speakers": "slots", **settings})
    model = ContextGRU(config, {name: DIMS[name] for name in modalities}, classes=3).eval()
    for branch in model.branches.values():
        torch.nn.init.normal_(branch.absent_H)  # as after some training: absent vectors are not zero
    return model


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


def one_two_and_no_modality(batch):
    """The first dialogue's utterances have text; text and audio; and nothing."""
    mask = {name: torch.zeros_like(value) for name, value in batch.modality_mask.items()}
    mask["text"][0, 0] = mask["text"][0, 1] = mask["audio"][0, 1] = True
    return replace(batch, modality_mask=mask)


def test_logits_are_summed_over_the_modalities_that_are_present_or_over_all_where_none_is(make_batch):
    output = build()(one_two_and_no_modality(make_batch([3, 2])))
    own = {name: logits[0] for name, logits in output.unimodal_logits.items()}
    expected = [own["text"][0], own["text"][1] + own["audio"][1], own["text"][2] + own["audio"][2] + own["visual"][2]]
    torch.testing.assert_close(output.logits[0], torch.stack(expected))


def test_probabilities_are_averaged_over_the_modalities_that_are_present(make_batch):
    output = build(fusion="probabilities")(one_two_and_no_modality(make_batch([3, 2])))
    own = {name: logits[0].softmax(dim=-1) for name, logits in output.unimodal_logits.items()}
    expected = [
        own["text"][0],
        (own["text"][1] + own["audio"][1]) / 2,
        (own["text"][2] + own["audio"][2] + own["visual"][2]) / 3,
    ]
    torch.testing.assert_close(output.logits[0].exp(), torch.stack(expected))


def test_with_one_modality_its_logits_are_the_models_and_count_once(make_batch):
    assert build(("text",))(make_batch([3], modalities=("text",))).unimodal_logits == {}


def trained_accuracy(train, test, modalities, fusion):
    """Accuracy on ``test`` after 30 steps on ``train``."""
    model = build(modalities, fusion=fusion, layers=1, hidden_units=16, speakers="none").train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(30):
        output = model(train)
        each = [output.logits, *output.unimodal_logits.values()]
        loss = sum(
            cross_entropy(
                logits.flatten(0, 1)[train.labelled_positions], train.labels.flatten()[train.labelled_positions]
            )
            for logits in each
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    guess = model.eval()(test).logits.flatten(0, 1)[test.labelled_positions].argmax(dim=1)
    return float((guess == test.labels.flatten()[test.labelled_positions]).float().mean())


@pytest.mark.parametrize("fusion", ["logits", "probabilities"])
def test_a_modality_that_is_noise_costs_no_more_than_a_point(make_batch, fusion):
    def says_the_label(batch):
        text_BTD = torch.randn_like(batch.features["text"]) + 4 * torch.eye(3, 6)[batch.labels.clamp(min=0)]
        return replace(
            batch,
            features={"text": text_BTD, "audio": torch.randn_like(batch.features["audio"])},
            modality_mask=dict.fromkeys(("text", "audio"), batch.utterance_mask),
        )

    torch.manual_seed(0)
    train, test = (says_the_label(make_batch([8] * 24, modalities=("text", "audio"), seed=seed)) for seed in (0, 1))
    alone = trained_accuracy(train, test, ("text",), fusion)
    assert alone > 0.9
    assert trained_accuracy(train, test, ("text", "audio"), fusion) > alone - 0.01
