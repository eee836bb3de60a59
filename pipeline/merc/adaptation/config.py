"""Settings of a fine-tuning: the blocks ``adaptations.<modality>.<name>``."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from merc.params import Settings


class Config(Settings):
    """Settings of a fine-tuning.

    Attributes:
        encoder: settings of the encoder's block that are other in this training, such as ``speaker_names``; the adapted encoder's block must have them.
        method: ``full`` trains all weights but those of convolutions over sound; ``lora`` low-rank updates, which are merged into the weights at the end.
        lora: settings of these; None with ``full``.
        epochs: over the train split; the best by weighted F1 on dev is kept.
        batch_utterances: of a step of the optimiser. How many of them are computed at once is the encoder's own budget (``tokens_per_batch``,
            ``samples_per_batch``), which changes memory, rounding and the draws of dropout.
        pool_batches: utterances are shuffled, and so many batches of them sorted by length, so that those of a batch are alike; 1: no sorting.
        learning_rate, head_learning_rate: of the encoder and of the classifier on top, at their highest.
        weight_decay: of AdamW, on matrices alone.
        warmup_share: of all steps; the learning rates rise linearly for so long, and then fall linearly to 0.
        head_dropout: before the classifier, 0 to 1.
        gradient_clip: the largest norm of all gradients together; None: as they are.
        seed: decides the classifier's initial weights, dropout, and the order of the utterances.
        threads: of the CPU that the training uses. It decides the numbers, too, by rounding; equal settings give equal numbers however many cores there are.
    """

    class Lora(Settings):
        """Settings of low-rank updates (Hu et al., LoRA, ICLR 2022): W + (alpha / rank) · B A, in place of all weights.

        Attributes:
            rank: of the updates.
            alpha: their scale, times ``rank``.
            dropout: on what enters them, 0 to 1.
            modules: names of the linear layers that get one, or ``all-linear``.
        """

        rank: int = Field(ge=1)
        alpha: int = Field(ge=1)
        dropout: float = Field(ge=0, lt=1)
        modules: Literal["all-linear"] | tuple[str, ...]

    encoder: Mapping[str, Any]
    method: Literal["full", "lora"]
    lora: Lora | None = None
    epochs: int = Field(ge=1)
    batch_utterances: int = Field(ge=1)
    pool_batches: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    head_learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    warmup_share: float = Field(ge=0, lt=1)
    head_dropout: float = Field(ge=0, lt=1)
    gradient_clip: float | None = Field(default=None, gt=0)
    seed: int = Field(ge=0)
    threads: int = Field(ge=1)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if (self.method == "lora") != (self.lora is not None):
            raise ValueError(f"method {self.method}, and a block lora {'that it does not use' if self.lora else 'is missing'}")
        return self
