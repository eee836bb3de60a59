"""Low-rank updates through ``peft``, merged into the weights at the end, so that an adapted encoder is a complete model
like any other.
"""

from typing import Any

from torch import nn

from merc import extras
from merc.adaptation.config import Config
from merc.errors import BadSettings

_POOLER = "pooler.dense"  # of BERT and related models; none of our vectors passes through it


class LowRank:
    """Inserts low-rank updates into a model in place; from then on, only they are trained.

    Args:
        model: a model of transformers.
        config: the settings.

    Raises:
        MissingExtra: if peft is not installed.
        BadSettings: if the model has no linear layers with the given names.
    """

    def __init__(self, model: nn.Module, config: Config.Lora) -> None:
        extras.need("adapt", "a fine-tuning by low-rank updates")
        import peft

        modules = config.modules if isinstance(config.modules, str) else list(config.modules)
        wanted = peft.LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            target_modules=modules,
            exclude_modules=[_POOLER],
            bias="none",
        )
        try:
            self._wrapped: Any = peft.get_peft_model(model, wanted)
        except ValueError as error:
            raise BadSettings(f"adaptations: lora.modules {config.modules}: {error}") from error

    def merge(self) -> None:
        """Adds the updates to the weights and removes their modules; the model has its original weight names again."""
        self._wrapped.merge_and_unload()
