"""The context-aware loss: tabulated numbers, the equations written with loops, and what must hold for any input."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merc.training.data.collate import collate
from merc.training.losses.context_aware import ContextAware, ContextAwareLoss, HistoryPooling
from merc.training.losses.engine.base import TrainingFacts
from merc.training.models.engine.base import Gives, MERCOutput

H = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
POS = torch.tensor([[[0.8, 0.6], [0.0, 1.0]]], dtype=torch.float64)
NEG = torch.tensor([[[-1.0, 0.0], [0.6, -0.8]]], dtype=torch.float64)


# Computed from the formula with plain numpy.
@pytest.mark.parametrize(
    ("temperature", "denominator", "expected"),
    [(0.5, "neg", 0.14919977), (0.5, "all", 1.15085834), (0.07, "neg", -2.16400656), (0.07, "all", 0.74899050)],
)
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
def test_the_tabulated_numbers(temperature, denominator, expected, dtype, atol):
    loss = ContextAwareLoss(temperature=temperature, denominator=denominator)
    assert loss(H.to(dtype), pos=POS.to(dtype), neg=NEG.to(dtype)).item() == pytest.approx(expected, abs=atol)


def cosine(one, two):
    length = math.sqrt(sum(x * x for x in one)) * math.sqrt(sum(x * x for x in two))
    return sum(x * y for x, y in zip(one, two, strict=True)) / length if length else 0.0


def equation(h, positives, negatives, temperature, denominator):
    """Equation 10 for one utterance; None if it has no positive or no negative."""
    if not positives or not negatives:
        return None
    above = [math.exp(cosine(h, g) / temperature) for g in positives]
    below = [math.exp(cosine(h, g) / temperature) for g in negatives] + (above if denominator == "all" else [])
    return -math.log(sum(above) / len(above) / sum(below))


def mean(values):
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else 0.0


def problem(seed, anchors=4, positives=3, negatives=5, share=0.6):
    """Anchors, positives, negatives and their masks."""
    generator = torch.Generator().manual_seed(seed)
    sizes = (anchors, 4), (anchors, positives, 4), (anchors, negatives, 4)
    vectors = [torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes]
    return (*vectors, *(torch.rand(size[:2], generator=generator) < share for size in sizes[1:]))


@given(seed=st.integers(0, 10**6), denominator=st.sampled_from(["neg", "all"]), share=st.sampled_from([0.2, 0.6, 1.0]))
@settings(max_examples=50, deadline=None)
def test_it_is_the_equation_written_with_loops(seed, denominator, share):
    h, pos, neg, pos_mask, neg_mask = problem(seed, share=share)
    expected = [
        equation(h[row].tolist(), pos[row, pos_mask[row]].tolist(), neg[row, neg_mask[row]].tolist(), 0.3, denominator)
        for row in range(len(h))
    ]
    vectors = {"pos": pos, "neg": neg, "pos_mask": pos_mask, "neg_mask": neg_mask}
    each = ContextAwareLoss(temperature=0.3, denominator=denominator, reduction="none")(h, **vectors)
    assert each.tolist() == pytest.approx([value or 0.0 for value in expected], abs=1e-9)
    assert ContextAwareLoss(temperature=0.3, denominator=denominator)(h, **vectors).item() == pytest.approx(
        mean(expected), abs=1e-9
    )
    assert ContextAwareLoss(temperature=0.3, denominator=denominator, reduction="sum")(
        h, **vectors
    ).item() == pytest.approx(each.sum().item(), abs=1e-9)


@given(seed=st.integers(0, 10**6), denominator=st.sampled_from(["neg", "all"]))
@settings(max_examples=30, deadline=None)
def test_order_length_rotation_and_absent_vectors_change_nothing(seed, denominator):
    h, pos, neg, pos_mask, neg_mask = problem(seed)
    loss = ContextAwareLoss(temperature=0.2, denominator=denominator)

    def value(*vectors):
        return loss(**dict(zip(("z", "pos", "neg", "pos_mask", "neg_mask"), vectors, strict=True)))

    expected = value(h, pos, neg, pos_mask, neg_mask)
    anchors, window = torch.randperm(4), torch.randperm(3)
    rotation, _ = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))
    longer = torch.rand(4, 1, 1, dtype=torch.float64) + 0.1
    others = [
        value(h[anchors], pos[anchors], neg[anchors], pos_mask[anchors], neg_mask[anchors]),
        value(h, pos[:, window], neg, pos_mask[:, window], neg_mask),
        value(h @ rotation, pos @ rotation, neg @ rotation, pos_mask, neg_mask),
        value(h * longer[:, 0], pos * longer, neg * 7.0, pos_mask, neg_mask),
        value(
            h,
            pos.masked_fill(~pos_mask[..., None], float("nan")),
            neg.masked_fill(~neg_mask[..., None], -8.0),
            pos_mask,
            neg_mask,
        ),
    ]
    torch.testing.assert_close(torch.stack(others), expected.expand(5))


@given(seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_its_range_is_what_the_temperature_allows(seed):
    h, pos, neg, _, _ = problem(seed)
    literal = ContextAwareLoss(temperature=0.07, denominator="neg", reduction="none")(h, pos=pos, neg=neg)
    assert (literal >= math.log(5) - 2 / 0.07 - 1e-9).all()
    assert (literal <= math.log(5) + 2 / 0.07 + 1e-9).all()
    every = ContextAwareLoss(temperature=0.07, denominator="all", reduction="none")(h, pos=pos, neg=neg)
    assert (every >= literal).all()
    assert (every >= 0).all()


@pytest.mark.parametrize("denominator", ["neg", "all"])
def test_gradients_agree_with_finite_differences(denominator):
    h, pos, neg, pos_mask, neg_mask = problem(5)
    loss = ContextAwareLoss(temperature=0.3, denominator=denominator)
    inputs = tuple(one.requires_grad_() for one in (h, pos, neg))
    assert torch.autograd.gradcheck(
        lambda z, pos, neg: loss(z, pos=pos, neg=neg, pos_mask=pos_mask, neg_mask=neg_mask), inputs
    )


@pytest.mark.parametrize("denominator", ["neg", "all"])
@pytest.mark.parametrize("absent", ["anchors", "positives", "negatives", "width"])
def test_without_a_pair_the_loss_is_exactly_zero_and_backward_runs(denominator, absent):
    anchors, width = 0 if absent == "anchors" else 2, 0 if absent == "width" else 3
    h, pos, neg = (
        torch.randn(size, requires_grad=True) for size in [(anchors, 4), (anchors, width, 4), (anchors, width, 4)]
    )
    pos_mask, neg_mask = (torch.full((anchors, width), absent != one) for one in ("positives", "negatives"))
    loss = ContextAwareLoss(temperature=0.1, denominator=denominator)(
        h, pos=pos, neg=neg, pos_mask=pos_mask, neg_mask=neg_mask
    )
    loss.backward()
    assert loss.item() == 0.0
    assert not any(vectors.grad.any() for vectors in (h, pos, neg))


def test_zero_and_equal_vectors_stay_finite_at_a_tiny_temperature():
    for h in (torch.zeros(2, 4), torch.ones(2, 4)):
        vectors = [
            h.clone().requires_grad_(),
            torch.ones(2, 3, 4, requires_grad=True),
            torch.zeros(2, 3, 4, requires_grad=True),
        ]
        loss = ContextAwareLoss(temperature=1e-3)(vectors[0], pos=vectors[1], neg=vectors[2])
        loss.backward()
        assert torch.isfinite(loss)
        assert all(torch.isfinite(one.grad).all() for one in vectors)


def test_half_precision_is_computed_in_float32_also_under_autocast():
    h, pos, neg, *_ = problem(1)
    plain = ContextAwareLoss(temperature=0.07)(h.float(), pos=pos.float(), neg=neg.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ContextAwareLoss(temperature=0.07)(h.float(), pos=pos.float(), neg=neg.float())
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, plain)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="above 0, not 0"):
        ContextAwareLoss(temperature=0.0)
    with pytest.raises(ValueError, match=r"the mask must be \(1, 4\)"):
        ContextAwareLoss(temperature=0.1)(H, pos=POS, neg=NEG, pos_mask=torch.ones(1, 1).bool())
    with pytest.raises(ValueError, match="not finite"):
        ContextAwareLoss(temperature=0.1, debug=True)(H, pos=POS * float("inf"), neg=NEG)
    with pytest.raises(ValueError, match="'positives'; valid: all, neg"):
        ContextAwareLoss(temperature=0.1, denominator="positives")


def test_the_history_is_pooled_as_its_formula_says_and_nothing_later_enters():
    torch.manual_seed(0)
    pooling, hidden = HistoryPooling(4), torch.randn(2, 5, 4)
    pooled = pooling(hidden)
    for dialogue in range(2):
        rows = hidden[dialogue]
        assert pooled[dialogue, 0].tolist() == [0.0] * 4
        for step in range(1, 5):
            scores = [(pooling.query(rows[step]) @ pooling.key(rows[earlier])).item() / 2 for earlier in range(step)]
            weights = [math.exp(score) / sum(map(math.exp, scores)) for score in scores]
            expected = sum(weight * pooling.value(rows[earlier]) for earlier, weight in enumerate(weights))
            torch.testing.assert_close(pooled[dialogue, step], expected)


# The loss of a recipe, on dialogues with a model's output.

EMOTIONS = [[0, 1, 1, 2, 0], [2, 1, 1, 2], [0, -1, 1], [1], [1, 1, 2, 0, 1, 1]]
DIM = 4


def build(split, context_width=None, **settings):
    torch.manual_seed(7)
    config = ContextAware.Config(**{"window": 3, "temperature": 0.3, **settings})
    return ContextAware(
        config,
        TrainingFacts(
            class_counts=torch.ones(3), gives=Gives(hidden=DIM, unimodal={}, context=context_width), train=split
        ),
    )


class Model(torch.nn.Module):
    """A model whose hidden vectors are its random weights; counts its calls."""

    def __init__(self, split, context_width=None):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.vectors = torch.nn.Parameter(torch.randn(split.utterances + 1, DIM, generator=generator))
        self.contexts = torch.randn(split.utterances + 1, context_width or 1, generator=generator)
        self.context_width, self.asked = context_width, 0

    def forward(self, batch):
        self.asked += 1
        hidden = self.vectors[batch.utterance_index]
        return MERCOutput(
            logits=hidden, hidden=hidden, context=self.contexts[batch.utterance_index] if self.context_width else None
        )


def started(split, seed=0, epoch=0, context_width=None, **settings):
    """A loss and a model at the start of an epoch."""
    loss, model = build(split, context_width, **settings), Model(split, context_width)
    loss.begin_epoch(epoch, model, torch.Generator().manual_seed(seed))
    return loss, model


@pytest.mark.parametrize("context_width", [None, 2])
@pytest.mark.parametrize(("contextual_extract", "denominator"), [(True, "all"), (True, "neg"), (False, "all")])
def test_a_batch_is_the_equation_over_its_labelled_utterances_with_history(
    make_split, contextual_extract, denominator, context_width
):
    split = make_split(EMOTIONS)
    loss, model = started(
        split, contextual_extract=contextual_extract, context_width=context_width, denominator=denominator
    )
    batch = collate(split, torch.tensor([4, 2, 3, 0]))
    output = model(batch)
    pooled = HistoryPooling(DIM)
    if loss.extract is not None:
        pooled.load_state_dict(loss.extract.state_dict())

    def g(context, h):
        mapped = loss.of_utterance.weight @ h + loss.of_utterance.bias
        return (mapped + loss.of_context.weight @ context if contextual_extract else mapped).tolist()

    values = []
    for place, number in enumerate([4, 2, 3, 0]):
        h = output.hidden[place, : len(EMOTIONS[number])]
        contexts = output.context[place] if context_width else pooled(h[None])[0]
        for step, label in enumerate(EMOTIONS[number]):
            rows = loss.negatives[int(split.starts[number]) + step].tolist()
            assert sum(row >= 0 for row in rows) == min(3, step)
            positives = [g(contexts[step], h[step - back]) for back in range(1, min(3, step) + 1)]
            negatives = [g(contexts[step], model.vectors[row]) for row in rows if row >= 0]
            values.append(equation(h[step].tolist(), positives, negatives, 0.3, denominator) if label >= 0 else None)
    assert len([value for value in values if value is not None]) == 10
    assert loss(output, batch).item() == pytest.approx(mean(values), abs=1e-5)


def test_vectors_before_dropout_and_relu_are_compared_and_kept_in_the_bank_where_the_model_gives_them(make_split):
    split = make_split(EMOTIONS)
    (loss, model), (same, _) = started(split), started(split)
    batch = collate(split, torch.tensor([4, 2, 3, 0]))
    output = model(batch)
    given = replace(output, hidden=torch.nn.functional.dropout(output.hidden.relu(), 0.4), bare=output.hidden)
    assert torch.equal(loss(given, batch), same(output, batch))
    assert torch.equal(loss.bank.rows, same.bank.rows)
    assert (loss.bank.rows < 0).any()


def test_a_projection_stands_before_all_that_the_loss_does_with_the_vectors(make_split):
    split = make_split(EMOTIONS)
    loss, model = started(split, projection_units=2)
    narrow, _ = started(split)
    batch = collate(split, torch.tensor([4, 2, 3, 0]))
    output = model(batch)
    narrow.project, narrow.of_utterance, narrow.extract, narrow.of_context = (
        torch.nn.Identity(),
        loss.of_utterance,
        loss.extract,
        loss.of_context,
    )
    narrow.bank.rows = loss.project(loss.bank.rows)
    assert loss.of_utterance.weight.shape == (2, 2)
    expected = narrow.eval()(replace(output, hidden=loss.project(output.hidden)), batch)
    torch.testing.assert_close(loss.eval()(output, batch), expected)


def test_a_class_that_is_absent_from_the_fold_changes_nothing(make_split):
    """Only labels 0 and 2 of three classes."""
    split = make_split([[0, 2, 2, 0], [2, 0, 2, 2], [0, 0, 2]])
    loss, model = started(split)
    value = loss(model(collate(split, torch.arange(3))), collate(split, torch.arange(3)))
    value.backward()
    assert value.isfinite()
    assert value > 0
    assert model.vectors.grad.isfinite().all()


@pytest.mark.parametrize("context_width", [None, 2])
def test_gradient_reaches_all_weights_and_the_utterances_but_not_through_the_bank(make_split, context_width):
    split = make_split(EMOTIONS)
    loss, model = started(split, context_width=context_width)
    loss(model(collate(split, torch.tensor([0]))), collate(split, torch.tensor([0]))).backward()
    assert [name for name, weight in loss.named_parameters() if weight.grad is None or not weight.grad.any()] == []
    assert sorted({name.split(".")[0] for name, _ in loss.named_parameters()}) == (
        ["of_context", "of_utterance"] if context_width else ["extract", "of_context", "of_utterance"]
    )
    touched = model.vectors.grad.abs().sum(dim=1) > 0
    assert touched.tolist() == [True] * 5 + [False] * (split.utterances - 4)


def test_weights_without_the_extract_are_those_of_one_map(make_split):
    assert [name for name, _ in build(make_split(EMOTIONS), contextual_extract=False).named_parameters()] == [
        "of_utterance.weight",
        "of_utterance.bias",
    ]


def test_the_bank_is_filled_once_and_overwritten_by_each_batch_in_training(make_split):
    split = make_split(EMOTIONS)
    loss, model = started(split)
    assert model.asked == 1
    loss.begin_epoch(1, model, torch.Generator().manual_seed(0))
    assert model.asked == 1
    torch.testing.assert_close(loss.bank.rows, model.vectors[:-1].detach())
    batch = collate(split, torch.tensor([1]))
    output = MERCOutput(logits=torch.zeros(1, 4, 3), hidden=torch.ones(1, 4, DIM))
    loss.eval()(output, batch)
    torch.testing.assert_close(loss.bank.rows, model.vectors[:-1].detach())
    loss.train()(output, batch)
    assert loss.bank.rows[5:9].eq(1.0).all()
    torch.testing.assert_close(loss.bank.rows[9:], model.vectors[9:-1].detach())


def test_negatives_depend_on_the_seed_and_the_epoch_alone(make_split):
    split = make_split(torch.randint(0, 2, (6, 20), generator=torch.Generator().manual_seed(0)).tolist())
    loss, model = started(split)
    generator = torch.Generator().manual_seed(0)
    seen = []
    for seed, epoch in [(0, 0), (0, 1), (1, 0), (0, 0)]:
        generator.manual_seed(seed)
        torch.rand(seed + epoch, generator=generator)
        before = generator.get_state()
        loss.begin_epoch(epoch, model, generator)
        assert torch.equal(generator.get_state(), before)
        seen.append(loss.negatives)
    assert torch.equal(seen[0], seen[3])
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


@pytest.mark.parametrize("chosen", [[3], [0, 1]])
def test_a_batch_without_history_or_labels_costs_exactly_nothing_and_backward_runs(make_split, chosen):
    split = make_split(EMOTIONS)
    loss, model = started(split)
    batch = collate(split, torch.tensor(chosen))
    batch = replace(batch, labels=torch.full_like(batch.labels, -1)) if len(chosen) > 1 else batch
    value = loss(model(batch), batch)
    value.backward()
    assert value.item() == 0.0
    assert not model.vectors.grad.any()


def test_one_dialogue_has_no_negatives_and_costs_nothing(make_split):
    split = make_split([[0, 1, 2]])
    loss, model = started(split)
    value = loss(model(collate(split, torch.tensor([0]))), collate(split, torch.tensor([0])))
    value.backward()
    assert value.item() == 0.0


@given(order=st.permutations(range(5)))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_order_of_the_batch_and_what_stands_at_padding_change_nothing(make_split, order):
    split = make_split(EMOTIONS)
    loss, model = started(split)
    batch, other = collate(split, torch.arange(5)), collate(split, torch.tensor(order))
    output = model(other)
    output.hidden = output.hidden.masked_fill(~other.utterance_mask[..., None], float("nan"))
    value = loss(output, other)
    value.backward()
    torch.testing.assert_close(value, loss(model(batch), batch))
    assert all(torch.isfinite(weight.grad).all() for weight in loss.parameters())


@pytest.mark.parametrize("context_width", [None, 2])
def test_a_step_waits_for_no_gpu(make_split, no_waiting, context_width):
    split = make_split(EMOTIONS)
    loss, model = started(split, context_width=context_width)
    batch = collate(split, torch.arange(5))
    output = model(batch)
    with no_waiting(batch):
        loss(output, batch).backward()


def test_it_works_where_the_training_is(make_split, device):
    split = make_split(EMOTIONS)
    loss, model = started(split)
    expected = loss(model(collate(split, torch.arange(5))), collate(split, torch.arange(5)))
    there, model = split.to(device), model.to(device)
    loss = build(there).to(device)
    loss.begin_epoch(0, model, torch.Generator().manual_seed(0))
    batch = collate(there, torch.arange(5))
    torch.testing.assert_close(loss(model(batch), batch).cpu(), expected)


def test_it_is_a_float32_scalar_also_where_the_model_computes_in_half_precision(make_split):
    split = make_split(EMOTIONS)
    loss, model = started(split)
    batch = collate(split, torch.arange(5))
    output = model(batch)
    expected = loss(output, batch)
    value = loss(replace(output, hidden=output.hidden.bfloat16()), batch)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected, atol=0.1, rtol=0.1)


def test_what_is_missing_is_said(make_split):
    with pytest.raises(ValueError, match="needs the train split"):
        build(None)
    split = make_split(EMOTIONS)
    batch = collate(split, torch.tensor([0]))
    with pytest.raises(ValueError, match="begin_epoch was not called"):
        build(split)(Model(split)(batch), batch)
    loss, _ = started(split, context_width=2)
    with pytest.raises(ValueError, match="its output has none"):
        loss(Model(split)(batch), batch)
