"""A trained model in one safetensors file: weights, standardisation, and in the header all that is needed to rebuild
it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, PositiveInt, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize

from merc import files, plugins
from merc.errors import BadTable
from merc.params import Settings, fill
from merc.training.data.dataset import Standardisation
from merc.training.frameworks.base import Framework
from merc.training.models.engine.base import MERCModel
from merc.training.recipes.recipe import Share
from merc.training.recipes.resolution import FRAMEWORKS, MODELS, ResolvedRecipe

# Everything in one entry, since safetensors writes several entries in an order that changes from run to run.
_KEY = "merc"
_MODEL = "model."
_STANDARDISATION = "standardisation."


class Header(Settings):
    """The file's metadata, as JSON.

    Attributes:
        model: file in ``models/``.
        model_settings: its settings, complete.
        framework: file in ``frameworks/`` that wraps it, or None.
        framework_settings: its settings, complete.
        dims: modality → length of its vectors, in the model's order.
        classes: classes of the label set, index = position.
        label_set: its name.
        dataset: dataset that it was trained on.
        recipe: name and settings of the recipe.
        seed: its seed. encoders: modality → encoder of the vectors.
        feature_limit_std: see :class:`merc.training.data.dataset.Standardisation`.
        speaker_normalisation: see the same; modality → share.
        version: version of the model (:attr:`MERCModel.VERSION`).
    """

    model: str
    model_settings: dict[str, Any]
    framework: str | None = None
    framework_settings: dict[str, Any] = Field(default_factory=dict)
    dims: dict[str, PositiveInt]
    classes: tuple[str, ...]
    label_set: str
    dataset: str
    recipe: dict[str, Any]
    seed: int
    encoders: dict[str, str]
    feature_limit_std: float
    speaker_normalisation: dict[str, Share] = Field(default_factory=dict)
    version: int = 1


@dataclass(frozen=True)
class Loaded:
    """A model read from its file, in eval mode on the CPU; give it splits that ``standardisation`` was applied to."""

    model: MERCModel
    standardisation: Standardisation
    header: Header

    @property
    def longest_sequence(self) -> int | None:
        """See :meth:`merc.training.models.engine.base.MERCModel.longest_sequence`."""
        inner = self.model.model if isinstance(self.model, Framework) else self.model
        return inner.longest_sequence(inner.config)


def header(
    resolved: ResolvedRecipe, info: Mapping[str, Any], dims: Mapping[str, int], dataset: str, seed: int
) -> Header:
    """The header of a recipe's model.

    Args:
        resolved: the recipe.
        info: info of the shards it is trained on.
        dims: modality → length of its vectors.
        dataset: the shards' name.
        seed: which of its seeds.
    """
    return Header(
        model=resolved.recipe.model,
        model_settings=resolved.model_config.model_dump(mode="json"),
        framework=resolved.recipe.framework,
        framework_settings={} if resolved.framework is None else resolved.framework.config.model_dump(mode="json"),
        dims=dict(dims),
        classes=tuple(info["classes"]),
        label_set=info["label_set"],
        dataset=dataset,
        recipe={"name": resolved.name, **resolved.recipe.model_dump(mode="json")},
        seed=seed,
        encoders={name: info["encoders"][name]["name"] for name in resolved.recipe.modalities},
        feature_limit_std=resolved.recipe.feature_limit_std,
        speaker_normalisation=resolved.recipe.speaker_normalisation,
        version=resolved.model.VERSION,
    )


def save(path: Path, model: MERCModel, standardisation: Standardisation, header: Header) -> None:
    """Writes a model, completely or not at all; equal weights give equal bytes."""
    tensors = {f"{_MODEL}{name}": value for name, value in model.state_dict().items()}
    for name in standardisation.mean:
        tensors[f"{_STANDARDISATION}{name}.mean"] = standardisation.mean[name]
        tensors[f"{_STANDARDISATION}{name}.std"] = standardisation.std[name]
    # Clones, since safetensors refuses tensors that share memory, as tied weights do.
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    metadata = {
        _KEY: json.dumps(header.model_dump(mode="json"), ensure_ascii=False)
    }  # unsorted: the order of dims is the model's
    with files.replacing(path) as temporary:
        temporary.write_bytes(
            serialize(tensors, metadata=metadata)
        )  # save_file would make a file that only its owner may read


def load(path: Path) -> Loaded:
    """Reads a model that :func:`save` wrote.

    Raises:
        BadTable: if the file does not exist, is not a safetensors file, has no such header, its tensors do not fit the
            model or contain non-finite values, or it belongs to another version of the model.
        BadSettings: if it names a model, framework or setting that does not exist.
    """
    try:
        files.check_kind(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping, has only keys()
        header = Header(**json.loads(metadata[_KEY]))
    except OSError as error:
        raise BadTable(f"{path}: cannot be read: {error}") from error
    except (SafetensorError, KeyError, TypeError, RecursionError, json.JSONDecodeError, ValidationError) as error:
        raise BadTable(f"{path}: not a model trained by this program: {error}") from error
    weights, moments = _below(tensors, _MODEL), _below(tensors, _STANDARDISATION)
    for name, value in tensors.items():
        if not bool(value.isfinite().all()):
            raise BadTable(
                f"{path}: {name} holds a value that is not finite; a model with such weights predicts the same label"
                " everywhere"
            )
    try:
        _check_shapes(header, weights, moments, path.name)
    except (RuntimeError, KeyError) as error:
        raise BadTable(f"{path}: its tensors do not fit {header.model} of dimensions {header.dims}: {error}") from error
    model = _built(header, path.name)
    inner = model.model if isinstance(model, Framework) else model
    if header.version != inner.VERSION:
        raise BadTable(
            f"{path}: trained as version {header.version} of {header.model}, which is now {inner.VERSION} and would"
            " score differently; retrain it"
        )
    model.load_state_dict(weights)
    return Loaded(model.eval(), _standardisation(moments, header), header)


def _check_shapes(
    header: Header, weights: Mapping[str, torch.Tensor], moments: Mapping[str, torch.Tensor], where: str
) -> None:
    """Compares the tensors with what the header requires, before any memory is allocated for it, since the stated sizes
    are untrusted.

    Raises:
        RuntimeError, KeyError: if they do not fit.
    """
    for name, dim in header.dims.items():
        for part in ("mean", "std"):
            if moments[f"{name}.{part}"].shape != (dim,):
                raise RuntimeError(
                    f"the {part} of {name} has the shape {list(moments[f'{name}.{part}'].shape)}, expected {dim}"
                    " numbers"
                )
    with torch.device("meta"):
        model = _built(header, where)
    model.load_state_dict(dict(weights), assign=True)


def _built(header: Header, where: str) -> MERCModel:
    kind = plugins.load(MODELS, header.model, MERCModel)  # type: ignore[type-abstract]
    model = kind(
        fill(header.model_settings, kind.Config, where=f"{where}: {header.model}"), header.dims, len(header.classes)
    )
    if header.framework is None:
        return model
    framework = plugins.load(FRAMEWORKS, header.framework, Framework)  # type: ignore[type-abstract]
    return framework(fill(header.framework_settings, framework.Config, where=f"{where}: {header.framework}"), model)


def _below(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _standardisation(tensors: Mapping[str, torch.Tensor], header: Header) -> Standardisation:
    return Standardisation(
        mean={name: tensors[f"{name}.mean"] for name in header.dims},
        std={name: tensors[f"{name}.std"] for name in header.dims},
        limit=header.feature_limit_std,
        speaker_shares=header.speaker_normalisation,
    )
