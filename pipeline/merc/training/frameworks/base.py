"""The contract of a framework: it wraps a model and changes what follows it.

A new framework is one file here, with its settings as a nested ``Config``, and its test.
"""

from torch import nn

from merc.params import Settings
from merc.training.models.engine.base import MERCModel


class Framework(MERCModel):
    """A model around a model; losses and metrics treat it like any other model.

    By default the framework has the properties of the wrapped model: modalities, classes, ``gives``, and whether it is
    causal. A framework that changes one of them (such as the width of ``hidden``) sets it in its constructor, after
    calling this one.

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
        """The branch of the wrapped model; the framework's own weights belong to the fusion."""
        return self.model.branch(modality)
