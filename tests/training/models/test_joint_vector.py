"""Joint vectors compared with loops over dialogues, utterances and heads, and what passes between the modalities; see
test_contract.py for what all models promise.
"""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from merc.errors import BadSettings
from merc.job import RunOptions
from merc.params import Params, fill
from merc.training.data.collate import collate
from merc.training.loop.prediction import label
from merc.training.losses.cross_entropy import CrossEntropy
from merc.training.losses.engine.base import TrainingFacts
from merc.training.models.engine.common import position_codes
from merc.training.models.joint_vector import JointVector
from merc.training.recipes.resolution import resolve
from merc.training.stage import train

DIMS = {"text": 6, "audio": 5, "visual": 4}
UNITS = 8
SMALL = {
    "longest_sequence": 4,
    "hidden_units": UNITS,
    "blocks": 3,
    "joint_vectors": 2,
    "heads": 2,
    "feedforward_units": 6,
    "dropout": 0.5,
}
PARAMS = Params.load(Path(__file__).resolve().parents[3] / "params.yaml")
EMOTIONS = [[0, 1, 1, 2, 0], [2, 1, 1, 2], [0, -1, 1], [1], [1, 1, 2, 0, 1, 1]]


def build(dims=DIMS, **settings):
    torch.manual_seed(5)
    model = JointVector(fill({**SMALL, **settings}, JointVector.Config, where="models.joint_vector"), dims, 3).eval()
    for (
        name,
        weight,
    ) in (
        model.named_parameters()
    ):  # as after some training: no bias, no gain and no absent vector is left out by chance
        if weight.ndim == 1:
            torch.nn.init.normal_(weight, mean=1.0 if "norm" in name and name.endswith("weight") else 0.0, std=0.5)
    torch.nn.init.normal_(model.joint_KH)
    return model


def code(position):
    """In float32, as they are computed; test_dialogue_transformer.py compares them with the formula."""
    return position_codes(position + 1, UNITS, torch.device("cpu"))[position].double()


def norm(vector, layer):
    centred = vector - vector.mean()
    return centred / (centred.square().mean() + 1e-5).sqrt() * layer.weight + layer.bias


def affine(vector, layer):
    return layer.weight @ vector + layer.bias


def gelu(vector):
    return vector / 2 * (1 + torch.erf(vector / math.sqrt(2)))


def attended(attention, queries, entries):
    """Multi-head attention: what each query reads from the entries."""
    width = UNITS // attention.num_heads
    rows = {part: slice(number * UNITS, (number + 1) * UNITS) for number, part in enumerate(["query", "key", "value"])}

    def projected(vectors, part):
        return [
            attention.in_proj_weight[rows[part]] @ vector + attention.in_proj_bias[rows[part]] for vector in vectors
        ]

    keys, values, found = projected(entries, "key"), projected(entries, "value"), []
    for query in projected(queries, "query"):
        heads = []
        for head in range(attention.num_heads):
            own = slice(head * width, (head + 1) * width)
            weights = torch.stack([query[own] @ key[own] / math.sqrt(width) for key in keys]).softmax(dim=0)
            heads.append(sum(weight * value[own] for weight, value in zip(weights, values, strict=True)))
        found.append(affine(torch.cat(heads), attention.out_proj))
    return found


def encoded(encoder, entries, keys):
    """A pre-norm transformer layer; ``keys``: whether each entry may be attended to."""
    normed = [norm(entry, encoder.norm1) for entry in entries]
    read = attended(encoder.self_attn, normed, [entry for entry, is_key in zip(normed, keys, strict=True) if is_key])
    between = [entry + own for entry, own in zip(entries, read, strict=True)]
    return [
        entry + affine(gelu(affine(norm(entry, encoder.norm2), encoder.linear1)), encoder.linear2) for entry in between
    ]


def by_loops(model, features, present):
    """Equations 1 to 6 of the reconstruction for one dialogue: logits, hidden, unimodal and the classifiers' logits,
    [T, …] each.
    """
    steps = len(next(iter(present.values())))
    streams = {}
    for name in features:
        projection = model.source.projections[name]
        chosen = [
            affine(features[name][step], projection.linear) if present[name][step] else projection.absent_H
            for step in range(steps)
        ]
        streams[name] = [vector + code(step) for step, vector in enumerate(chosen)]
    joints, unimodal = list(model.joint_KH), {}
    for number, block in enumerate(model.blocks):
        updates = []
        for name, stream in streams.items():
            both = encoded(block.encoders[name], [*stream, *joints], [*present[name], *[True] * len(joints)])
            streams[name] = both[:steps]
            updates.append(both[steps:])
        joints = [sum(vectors) / len(vectors) for vectors in zip(*updates, strict=True)]
        if number == 0:
            unimodal = {
                name: torch.stack([vector - code(step) for step, vector in enumerate(stream)])
                for name, stream in streams.items()
            }
    joints = [norm(vector, model.joint_norm) for vector in joints]
    logits, hidden, heads = [], [], {name: [] for name in features}
    for step in range(steps):
        own = {name: norm(stream[step], model.norms[name]) for name, stream in streams.items()}
        (read,) = attended(model.source.reading, [affine(torch.cat(list(own.values())), model.source.question)], joints)
        scores = {name: affine(torch.cat([vector, read]), model.classifiers[name]) for name, vector in own.items()}
        counted = [name for name in features if present[name][step]] or list(features)
        logits.append(sum(scores[name].log_softmax(dim=0) for name in counted) / len(counted))
        hidden.append(torch.cat([read, *own.values()]))
        for name, score in scores.items():
            heads[name].append(score)
    return (
        torch.stack(logits),
        torch.stack(hidden),
        unimodal,
        {name: torch.stack(scores) for name, scores in heads.items()},
    )


@pytest.mark.parametrize(
    ("modalities", "settings"),
    [
        (("text", "audio", "visual"), {}),
        (("text", "audio"), {"blocks": 1, "joint_vectors": 3}),
        (("visual",), {"blocks": 2, "joint_vectors": 1}),
    ],
)
def test_it_computes_what_the_loops_compute(make_batch, modalities, settings):
    lengths, model = [4, 1, 6], build({name: DIMS[name] for name in modalities}, **settings).double()
    batch = make_batch(lengths, modalities=modalities)
    batch = replace(batch, features={name: value.double() for name, value in batch.features.items()})
    if len(modalities) > 1:  # an utterance without any modality
        batch = replace(
            batch, modality_mask={name: mask & (torch.arange(6) != 2) for name, mask in batch.modality_mask.items()}
        )
    output = model(batch)
    assert output.unimodal_logits.keys() == (set(modalities) if len(modalities) > 1 else set())
    for index, length in enumerate(lengths):
        features = {name: value[index, :length] for name, value in batch.features.items()}
        present = {name: mask[index, :length].tolist() for name, mask in batch.modality_mask.items()}
        logits, hidden, unimodal, heads = by_loops(model, features, present)
        torch.testing.assert_close(
            output.logits[index, :length].double(), logits, atol=1e-6, rtol=0
        )  # log-probabilities are float32
        torch.testing.assert_close(output.hidden[index, :length], hidden, atol=1e-9, rtol=0)
        for name in modalities:
            torch.testing.assert_close(output.unimodal[name][index, :length], unimodal[name], atol=1e-9, rtol=0)
            chosen = [vector for vector, there in zip(unimodal[name], present[name], strict=True) if there] or [
                torch.zeros(UNITS, dtype=torch.float64)
            ]
            torch.testing.assert_close(output.pooled[name][index], sum(chosen) / len(chosen), atol=1e-9, rtol=0)
        for name, scores in output.unimodal_logits.items():
            torch.testing.assert_close(scores[index, :length], heads[name], atol=1e-9, rtol=0)


def sequences_below(batch, longest=4):
    """Random sequences, empty where the modality is absent."""
    generator, sequences, masks = torch.Generator().manual_seed(2), {}, {}
    for name, values in batch.features.items():
        present = batch.modality_mask[name].flatten()[batch.real_positions]
        counts = torch.randint(1, longest + 1, present.shape, generator=generator) * present
        masks[name] = torch.arange(longest) < counts[:, None]
        drawn = torch.randn(len(present), longest, values.shape[-1], generator=generator, dtype=values.dtype)
        sequences[name] = torch.where(masks[name][..., None], drawn, 0.0)
    return replace(batch, sequences=sequences, sequence_mask=masks)


def test_over_tokens_it_computes_what_the_loops_compute(make_batch):
    model, batch = build(mode="token").double(), make_batch([4, 1, 6])
    mask = batch.utterance_mask & (torch.arange(6) != 2)  # the third utterances have no modality
    batch = replace(
        batch,
        features={name: value.double() for name, value in batch.features.items()},
        modality_mask=dict.fromkeys(DIMS, mask),
    )
    batch = sequences_below(
        replace(batch, modality_mask={**batch.modality_mask, "audio": mask & (torch.arange(6) != 0)})
    )
    output = model(batch)
    for row, (index, step) in enumerate(batch.utterance_mask.nonzero().tolist()):
        streams, keys = {}, {}
        for name in DIMS:
            count, source = int(batch.sequence_mask[name][row].sum()), model.source
            entries = [
                affine(norm(entry, source.norms[name]), source.projections[name].linear)
                for entry in batch.sequences[name][row, :count]
            ]
            streams[name], keys[name] = entries or [source.projections[name].absent_H], [bool(entries)] * max(1, count)
        joints = list(model.joint_KH)
        for number, block in enumerate(model.blocks):
            updates = []
            for name, stream in streams.items():
                both = encoded(block.encoders[name], [*stream, *joints], [*keys[name], *[True] * len(joints)])
                streams[name] = both[: len(stream)]
                updates.append(both[len(stream) :])
            joints = [sum(vectors) / len(vectors) for vectors in zip(*updates, strict=True)]
            if number == 0:
                for name, stream in streams.items():
                    torch.testing.assert_close(
                        output.unimodal[name][index, step], sum(stream) / len(stream), atol=1e-9, rtol=0
                    )
        joint = sum(norm(vector, model.joint_norm) for vector in joints) / len(joints)
        own = {
            name: sum(norm(vector, model.norms[name]) for vector in stream) / len(stream)
            for name, stream in streams.items()
        }
        torch.testing.assert_close(output.hidden[index, step], torch.cat([joint, *own.values()]), atol=1e-9, rtol=0)
        scores = {name: affine(torch.cat([vector, joint]), model.classifiers[name]) for name, vector in own.items()}
        for name, score in scores.items():
            torch.testing.assert_close(output.unimodal_logits[name][index, step], score, atol=1e-9, rtol=0)
        counted = [name for name in DIMS if keys[name][0]] or list(DIMS)
        expected = sum(scores[name].log_softmax(dim=0) for name in counted) / len(counted)
        torch.testing.assert_close(output.logits[index, step].double(), expected, atol=1e-6, rtol=0)


def test_over_tokens_no_utterance_knows_of_another_or_of_the_padding_of_sequences(make_batch):
    model, batch = build(mode="token"), sequences_below(make_batch([4, 6]))
    changed = {
        name: torch.where(batch.sequence_mask[name][..., None], value, 77.0) for name, value in batch.sequences.items()
    }
    changed["text"][3, :, 0] += 1.0
    longer = {name: torch.nn.functional.pad(value, (0, 0, 0, 5), value=5.0) for name, value in changed.items()}
    masks = {name: torch.nn.functional.pad(mask, (0, 5)) for name, mask in batch.sequence_mask.items()}
    before, after = model(batch).logits, model(replace(batch, sequences=longer, sequence_mask=masks)).logits
    unchanged = batch.utterance_mask & ((torch.arange(6) != 3) | (torch.arange(2) != 0)[:, None])
    torch.testing.assert_close(after[unchanged], before[unchanged], atol=1e-5, rtol=0)
    assert batch.sequence_mask["text"][3].any()
    assert not torch.allclose(after[0, 3], before[0, 3], atol=1e-3)


def test_over_tokens_a_batch_without_sequences_is_refused(make_batch):
    with pytest.raises(ValueError, match="no sequences"):
        build(mode="token")(make_batch([3]))


@pytest.mark.usefixtures("toy_framework")
@pytest.mark.parametrize("recipe", ["all", "all+toy"])
def test_over_tokens_it_is_trained_on_what_the_extraction_kept_and_read_back(
    make_shards, keep_frames, tree, tmp_path, recipe
):
    tree["models"] |= {"joint_vector": {**SMALL, "mode": "token", "blocks": 2, "dropout": 0.0}}
    tree["recipes"]["all"] |= {
        "model": "joint_vector",
        "modalities": ["text", "audio"],
        "seeds": [0],
        "epochs": 8,
        "patience_epochs": 8,
    }
    layout = keep_frames(make_shards(modalities=("text", "audio")))
    out = train(resolve(Params(tree), recipe), layout, RunOptions(device="cpu"), runs=tmp_path / "runs")
    made = label(
        out / "models" / "seed-0" / "model.safetensors", layout.shards, tmp_path / "labels.parquet", split="test"
    )
    run = pq.read_table(out / "predictions.parquet", filters=[("split", "=", "test")])
    assert made["predicted"].equals(run["predicted"])
    assert np.mean(made["predicted"].to_numpy() == made["label"].to_numpy()) > 0.8


def test_what_is_predicted_without_gradients_is_what_is_trained(make_batch):
    """torch takes another path through its encoder layers when no gradients are needed."""
    model, batch = build(), make_batch([4, 1, 6], pad_to=9)
    trained = model(batch)
    with torch.inference_mode():
        predicted = model(batch)
    torch.testing.assert_close(predicted.logits, trained.logits.detach(), atol=1e-5, rtol=0)
    torch.testing.assert_close(predicted.hidden, trained.hidden.detach(), atol=1e-5, rtol=0)


def streams_after_each_block(model, batch):
    """modality → its sequence after the first block, the second, …"""
    found = []
    hooks = [block.register_forward_hook(lambda block, given, made: found.append(made[0])) for block in model.blocks]
    model(batch)
    for hook in hooks:
        hook.remove()
    return found


def test_one_modality_hears_of_another_from_the_second_block_on(make_batch):
    model, batch = build(), make_batch([4, 6])
    silent = replace(batch, features={**batch.features, "audio": torch.zeros_like(batch.features["audio"])})
    before, after = streams_after_each_block(model, batch), streams_after_each_block(model, silent)
    mask = batch.utterance_mask
    assert [torch.equal(one["text"][mask], other["text"][mask]) for one, other in zip(before, after, strict=True)] == [
        True,
        False,
        False,
    ]
    assert torch.equal(model(batch).unimodal["text"], model(silent).unimodal["text"])
    assert not torch.equal(model(batch).unimodal["audio"], model(silent).unimodal["audio"])


def test_with_the_joint_vectors_cut_off_nothing_passes_between_the_modalities(make_batch):
    """Every block gets the initial joint vectors: then nothing of audio reaches text in any other way."""
    model, batch = build(), make_batch([4, 6])
    for block in model.blocks:
        block.register_forward_hook(lambda block, given, made: (made[0], given[2]))
    silent = replace(batch, features={**batch.features, "audio": torch.zeros_like(batch.features["audio"])})
    before, after = streams_after_each_block(model, batch), streams_after_each_block(model, silent)
    assert all(torch.equal(one["text"], other["text"]) for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("name", list(DIMS))
def test_each_modality_trains_the_joint_vectors(make_batch, name):
    """Through its own encoder, with the others cut off."""
    model, batch = build(blocks=1), make_batch([4, 6])
    for other in DIMS:
        if other != name:
            model.blocks[0].encoders[other].register_forward_hook(lambda encoder, given, made: made.detach())
    read_BTH = model(batch).hidden[..., :UNITS]
    read_BTH[batch.utterance_mask].square().sum().backward()
    assert model.joint_KH.grad.any(dim=1).all()


def test_what_is_in_the_padding_changes_nothing(make_batch):
    model, lengths = build(), [3, 5]
    near, far = make_batch(lengths), make_batch(lengths, pad_to=11, padding=1e3)
    order = torch.cat([torch.arange(5), torch.arange(5, 11).flip(0)])
    permuted = replace(far, features={name: value[:, order] for name, value in far.features.items()})
    assert torch.equal(model(far).logits[:, :5], model(permuted).logits[:, :5])
    torch.testing.assert_close(
        model(far).logits[:, :5][near.utterance_mask], model(near).logits[near.utterance_mask], atol=1e-5, rtol=0
    )


def test_order_is_seen(make_batch):
    batch = make_batch([2])
    same = {name: torch.ones_like(value) for name, value in batch.features.items()}
    logits = build()(replace(batch, features=same, modality_mask=dict.fromkeys(DIMS, batch.utterance_mask))).logits[0]
    assert not torch.allclose(logits[0], logits[1], atol=1e-3)


def test_pooled_vectors_tell_less_of_a_dialogues_length_than_with_the_codes_of_its_positions(make_batch):
    """For a dialogue that repeats one utterance; the effect of the position codes on attention remains."""
    model = build(hidden_units=64)

    def pooled(length):
        batch = make_batch([length])
        same = {name: torch.ones_like(value) for name, value in batch.features.items()}
        return model(replace(batch, features=same, modality_mask=dict.fromkeys(DIMS, batch.utterance_mask))).pooled[
            "text"
        ]

    codes = {length: position_codes(length, 64, torch.device("cpu")).mean(dim=0) for length in (3, 40)}
    without, within = pooled(3) - pooled(40), pooled(3) + codes[3] - pooled(40) - codes[40]
    assert without.norm() < 0.65 * within.norm()


def test_units_that_the_heads_do_not_divide_are_refused():
    with pytest.raises(BadSettings, match="hidden_units is 8, no multiple of heads, 3"):
        build(heads=3)


def step_of(recipe, split):
    """The model and the losses of a recipe, and the values of its terms on all dialogues of a split, differentiated."""
    plan = resolve(PARAMS, recipe)
    torch.manual_seed(0)
    model = plan.build(split.dims, 3).train()
    facts = TrainingFacts(class_counts=torch.ones(3), gives=model.gives, train=split)
    losses = [term.kind(term.config, facts) for term in plan.losses]
    for loss in losses:
        loss.begin_epoch(0, model, torch.Generator().manual_seed(0))
    batch = collate(split, torch.arange(len(split.dialogue_ids)))
    output = model(batch)
    terms = {
        term.name: loss(output, batch, epoch=0, generator=torch.Generator())
        for term, loss in zip(plan.losses, losses, strict=True)
    }
    sum(term.weight * terms[term.name] for term in plan.losses).backward()
    return model, terms, output, batch


def test_the_loss_is_the_mean_of_the_classifiers_cross_entropies(make_split):
    """Equation 6; not the loss of the mean of their log-probabilities, which is smaller the less they agree."""
    split = make_split(EMOTIONS)
    split = replace(
        split, present={name: torch.arange(split.utterances + 1) < split.utterances for name in split.present}
    )
    _, terms, output, batch = step_of("joint_vector", split)
    labels = batch.labels[batch.labelled]
    heads = [
        torch.nn.functional.cross_entropy(logits[batch.labelled], labels) for logits in output.unimodal_logits.values()
    ]
    torch.testing.assert_close(terms["cross_entropy"], sum(heads) / len(heads))
    assert torch.nn.functional.cross_entropy(output.logits[batch.labelled], labels) < terms["cross_entropy"]


def test_dclf_trains_its_own_decoder():
    (term,) = (term for term in resolve(PARAMS, "joint_vector+dclf").losses if term.kind is CrossEntropy)
    assert (term.config.fused_weight, term.config.unimodal_weight) == (1.0, 1.0)


@pytest.mark.parametrize(("key", "values"), [("blocks", [1, 2, 3, 4, 5, 6]), ("joint_vectors", [1, 2, 4, 8, 16])])
def test_the_two_sweeps_are_recipes(key, values):
    addition = key.removesuffix("_vectors")
    found = [
        getattr(resolve(PARAMS, f"joint_vector+{addition}_{value}@text-audio").model_config, key) for value in values
    ]
    assert found == values
    assert getattr(resolve(PARAMS, "joint_vector").model_config, key) in values
