"""What all encoders with a checkpoint share: settings, identity, provenance, and checks before anything is computed.

A family adds its requirements on the checkpoint (:meth:`NeuralEncoder.check_configuration`), the loading, and the
encoding itself, for which :func:`merc.encoders.engine.forward.in_batches` makes the batches.
"""

from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from merc.encoders.engine import loading
from merc.encoders.engine.adapted import Adaptation
from merc.encoders.engine.base import Encoder, EncoderConfig
from merc.encoders.engine.checkpoint import Checkpoint
from merc.encoders.engine.forward import Budget
from merc.errors import BadSettings

# Text for the shards' metadata, numbers for the list of models, and settings that only change speed: they do not
# determine the vectors. `repo` may be a path on this machine; its content is in the identity by its hash or its
# revision.
NOT_DECISIVE = frozenset(
    {"repo", "revision", "made_by", "linear_layers", "licence", "training_data_overlap", "dim", "megabytes"}
)
# Settings in which use may differ from training for an adapted encoder: only rounding.
_ROUNDING = frozenset({"dtype", "attention"})


class NeuralConfig(EncoderConfig):
    """Settings of an encoder with a checkpoint."""

    repo: str
    """Folder with the model's files, or its name on the hub."""
    revision: str = ""
    """Commit on the hub, 40 hex digits; not used for a folder."""
    made_by: str = ""
    """Command that makes the folder, for an encoder adapted on this machine; empty for any other."""
    layer: int = -1
    """Layer whose output is taken; -1 is the last, 0 the embeddings before the first."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Dtype of the model's arithmetic; 16 bits only on a GPU; pooling is in float32."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    """Transformers' name of the implementation: ``eager`` for the few models without ``sdpa``, such as WavLM;
    ``flash_attention_2`` needs its own package, a GPU and a dtype of 16 bits."""
    linear_layers: Literal["auto", "torch", "onednn"] = "auto"
    """What computes the linear layers on a CPU in float32: ``onednn``, ``torch`` (MKL), or whichever is faster on this
    kind of processor; changes speed and the last bits of the vectors.
    """
    dim: int | None = Field(default=None, ge=1)
    """Length of the vectors, if it must be known before the checkpoint is on this machine; checked when it is."""
    megabytes: float | None = Field(default=None, gt=0)
    """Size of the download in megabytes, for the list of models."""
    licence: str
    """Licence of the weights."""
    training_data_overlap: str
    """Whether the model has seen the corpora, in words; starts with ``none known`` or names them."""


class NeuralEncoder(Encoder):
    """A frozen model of Hugging Face transformers, or another with a checkpoint."""

    ACCELERATED = True
    BUDGET_KEY: ClassVar[str]
    """The setting for the size of a batch, such as ``tokens_per_batch``; it changes speed and memory, not the
    vectors.
    """
    UNIT: ClassVar[str]
    """Plural word for what that setting counts."""
    AUTOMATIC: ClassVar[dict[str, int]]
    """Units per batch if the setting is ``auto``, for ``cpu`` and ``cuda``. On a GPU this is the initial value, which
    is halved until batches fit.
    """
    config: NeuralConfig
    not_in_checkpoint: list[str]
    """Names of the model's weights missing from its files, which transformers fills with random numbers; known after
    :meth:`model_from`.
    """
    linear_layers: str
    """What computes the model's linear layers, ``torch`` or ``onednn``; known after :meth:`load`."""

    def __init__(self, config: EncoderConfig, *, offline: bool = False, sequences: bool = False) -> None:
        super().__init__(config, offline=offline, sequences=sequences)
        self.checkpoint = Checkpoint(self.config.repo, self.config.revision, offline, made_by=self.config.made_by)

    @cached_property
    def source(self) -> dict[str, str]:
        """The checkpoint's hash, or its name and revision. Determined once; raises as :meth:`Checkpoint.identity`."""
        return self.checkpoint.identity()

    @cached_property
    def adaptation(self) -> Adaptation | None:
        """How the checkpoint was fine-tuned on emotion labels; None if it was not. Raises ``BadTable`` if the record of
        it is damaged.
        """
        return Adaptation.of(Path(self.checkpoint.repo)) if self.checkpoint.is_folder else None

    def decisive_settings(self) -> dict[str, Any]:
        """The settings that determine the vectors, apart from the checkpoint."""
        return self.config.decisive(exclude={*NOT_DECISIVE, self.BUDGET_KEY})

    def settings_of_training(self) -> dict[str, Any]:
        """The settings that must be the same in the training of a checkpoint and in its use."""
        return {key: value for key, value in self.decisive_settings().items() if key not in _ROUNDING}

    def identity(self) -> dict[str, Any]:
        source = self.source
        self.check_configuration(self.checkpoint.configuration())
        if self.adaptation is not None:
            self.adaptation.check_settings(self.settings_of_training())
        return {**self.decisive_settings(), "version": self.VERSION, "checkpoint": source}

    def provenance(self) -> dict[str, Any]:
        source, config = self.source, self.config
        folder = "sha256" in source
        return {
            "encoder": (
                f"folder with a {self.checkpoint.configuration().get('model_type', 'nameless')} model"
                if folder
                else source["repo"]
            ),
            "revision": f"sha256:{source['sha256']}" if folder else source["revision"],
            "layer": config.layer,
            "licence": config.licence,
            "training_data_overlap": config.training_data_overlap,
            "dtype": config.dtype,
            "attention": config.attention,
            **self.further_provenance(),
            **({} if self.adaptation is None else self.adaptation.provenance()),
        }

    @abstractmethod
    def further_provenance(self) -> dict[str, Any]:
        """``pooling`` and ``sample_rate_hz``, and whatever else the family states."""

    def check_configuration(self, configuration: dict[str, Any]) -> None:
        """Checks the checkpoint's ``config.json`` against the settings, before any data are read and without torch.

        Args:
            configuration: its content.

        Raises:
            BadSettings: if the checkpoint is not a model of this modality, or does not have the requested layer.
        """

    def missing(self) -> str | None:
        return None if self.checkpoint.is_here() else self.checkpoint.command

    def planned_dim(self) -> int | None:
        return self.config.dim

    @property
    def dim(self) -> int:
        return self._dim

    def check_dim(self, dim: int) -> None:
        """Raises ``BadSettings`` if the length of the vectors in the settings is not ``dim``."""
        if self.config.dim not in (None, dim):
            raise BadSettings(
                f"{self.config.repo}: the settings state dim: {self.config.dim}, but its vectors have {dim} numbers;"
                " correct it, or omit it"
            )

    def placed(self, model: Any, device: str) -> Any:
        """The model on the device, with its linear layers computed by the library in the settings; to be called in
        :meth:`load`, when the model is complete.
        """
        from merc.encoders.engine import linear

        self.linear_layers = "torch"
        model = model.to(device)
        if device == "cpu" and self.config.dtype == "float32" and linear.choose(self.config.linear_layers) == "onednn":
            self.linear_layers = linear.hand_over(model, self.config.repo)
        return model

    def settle(self, dim: int, device: str) -> None:
        """To be called at the end of :meth:`load`.

        Args:
            dim: length of the vectors.
            device: device of the model.

        Raises:
            BadSettings: if the settings state another length.
        """
        self.check_dim(dim)
        self._dim = dim
        self.device = device
        given = getattr(self.config, self.BUDGET_KEY)
        self.budget = Budget(
            self.AUTOMATIC["cpu" if device == "cpu" else "cuda"] if given == "auto" else given, self.UNIT
        )

    def model_from(self, folder: Path, auto_class: Any, *, pooler: bool = False, **more: Any) -> Any:
        """Loads a model with transformers: only safetensors, no remote code, no network, in evaluation mode.

        Args:
            folder: folder with the checkpoint's files.
            auto_class: a class of transformers, such as ``AutoModel``.
            pooler: whether the output of the model's pooler is used, so that its weights must exist.
            more: further arguments of ``from_pretrained``.

        Raises:
            BadSettings: if transformers cannot load it (with its message), or the files lack weights that the model
                needs (transformers would fill them with random numbers).
        """
        model, self.not_in_checkpoint = loading.load(
            self.config.repo,
            folder,
            auto_class,
            dtype=self.config.dtype,
            attention=self.config.attention,
            pooler=pooler,
            **more,
        )
        return model


def check_layer(repo: str, layer: int, layers: int, lowest: int = 0) -> int:
    """The layer as a number from 0.

    Args:
        repo: for the message.
        layer: as in :class:`NeuralConfig`.
        layers: number of layers of the model; layer 0 is the input of the first.
        lowest: the lowest possible one (higher for a mean over several layers).

    Raises:
        BadSettings: if the model does not have it.
    """
    position = layer if layer >= 0 else layers + 1 + layer
    if not lowest <= position <= layers:
        raise BadSettings(f"{repo}: layer {layer}; valid: {lowest} to {layers}, or -1 to {lowest - layers - 1}")
    return position
