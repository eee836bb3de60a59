"""Which layers of an audio model are pooled: one, or all with weights. Shared by all families with layers."""

from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from merc.encoders.engine.neural import NeuralConfig, check_layer
from merc.errors import BadSettings


class LayersConfig(NeuralConfig):
    """Settings of an audio model whose layers can be weighted."""

    layer_weights: tuple[float, ...] | None = None
    """Instead of ``layer``: the pooled sequence is the mean of all layers with these weights, from layer 0 to the last;
    they need not sum to one."""

    @model_validator(mode="after")
    def _weights_and_layer_agree(self) -> Self:
        if self.layer_weights is not None:
            if self.layer != -1:
                raise ValueError("layer and layer_weights exclude each other; leave one out")
            if min(self.layer_weights, default=0) < 0 or not 0 < sum(self.layer_weights) < np.inf:
                raise ValueError(
                    f"layer_weights {list(self.layer_weights)}: must be finite, none negative, and at least one"
                    " positive"
                )
        return self

    @property
    def stated_layer(self) -> int | list[float]:
        """For the shards' metadata: the layer, or the weights of all."""
        return self.layer if self.layer_weights is None else list(self.layer_weights)


def shares(config: LayersConfig, layers: int) -> NDArray[np.float64]:
    """(layers + 1,) each layer's share in the pooled sequence, with sum one; 0 for those that are not needed.

    Args:
        config: contains the layer, or the weights.
        layers: number of layers of the model.

    Raises:
        BadSettings: if the model does not have that layer, or the number of weights is wrong.
    """
    weights = config.layer_weights
    if weights is None:
        one = np.zeros(layers + 1)
        one[check_layer(config.repo, config.layer, layers)] = 1.0
        return one
    if len(weights) != layers + 1:
        raise BadSettings(
            f"{config.repo}: {len(weights)} layer_weights; the model has {layers} layers and takes {layers + 1}, the"
            " first for layer 0"
        )
    return np.array(weights) / sum(weights)
