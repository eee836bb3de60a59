"""From a name on the command line to an encoder: its block in params.yaml, the family the block names, the file of that family."""

from typing import Any

from merc import plugins
from merc.encoders.engine.base import Encoder
from merc.errors import BadSettings, nearest
from merc.layout import MODALITIES
from merc.params import Params


def build(params: Params, modality: str, name: str, *, offline: bool = False, frames: bool = False) -> Encoder:
    """The encoder with the settings of ``encoders.<modality>.<name>``; nothing is loaded yet.

    Args:
        params: all settings.
        modality: ``text``, ``audio`` or ``visual``.
        name: of the block.
        offline: never ask a model hub.
        frames: keep what the vectors are pooled from, too.

    Raises:
        BadSettings: if there is no such modality, block or family, naming the nearest, or the block's keys are wrong.
    """
    if modality not in MODALITIES:
        raise BadSettings(f"no modality {modality!r}; {nearest(modality, list(MODALITIES))}")
    blocks: dict[str, Any] = params.get(f"encoders.{modality}") or {}
    if name not in blocks:
        raise BadSettings(f"no {modality} encoder {name!r} under encoders.{modality} in params.yaml; {nearest(name, list(blocks))}")
    package = f"merc.encoders.{modality}"
    block = blocks[name]
    if not isinstance(block, dict) or not isinstance(block.get("family"), str):
        raise BadSettings(f"encoders.{modality}.{name} has no key family; valid: {', '.join(plugins.names(package))}")
    encoder = plugins.load(package, block["family"], Encoder)  # type: ignore[type-abstract]
    return encoder(params.fill(f"encoders.{modality}.{name}", encoder.Config), offline=offline, frames=frames)


def names(params: Params, modality: str) -> list[str]:
    """The encoders of a modality in params.yaml, sorted. Raises ``BadSettings`` if it has no block."""
    return sorted(params.get(f"encoders.{modality}") or {})
