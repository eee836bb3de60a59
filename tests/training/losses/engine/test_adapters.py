import pytest
import torch

from merc.errors import BadSettings
from merc.training.losses.engine.adapters import OnHidden, common_space, labelled_rows, projection


def test_labelled_rows_are_gathered_in_order(make_batch):
    batch = make_batch([4, 2, 5], pad_to=7)
    values = torch.randn(*batch.labels.shape, 3)
    assert torch.equal(labelled_rows(values, batch), values[batch.labelled])
    assert torch.equal(labelled_rows(batch.labels, batch), batch.labels[batch.labelled])


class SumOfLabels(OnHidden):
    """The sum of the vectors, each multiplied by its label."""

    def __init__(self, config, facts):
        super().__init__(config, facts)
        self.loss = lambda z, labels: (z * labels[:, None]).sum()


@pytest.mark.parametrize("units", [0, 2])
def test_a_loss_on_hidden_gets_projected_labelled_rows_and_their_labels(make_batch, make_output, facts, units):
    batch = make_batch([4, 2, 5], pad_to=7)
    output = make_output(batch)
    term = SumOfLabels(SumOfLabels.Config(projection_units=units), facts)
    rows = term.project(output.hidden[batch.labelled])
    assert rows.shape[1] == term.dim == (units or facts.gives.hidden)
    torch.testing.assert_close(term(output, batch), (rows * batch.labels[batch.labelled][:, None]).sum())


def test_a_projection_has_one_hidden_layer_and_is_left_out_at_width_zero():
    assert [type(layer).__name__ for layer in projection(4, 2)] == ["Linear", "ReLU", "Linear"]
    rows = torch.randn(3, 4)
    assert projection(4, 2)(rows).shape == (3, 2)
    assert projection(4, 0)(rows) is rows


def test_modalities_of_different_width_need_a_projection_into_a_common_space():
    maps = common_space({"text": 4, "audio": 3}, 2, "toy")
    assert maps["text"](torch.ones(1, 4)).shape == maps["audio"](torch.ones(1, 3)).shape == (1, 2)
    assert not list(common_space({"text": 4, "audio": 4}, 0, "toy").parameters())
    with pytest.raises(BadSettings, match=r"\{'text': 4, 'audio': 3\}: give losses\.toy\.projection_units above 0"):
        common_space({"text": 4, "audio": 3}, 0, "toy")
