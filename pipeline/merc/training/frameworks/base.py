"""What a framework must offer: it wraps a model and changes what comes after it.

A new one is one file here, with its settings as a nested ``Config``, and its test.
"""

from torch import nn

from merc.params import Settings
from merc.training.models.engine.base import MERCModel


class Framework(MERCModel):
    """A model around a model, for losses and metrics a model like any other.

    As it stands the framework has what the wrapped model has: modalities, classes, ``gives``, and whether it is causal.
    A framework that changes one of them (the width of ``hidden``, say) sets it in its constructor, after this one.

    Args:
        config: an instance of the framework's ``Config``.
        model: the model to wrap; a submodule, trained with the framework's own weights.
    """

    def __init__(self, config: Settings, model: MERCModel) -> None:
        super().__init__(config, model.dims, model.classes)
        self.model = model
        self.causal = model.causal
        self.gives = model.gives

    def branch(self, modality: str) -> tuple[nn.Module, ...]:
        """The wrapped model's; the framework's own weights are of the fusion."""
        return self.model.branch(modality)
