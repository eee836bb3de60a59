"""Settings of a fine-tuning: the blocks ``adaptations.<modality>.<name>``."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from merc.params import Settings


class Config(Settings):
    """Settings of a fine-tuning."""

    class Lora(Settings):
        """Low-rank updates (Hu et al., LoRA, ICLR 2022): W + (alpha / rank) · B A, in place of all weights."""

        rank: int = Field(default=16, ge=1)
        """Rank of the updates."""
        alpha: int = Field(default=32, ge=1)
        """Scale of the updates, times ``rank``."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Dropout on what enters the updates, 0 to 1."""
        modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
        """Names of the linear layers that get an update, or ``all-linear``."""

    encoder: Mapping[str, Any] = Field(default_factory=dict)
    """Settings of the encoder's block that are other in this training, such as ``speaker_names``; the adapted encoder's
    block must say the same."""
    method: Literal["full", "lora"] = "full"
    """``full`` trains all weights but those of convolutions over sound; ``lora`` (extra adapt) trains low-rank updates,
    which are merged into the weights at the end."""
    lora: Lora | None = None
    """Settings of the low-rank updates; None with ``full``."""
    epochs: int = Field(default=2, ge=1)
    """Epochs over the train split; the best by weighted F1 on dev is kept."""
    batch_utterances: int = Field(default=32, ge=1)
    """Utterances of a step of the optimiser; how many of them are computed at once is the encoder's own budget
    (``tokens_per_batch``, ``samples_per_batch``), which changes memory, rounding and the draws of dropout."""
    pool_batches: int = Field(default=16, ge=1)
    """Batches of shuffled utterances that are sorted by length together, so that those of a batch are alike; 1: no
    sorting."""
    learning_rate: float = Field(default=0.0001, gt=0)
    """Learning rate of the encoder at its highest."""
    head_learning_rate: float = Field(default=0.001, gt=0)
    """Learning rate of the classifier on top at its highest."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Weight decay of AdamW, on matrices alone."""
    warmup_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of all steps over which the learning rates rise linearly, before they fall linearly to 0."""
    head_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout before the classifier, 0 to 1."""
    gradient_clip: float | None = Field(default=1.0, gt=0)
    """Largest norm of all gradients together; None: they stay as they are."""
    seed: int = Field(default=0, ge=0)
    """Decides the classifier's initial weights, dropout, and the order of the utterances."""
    threads: int = Field(default=2, ge=1)
    """Threads of the CPU that the training uses; part of the settings, since they decide how sums are rounded, so that
    equal settings give equal numbers however many cores there are."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if (self.method == "lora") != (self.lora is not None):
            raise ValueError(
                f"method {self.method}, and a block lora {'that it does not use' if self.lora else 'is missing'}"
            )
        return self
