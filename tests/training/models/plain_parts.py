"""Shared parts of the plain versions of several models."""

from dataclasses import replace

from torch import nn


def in_doubles(batch):
    """The batch with its features in float64."""
    return replace(batch, features={name: value.double() for name, value in batch.features.items()})


def cells(layer, units):
    """The layer's two GRUs as torch's: the first has the lower layer's state as input, the second as state."""
    below, heard = (
        (linear.weight.split(3 * units), linear.bias.split(3 * units)) for linear in (layer.below, layer.heard)
    )
    pair = []
    for number, (of_input, of_state) in enumerate([(below, heard), (heard, below)]):
        cell = nn.GRUCell(units, units).double()
        for kind, (weights, biases) in (("ih", of_input), ("hh", of_state)):
            getattr(cell, f"weight_{kind}").data.copy_(weights[number])
            getattr(cell, f"bias_{kind}").data.copy_(biases[number])
        pair.append(cell)
    return pair
