"""Any image tower of Hugging Face transformers, frozen, on the face crops: ViT, DeiT, BEiT, DINOv2, and the image
towers of CLIP and SigLIP.

    crops ─► resized, normalised as the checkpoint specifies ─► tower: a vector per crop ─► pooled over the clip's crops

Legend: B crops, T tokens (special ones and patches), D features, H and W pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from merc.encoders.engine import crops
from merc.encoders.engine.base import Encoded, UtteranceInput
from merc.encoders.engine.forward import in_batches
from merc.encoders.engine.neural import NeuralConfig, NeuralEncoder, check_layer
from merc.errors import BadSettings

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Tower:
    """A type of model.

    Attributes:
        model: its class in transformers.
        final_norm: what normalises the last layer's output before it is ``last_hidden_state``; None if nothing does.
        special_tokens: number of tokens before the patches, not counting registers.
        fixed_size: whether it takes only images of one size; others interpolate their positions.
        without_pooler: the argument that omits the pooler, if there is one with weights.
        with_projection: the class that also has the projection into the space shared with text.
    """

    model: str
    final_norm: str | None = "layernorm"
    special_tokens: int = 1
    fixed_size: bool = True
    without_pooler: str | None = None
    with_projection: str | None = None


_CLIP = Tower("CLIPVisionModel", final_norm=None, with_projection="CLIPVisionModelWithProjection")
_SIGLIP = Tower("SiglipVisionModel", final_norm="post_layernorm", special_tokens=0, without_pooler="vision_use_head")
TOWERS = {
    "vit": Tower("ViTModel", without_pooler="add_pooling_layer"),
    "deit": Tower("DeiTModel", special_tokens=2, without_pooler="add_pooling_layer"),
    "beit": Tower("BeitModel", without_pooler="add_pooling_layer"),
    "dinov2": Tower("Dinov2Model", fixed_size=False),
    "dinov2_with_registers": Tower("Dinov2WithRegistersModel", fixed_size=False),
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
}
# Checkpoints of these classes are ViT or DeiT without a pooler, which exists only after pre-training.
_HEADS_WITHOUT_POOLER = ("ForImageClassification", "ForMaskedImageModeling", "ForImageClassificationWithTeacher")
_PROBES_PX = (112, 57)


class ImageTower(NeuralEncoder):
    """A frozen image tower. Crops of an utterance may be in different batches; pooling happens when all are done."""

    class Config(NeuralConfig):
        """Settings of an image tower.

        The last ``layer`` is the model's output, after the final layer norm of the models that have one; layers behind
        the chosen one are not loaded.
        """

        frame_vector: Literal["first", "mean", "pooler", "projection"] = "first"
        """Vector of a crop: ``first``, the class token (CLS); ``mean``, the mean over the patches; ``pooler``, the
        model's own (of CLIP the normalised class token, of SigLIP its attention head); ``projection``, CLIP's
        ``image_embeds``, in the space shared with text."""
        pooling: crops.Pooling = "mean"
        """Over the clip's crops: ``mean``; ``confidence``, with weights exp(score / temperature); ``mean_std``, the
        mean followed by the standard deviation, twice as long (:func:`merc.encoders.engine.crops.pooled`).
        """
        confidence_temperature: float = Field(default=0.1, gt=0)
        """Temperature of the pooling ``confidence``, in units of the detector's confidence, which goes from 0 to 1."""
        images_per_batch: int | Literal["auto"] = "auto"
        """Crops in a batch; ``auto`` is 16 on a CPU and 256 on a GPU, or as many as fit; changes speed and memory, not
        the vectors."""

        @model_validator(mode="after")
        def _agree(self) -> Self:
            if self.images_per_batch != "auto" and self.images_per_batch < 1:
                raise ValueError(f"images_per_batch is {self.images_per_batch}; expected a number from 1, or auto")
            if self.frame_vector in ("pooler", "projection") and self.layer != -1:
                raise ValueError(
                    f"frame_vector {self.frame_vector} is made of the last layer; leave layer at -1, or choose first or"
                    " mean"
                )
            return self

    MODALITY = "visual"
    HAS_SEQUENCES = True
    BUDGET_KEY = "images_per_batch"
    UNIT = "images"
    AUTOMATIC: ClassVar[dict[str, int]] = {"cpu": 16, "cuda": 256}
    config: Config

    def check_configuration(self, configuration: dict[str, Any]) -> None:
        repo, config = self.config.repo, self.config
        model_type = configuration.get("model_type")
        if model_type not in TOWERS:
            raise BadSettings(
                f"{repo}: a model of the type {model_type!r} is not supported by the family image_tower; valid:"
                f" {', '.join(TOWERS)}"
            )
        tower = TOWERS[model_type]
        if config.frame_vector == "first" and not tower.special_tokens:
            raise BadSettings(f"{repo}: frame_vector first, but {model_type} has no class token; valid: mean, pooler")
        if config.frame_vector == "projection" and tower.with_projection is None:
            raise BadSettings(
                f"{repo}: frame_vector projection, which only CLIP has, not {model_type}; valid: first, mean, pooler"
            )
        if config.frame_vector == "pooler":
            heads = [
                name
                for name in configuration.get("architectures") or []
                if name.endswith(_HEADS_WITHOUT_POOLER) and model_type in ("vit", "deit")
            ]
            if heads:
                raise BadSettings(f"{repo}: frame_vector pooler, but a {heads[0]} has none; valid: first, mean")
            if _image_part(configuration).get("vision_use_head") is False:
                raise BadSettings(f"{repo}: frame_vector pooler, but this SigLIP has no pooling head; valid: mean")
        layers = _image_part(configuration).get("num_hidden_layers")
        if layers is not None:
            check_layer(repo, config.layer, int(layers))
        if not self.checkpoint.preprocessor():
            raise BadSettings(
                f"{repo}: has no preprocessor_config.json, so it is unknown to what size images are scaled and how"
                " they are normalised"
            )

    def planned_dim(self) -> int | None:
        if self.config.dim is not None:
            return self.config.dim
        key = "projection_dim" if self.config.frame_vector == "projection" else "hidden_size"
        width = _image_part(self.checkpoint.configuration()).get(key)
        return None if width is None else int(width) * (2 if self.config.pooling == "mean_std" else 1)

    def further_provenance(self) -> dict[str, Any]:
        config = self.config
        temperature = (
            {"confidence_temperature": config.confidence_temperature} if config.pooling == "confidence" else {}
        )
        return {"pooling": config.pooling, "frame_vector": config.frame_vector, "sample_rate_hz": None, **temperature}

    @property
    def sequence_dim(self) -> int:
        return self._sequence_dim

    def load(self, device: str) -> None:
        import transformers

        folder = self.checkpoint.fetch()
        configuration = self.checkpoint.configuration()
        self.check_configuration(configuration)
        config, tower = self.config, TOWERS[configuration["model_type"]]
        self._processor = self._load_processor(folder)
        # Settings that transformers' own `from_pretrained` copies to the model's configuration.
        changes: dict[str, Any] = {}
        layers = int(_full(transformers, tower, configuration).num_hidden_layers)
        position = check_layer(config.repo, config.layer, layers)
        if position < layers:
            changes["num_hidden_layers"] = position
        if tower.without_pooler is not None and config.frame_vector != "pooler":
            changes[tower.without_pooler] = False
        name = tower.with_projection if config.frame_vector == "projection" and tower.with_projection else tower.model
        model = self.model_from(folder, getattr(transformers, name), pooler=config.frame_vector == "pooler", **changes)
        if position < layers and tower.final_norm is not None:
            import torch

            setattr(model, tower.final_norm, torch.nn.Identity())
        self._before_patches = tower.special_tokens + int(getattr(model.config, "num_register_tokens", 0))
        self._check_size(tower, model.config)
        self._model = self.placed(model, device)
        self._sequence_dim = int(
            model.config.projection_dim if config.frame_vector == "projection" else model.config.hidden_size
        )
        self.settle(self._sequence_dim * (2 if config.pooling == "mean_std" else 1), device)

    def _load_processor(self, folder: Any) -> Any:
        import torch
        from transformers import AutoImageProcessor

        try:
            processor = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
                folder, local_files_only=True, trust_remote_code=False, backend="torchvision"
            )
        except (ValueError, OSError, KeyError, TypeError, ImportError) as error:
            raise BadSettings(f"{self.config.repo}: transformers cannot load its image processor: {error}") from error
        # `_normalised` does the processor's steps for whole batches; the processor itself works image by image. Check
        # that both agree.
        picture_CHW = torch.arange(3 * 57 * 57).reshape(3, 57, 57).mul(7919).remainder(256).to(torch.uint8)
        try:
            wanted_BCHW = processor(images=[picture_CHW], input_data_format="channels_first", return_tensors="pt")[
                "pixel_values"
            ]
            same = torch.equal(_normalised(processor, picture_CHW[None]), wanted_BCHW)
        except (AttributeError, TypeError, ValueError, KeyError) as error:
            raise BadSettings(
                f"{self.config.repo}: its image processor {type(processor).__name__} does not take a plain image:"
                f" {error}"
            ) from error
        if not same:
            raise BadSettings(
                f"{self.config.repo}: its image processor {type(processor).__name__} does more than resize, crop,"
                " rescale and normalise; choose another checkpoint"
            )
        return processor

    def _check_size(self, tower: Tower, settings: Any) -> None:
        """Raises ``BadSettings`` if the processor's image size differs from that of the tower."""
        import torch

        shapes = {
            tuple(_normalised(self._processor, torch.zeros(1, 3, side, side, dtype=torch.uint8)).shape[2:])
            for side in _PROBES_PX
        }
        size = settings.image_size
        wanted = (size, size) if isinstance(size, int) else tuple(size)
        if len(shapes) > 1 or (tower.fixed_size and shapes != {wanted}):
            given = " or ".join(f"{height}x{width}" for height, width in sorted(shapes))
            raise BadSettings(
                f"{self.config.repo}: its image processor gives images of {given} pixels, but its model takes"
                f" {wanted[0]}x{wanted[1]}"
            )

    def encode(self, utterances: Sequence[UtteranceInput]) -> Encoded:
        row = crops.of(utterances)
        vectors_ND = np.zeros((len(row), self.sequence_dim), dtype=np.float32)

        def take(indices: NDArray[np.int64], vectors: "torch.Tensor") -> None:
            vectors_ND[indices] = vectors.numpy()

        in_batches(
            np.ones(len(row), dtype=np.int64),
            self.budget,
            self.device,
            lambda batch: _by_size([row.pictures[at] for at in batch]),
            self._compute,
            take,
        )
        return crops.encoded(
            vectors_ND, row, utterances, pooling=self.config.pooling, temperature=self.config.confidence_temperature,
            sequences=self.sequences,
            what=f"the model in {self.config.dtype}",
        )  # fmt: skip

    def _compute(self, inputs: Mapping[str, Any]) -> "torch.Tensor":
        """(B, D) float32."""
        import torch

        pixels = [
            _normalised(self._processor, pictures_BHWC.permute(0, 3, 1, 2).contiguous())
            for pictures_BHWC in inputs.values()
        ]
        pixels_BCHW = pixels[0] if len(pixels) == 1 else torch.cat(pixels)
        output = self._model(pixel_values=pixels_BCHW.to(self._model.dtype))
        if self.config.frame_vector == "pooler":
            vectors_BD = output.pooler_output
        elif self.config.frame_vector == "projection":
            vectors_BD = output.image_embeds
        elif self.config.frame_vector == "first":
            vectors_BD = output.last_hidden_state[:, 0]
        else:
            vectors_BD = output.last_hidden_state[:, self._before_patches :].float().mean(dim=1)
        return torch.as_tensor(vectors_BD, dtype=torch.float32)


def _by_size(pictures: Sequence[NDArray[np.uint8]]) -> dict[str, NDArray[np.uint8]]:
    """Neighbours of one size as one (n, H, W, 3) array each, in order."""
    groups = groupby(pictures, key=lambda picture: picture.shape)
    return {f"pictures {number}": np.stack(list(group)) for number, (_, group) in enumerate(groups)}


def _normalised(processor: Any, pictures_BCHW: "torch.Tensor") -> "torch.Tensor":
    """The output of a processor of transformers for uint8 images of one size: (B, 3, H, W) float32, on the images'
    device.
    """
    if processor.do_resize:
        pictures_BCHW = processor.resize(pictures_BCHW, size=processor.size, resample=processor.resample)
    if processor.do_center_crop:
        pictures_BCHW = processor.center_crop(pictures_BCHW, processor.crop_size)
    normalised: torch.Tensor = processor.rescale_and_normalize(
        pictures_BCHW,
        processor.do_rescale,
        processor.rescale_factor,
        processor.do_normalize,
        processor.image_mean,
        processor.image_std,
    )
    return normalised


def _image_part(configuration: dict[str, Any]) -> dict[str, Any]:
    """The image tower's settings in a ``config.json``; for CLIP and SigLIP they are a part of it."""
    part = configuration.get("vision_config")
    return part if isinstance(part, dict) else configuration


def _full(transformers: Any, tower: Tower, configuration: dict[str, Any]) -> Any:
    """The tower's settings, with transformers' defaults for keys that ``config.json`` does not have."""
    return getattr(transformers, tower.model).config_class.from_dict(_image_part(configuration))
