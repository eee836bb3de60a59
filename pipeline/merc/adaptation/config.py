"""Settings of a fine-tuning: the blocks ``adaptations.<modality>.<name>``."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from merc.params import Settings


class Config(Settings):
    """Settings of a fine-tuning."""

    ADDED_LATER: ClassVar[tuple[str, ...]] = ("head_start",)

    class Lora(Settings):
        """Low-rank updates (Hu et al., LoRA, ICLR 2022): W + (alpha / rank) · B A, instead of all weights."""

        rank: int = Field(default=16, ge=1)
        """Rank of the updates."""
        alpha: int = Field(default=32, ge=1)
        """Scale of the updates, times ``rank``."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Dropout rate on the input of the updates, 0 to 1."""
        modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
        """Names of the linear layers that get an update, or ``all-linear``."""

    encoder: Mapping[str, Any] = Field(default_factory=dict)
    """Settings of the encoder's block that differ in this training, such as ``speaker_names``; the adapted encoder's
    block must have the same values.
    """
    method: Literal["full", "lora"] = "full"
    """``full`` trains all weights except those of convolutions over audio; ``lora`` (extra adapt) trains low-rank
    updates, which are merged into the weights at the end.
    """
    lora: Lora | None = None
    """Settings of the low-rank updates; None with ``full``."""
    epochs: int = Field(default=2, ge=1)
    """Epochs over the train split; the best by weighted F1 on dev is kept."""
    batch_utterances: int = Field(default=32, ge=1)
    """Utterances per optimiser step; the encoder's own budget (``tokens_per_batch``, ``samples_per_batch``) sets how
    many of them are computed at once, which changes memory, rounding and the dropout masks.
    """
    pool_batches: int = Field(default=16, ge=1)
    """Number of shuffled batches whose utterances are sorted by length together, so that a batch has similar lengths;
    1: no sorting.
    """
    learning_rate: float = Field(default=0.0001, gt=0)
    """Peak learning rate of the encoder."""
    head_learning_rate: float = Field(default=0.001, gt=0)
    """Peak learning rate of the classifier on top."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Weight decay of AdamW, applied only to matrices."""
    warmup_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of all steps over which the learning rates rise linearly, before they fall linearly to 0."""
    head_start: Literal["random", "probe"] = "random"
    """What the classifier starts with: ``random`` weights, or a ``probe``, logistic regression on the vectors of the
    untouched encoder, its strength chosen on dev. So the encoder is not distorted while a random classifier learns
    (Kumar et al., ICLR 2022); the state before the training counts as epoch 0 and is kept if no epoch is better on dev.
    """
    head_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout before the classifier, 0 to 1. Dropped values are 0 or, with ``head_start: probe``, the mean of the
    untouched encoder's train vectors.
    """
    gradient_clip: float | None = Field(default=1.0, gt=0)
    """Maximum norm of all gradients together; None: no clipping."""
    seed: int = Field(default=0, ge=0)
    """Determines the classifier's initial weights, dropout, and the order of the utterances."""
    threads: int = Field(default=2, ge=1)
    """CPU threads that the training uses; part of the settings, since the number of threads affects rounding: equal
    settings give equal results on any number of cores.
    """

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if (self.method == "lora") != (self.lora is not None):
            raise ValueError(
                f"method {self.method}, and a block lora {'that it does not use' if self.lora else 'is missing'}"
            )
        return self
