"""What every model promises; a new file in ``pipeline/merc/training/models`` is tested here automatically."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from merc import plugins
from merc.training.models.engine.base import MERCModel

PACKAGE = "merc.training.models"
DIMS = {"text": 6, "audio": 5, "visual": 4}
SUBSETS = [
    ("text",),
    ("audio",),
    ("visual",),
    ("text", "audio"),
    ("text", "visual"),
    ("audio", "visual"),
    ("text", "audio", "visual"),
]
CLASSES = 3
LARGEST = 16  # integers in the settings are reduced to this; a multiple of all numbers of heads
# Settings that change how utterances interact, besides the defaults.
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("context_gru", {"speakers": "same"}),
    ("context_gru", {"speakers": "slots"}),
    ("dialogue_transformer", {"speakers": "slots", "layers": 2, "pool_from": "gated"}),
    ("ddin", {"direction": "both"}),
    ("df_erc", {"gelu_logits": True}),
    ("joint_vector", {"mode": "token"}),
    ("merc_kdc", {"speakers": "none", "pool_from": "gated", "shift_limit": 2.0}),
    ("mmgcn", {"causal": True, "speakers": "all"}),
    ("mmgcn", {"detach_graph": True, "speakers": "none", "text_context": "none"}),
    ("m3net", {"speakers": "all"}),
    ("sdt", {"gates": "identity"}),
    ("dialogue_rnn", {"direction": "forward"}),
    ("mm_dfn", {"recurrence": "lstm", "layers": 2}),
    ("cogmen", {"speakers": "pairs", "past": 3, "future": 1, "graph_heads": 2}),
    ("dialogue_gcn", {"causal": True, "speakers": "same", "past": 3}),
    ("lsdgnn", {"causal": True, "shortcut": False, "long_distance": 2}),
    ("corect", {"causal": True, "speakers": "none", "past": 3}),
    ("multiemo", {"direction": "forward", "text_context": False, "layers": 2}),
    ("graphcfc", {"aggregation": "bigru", "window": 2, "text_context": "none"}),
    ("telme", {"attention": "concatenated", "shift_limit": 2.0, "layers": 2}),
    ("telme", {"teacher_context": "none", "speakers": "none"}),
    ("graphsmile", {"causal": True, "past": 4, "layers": 2}),
]
# Parameters that cross-entropy on the logits does not train, by the part of the output that trains them.
TRAINED_BY = {
    "ddin": {"context.": "context"},
    "df_erc": {"align.": "aligned text", "heads.": "unimodal logits text"},
    "graphcfc": {f"heads.{one}.": f"unimodal logits {one}" for one in DIMS},
    "merc_kdc": {
        **{f"branches.{one}.classifier.": f"unimodal logits {one}" for one in DIMS},
        # The fusion ignores absent modalities, except text.
        **{f"branches.{one}.projections.{one}.absent_H": f"unimodal logits {one}" for one in ("audio", "visual")},
    },
    "sdt": {"heads.": "unimodal logits text"},
    "telme": {
        **{f"branches.{one}.classifier.": f"unimodal logits {one}" for one in DIMS},
        **{f"branches.{one}.project.absent_H": f"unimodal logits {one}" for one in ("audio", "visual")},
    },
}

NAMES = plugins.names(PACKAGE, MERCModel)
ALL = [pytest.param(name, {}, id=name) for name in NAMES]
ALL += [
    pytest.param(name, settings, id=f"{name}-" + "-".join(map(str, settings.values()))) for name, settings in VARIANTS
]
every_model = pytest.mark.parametrize(("name", "settings"), ALL)


def build(name, modalities=tuple(DIMS), **settings):
    """The model with its default settings, reduced, in eval mode; absent vectors are as after some training, not
    zeros.
    """
    model_class = plugins.load(PACKAGE, name, MERCModel)
    small = {
        key: min(value, LARGEST) if type(value) is int else value
        for key, value in model_class.Config().model_dump().items()
    }
    torch.manual_seed(3)
    model = model_class(
        model_class.Config(**{**small, **settings}), {one: DIMS[one] for one in modalities}, CLASSES
    ).eval()
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("absent_H"):
            torch.nn.init.normal_(parameter)
    if type(model).longest_sequence(model.config) is not None:
        model.register_forward_pre_hook(lambda model, given: (with_sequences(given[0]),))
    return model


def with_sequences(batch):
    """One to three entries below every vector, derived from it, so that a test that changes vectors or masks changes
    these as well.
    """
    real, sequences, masks = batch.real_positions, {}, {}
    for name, values in batch.features.items():
        counts = (1 + batch.speakers % 3).where(batch.modality_mask[name], 0).flatten()[real]
        masks[name] = torch.arange(3) < counts[:, None]
        entries = (
            values.flatten(0, 1)[real][:, None] * torch.tensor([1.0, -0.5, 0.3])[:, None] + torch.arange(3.0)[:, None]
        )
        sequences[name] = torch.where(masks[name][..., None], entries, 0.0)
    return replace(batch, sequences=sequences, sequence_mask=masks)


def picked(batch, dialogues, steps=None):
    """The first ``steps`` utterances of some dialogues of a batch, in the given order."""
    picked_B = torch.tensor(dialogues)
    per_utterance = {
        name: getattr(batch, name)[picked_B, :steps]
        for name in ("utterance_mask", "speakers", "labels", "utterance_index")
    }
    return replace(
        batch,
        features={name: value[picked_B, :steps] for name, value in batch.features.items()},
        modality_mask={name: value[picked_B, :steps] for name, value in batch.modality_mask.items()},
        **per_utterance,
        lengths=batch.lengths[picked_B],
        dialogue_index=batch.dialogue_index[picked_B],
        dialogue_ids=tuple(batch.dialogue_ids[index] for index in dialogues),
    )


def given(output, *, at=None):
    """All tensors of an output; ``at`` picks from those with one vector per utterance."""
    per_utterance = {"logits": output.logits, "hidden": output.hidden, "context": output.context}
    per_utterance |= {f"unimodal {name}": value for name, value in output.unimodal.items()}
    per_utterance |= {f"unimodal logits {name}": value for name, value in output.unimodal_logits.items()}
    for part, by_modality in {"aligned": output.aligned, **output.extras}.items():
        per_utterance |= {f"{part} {name}": value for name, value in by_modality.items()}
    tensors = {name: value if at is None else value[at] for name, value in per_utterance.items() if value is not None}
    return tensors | {f"pooled {name}": value for name, value in output.pooled.items()}


def assert_alike(found, expected, **tolerance):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=lambda message, name=name: f"{name}: {message}", **tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_every_model_is_built_from_its_default_settings(make_batch, name):
    kind = plugins.load(PACKAGE, name, MERCModel)
    model = kind(kind.Config(), {"text": DIMS["text"]}, 7)
    assert model(make_batch([3, 1], modalities=("text",))).logits.shape == (2, 3, 7)


@pytest.mark.parametrize("modalities", SUBSETS, ids="+".join)
@every_model
def test_a_dialogue_comes_out_alike_alone_and_in_any_batch(make_batch, name, settings, modalities):
    model, lengths = build(name, modalities, **settings), [5, 1, 9, 3]
    together, padded = (
        make_batch(lengths, modalities=modalities),
        make_batch(lengths, modalities=modalities, pad_to=15, padding=1e3),
    )
    with torch.no_grad():
        near, far = model(together), model(padded)
    for index, length in enumerate(lengths):
        with torch.no_grad():
            alone = given(model(picked(together, [index], length)))
        for output in (near, far):
            own = given(output, at=(slice(index, index + 1), slice(0, length)))
            own |= {key: value[index : index + 1] for key, value in own.items() if key.startswith("pooled")}
            assert_alike(own, alone, atol=1e-5, rtol=0)


@every_model
def test_the_order_of_a_batch_changes_nothing(make_batch, name, settings):
    model, batch, order = build(name, **settings), make_batch([2, 7, 4]), [2, 0, 1]
    shuffled = picked(batch, order)
    expected = {key: value[order] for key, value in given(model(batch)).items()}
    found = given(model(shuffled))
    for tensors in (expected, found):
        tensors.update(
            {key: value[shuffled.utterance_mask] for key, value in tensors.items() if not key.startswith("pooled")}
        )
    assert_alike(found, expected, atol=1e-5, rtol=0)


@every_model
def test_labels_are_not_looked_at(make_batch, name, settings):
    model, batch = build(name, **settings), make_batch([4, 2])
    assert_alike(
        given(model(batch)), given(model(replace(batch, labels=torch.full_like(batch.labels, -1)))), atol=0, rtol=0
    )


@every_model
def test_vectors_of_absent_utterances_are_not_looked_at(make_batch, name, settings):
    model, batch = build(name, **settings), make_batch([6, 4])
    noisy = replace(
        batch,
        features={
            one: torch.where(batch.modality_mask[one][..., None], value, 77.0) for one, value in batch.features.items()
        },
    )
    mask = batch.utterance_mask
    assert_alike(given(model(noisy), at=mask), given(model(batch), at=mask), atol=0, rtol=0)


@every_model
def test_an_absent_vector_is_not_a_vector_of_zeros(make_batch, name, settings):
    model, batch = build(name, ("audio",), **settings), make_batch([4], modalities=("audio",))
    here, nowhere = torch.ones_like(batch.utterance_mask), torch.zeros_like(batch.utterance_mask)
    zeros = replace(batch, features={"audio": torch.zeros_like(batch.features["audio"])}, modality_mask={"audio": here})
    absent = replace(zeros, modality_mask={"audio": nowhere})
    assert not torch.allclose(model(zeros).logits, model(absent).logits, atol=1e-3)


@every_model
def test_what_nothing_is_known_of_gets_finite_scores_and_gradients(make_batch, name, settings):
    model, batch = build(name, **settings).train(), make_batch([4, 2, 1])
    for one in DIMS:  # an utterance and a whole dialogue without any modality
        batch.modality_mask[one][0, 1] = False
        batch.modality_mask[one][1:] = False
        batch.features[one][~batch.modality_mask[one]] = 0.0
    output = model(batch)
    assert all(value.isfinite().all() for value in given(output).values())
    assert all((value[1:] == 0).all() for value in output.pooled.values())
    sum(value.square().sum() for value in given(output).values()).backward()
    assert [
        key for key, weight in model.named_parameters() if weight.grad is not None and not weight.grad.isfinite().all()
    ] == []


@pytest.mark.parametrize("length", [1, 300])  # the longest of IEMOCAP has 110
@every_model
def test_a_dialogue_may_have_any_length(make_batch, name, settings, length):
    model, batch = build(name, **settings), make_batch([length])  # by up to nine speakers
    with torch.no_grad():
        output = model(batch)
    assert output.logits.shape == (1, length, CLASSES)
    assert all(value.isfinite().all() for value in given(output).values())


@every_model
def test_more_speakers_than_slots_are_no_error(make_batch, name, settings):
    model, batch = build(name, **settings), make_batch([12])
    assert model(replace(batch, speakers=torch.arange(12)[None])).logits.isfinite().all()


@every_model
def test_the_output_has_the_shapes_of_the_contract(make_batch, name, settings):
    model = build(name, **settings)
    output = model(make_batch([3, 5]))
    assert output.logits.shape == (2, 5, CLASSES)
    assert output.hidden.shape == (2, 5, model.gives.hidden)
    assert {one: tuple(value.shape) for one, value in output.unimodal.items()} == {
        one: (2, 5, model.gives.unimodal[one]) for one in DIMS
    }
    assert {one: tuple(value.shape) for one, value in output.unimodal_logits.items()} in (
        {},
        dict.fromkeys(DIMS, (2, 5, CLASSES)),
    )
    assert {one: tuple(value.shape) for one, value in output.aligned.items()} == (
        {} if model.gives.aligned is None else dict.fromkeys(DIMS, (2, 5, model.gives.aligned))
    )
    assert output.extras.keys() == model.gives.extras
    for extra in output.extras.values():
        assert extra.keys() == set(DIMS) or all(key.startswith("layer ") for key in extra)
        assert {value.shape[:2] for value in extra.values()} == {(2, 5)}
        assert len({value.shape for value in extra.values()}) == 1
    assert {value.shape[0] for value in output.pooled.values()} <= {2}
    assert output.pooled.keys() in (set(), set(DIMS))
    assert (None if output.context is None else tuple(output.context.shape)) == (
        None if model.gives.context is None else (2, 5, model.gives.context)
    )


@every_model
def test_vectors_that_losses_compare_have_not_passed_a_last_dropout_or_relu(make_batch, name, settings):
    """After a ReLU no cosine is negative, and zeros from dropout are noise. Earlier layers may have set some."""
    model, batch = build(name, **settings).train(), make_batch([9, 7])
    with torch.no_grad():
        output = model(batch)
    if model.gives.hidden_dropout:
        assert output.bare is not None
    else:
        assert (output.compared[batch.utterance_mask] == 0).float().mean() < 0.02


@every_model
def test_a_branch_holds_all_weights_of_its_modality_and_no_other(name, settings):
    model = build(name, **settings)
    branches = {modality: model.branch(modality) for modality in DIMS}
    for key, weight in model.named_parameters():
        owners = [
            modality
            for modality, modules in branches.items()
            if any(weight is one for module in modules for one in module.parameters())
        ]
        own = any(branches.values()) and key.startswith("branches.")  # not every model can be trained in phases
        assert owners == ([key.split(".")[1]] if own else []), key


@every_model
def test_every_weight_is_trained_by_what_is_meant_to_train_it(make_batch, name, settings):
    model, batch = build(name, **settings).train(), make_batch([6, 4, 5])
    output = model(batch)
    exceptions = {
        key: part
        for prefix, part in TRAINED_BY.get(name, {}).items()
        for key, _ in model.named_parameters()
        if key.startswith(prefix)
    }
    torch.nn.functional.cross_entropy(output.logits[batch.labelled], batch.labels[batch.labelled]).backward(
        retain_graph=True
    )
    untrained = {key for key, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()}
    assert untrained == exceptions.keys()
    for part in set(exceptions.values()):
        given(output)[part][batch.utterance_mask].square().sum().backward(retain_graph=True)
    assert {key for key, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()} == set()


@every_model
def test_memory_that_has_not_been_written_is_not_read(make_batch, name, settings):
    """In training torch does not fill uninitialised memory, see :mod:`merc.compute.repeatable`; here it is full of
    NaN.
    """
    model, batch = build(name, **settings).train(), make_batch([4, 2, 1])
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        assert torch.empty(2).isnan().all()
        output = model(batch)
        sum(value.square().sum() for value in given(output).values()).backward()
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(value.isfinite().all() for value in given(output).values())
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in model.parameters())


@every_model
def test_mixed_precision_gives_finite_scores_and_gradients(make_batch, name, settings):
    model, batch = build(name, **settings).train(), make_batch([6, 4])
    with torch.autocast("cpu", torch.bfloat16):
        output = model(batch)
    output.logits.float().square().sum().backward()
    assert output.logits.isfinite().all()
    assert [
        key for key, weight in model.named_parameters() if weight.grad is not None and not weight.grad.isfinite().all()
    ] == []


@pytest.mark.parametrize("step", [0, 3, 5])
@every_model
def test_causal_models_do_not_see_the_future(make_batch, name, settings, step):
    model, batch = build(name, **settings), make_batch([7])
    other = make_batch([7], seed=1)
    changed = replace(
        batch,
        features={
            one: torch.cat([value[:, : step + 1], other.features[one][:, step + 1 :]], dim=1)
            for one, value in batch.features.items()
        },
        modality_mask={
            one: torch.cat([value[:, : step + 1], other.modality_mask[one][:, step + 1 :]], dim=1)
            for one, value in batch.modality_mask.items()
        },
        speakers=torch.cat([batch.speakers[:, : step + 1], other.speakers[:, step + 1 :]], dim=1),
    )
    before, after = model(batch), model(changed)
    same = torch.equal(before.logits[:, : step + 1], after.logits[:, : step + 1])
    assert same is model.causal
    assert not torch.equal(before.logits[:, step + 1 :], after.logits[:, step + 1 :])
    if before.context is not None:
        assert torch.equal(before.context[:, : step + 1], after.context[:, : step + 1])
