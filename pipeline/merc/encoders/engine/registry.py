"""From a name to an encoder: the family that implements it, and its settings.

    encoders/text/transformer.py      a family: code, and the defaults of its settings
    encoders/text/roberta_base.yaml   an encoder: `family: transformer`, a checkpoint with its revision and licence
    encoders.text.mine                in params.yaml: another encoder, or other settings of a shipped one

A family that needs only its defaults, such as ``ngrams``, is an encoder under its own name.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from merc import plugins
from merc.encoders.engine.base import Encoder, EncoderConfig
from merc.errors import BadPlugin, BadSettings, nearest
from merc.layout import MODALITIES
from merc.params import Laid, Origin, Params, Shelf


@dataclass(frozen=True)
class ChosenEncoder:
    """An encoder with its settings; nothing is loaded yet.

    Attributes:
        modality: ``text``, ``audio`` or ``visual``.
        name: as requested.
        kind: the class of its family.
        config: its settings.
        laid: the settings with their origins.
    """

    modality: str
    name: str
    kind: type[Encoder]
    config: EncoderConfig
    laid: Laid

    def build(self, *, offline: bool = False, sequences: bool = False) -> Encoder:
        """The encoder.

        Args:
            offline: never ask a model hub.
            sequences: also keep what the vectors are pooled from.
        """
        return self.kind(self.config, offline=offline, sequences=sequences)


def choose(
    params: Params, modality: str, name: str, changed: dict[str, Any] | None = None, changed_by: str = ""
) -> ChosenEncoder:
    """Looks up an encoder.

    Args:
        params: the user's settings, which override those of shipped encoders.
        modality: ``text``, ``audio`` or ``visual``.
        name: a file of the modality's folder, a block under ``encoders.<modality>``, or a family that needs only its
            defaults.
        changed: settings that override everything else.
        changed_by: their dotted key.

    Raises:
        BadSettings: if there is no such modality, encoder or family (the message gives the nearest), or a key is wrong.
    """
    shelf = _shelf(modality)
    laid = shelf.read(params, name)
    laid.lay("", changed or {}, Origin(changed_by, changed_by))
    _, kind = _family(shelf, name, laid)
    return ChosenEncoder(modality, name, kind, params.filled(laid, kind.Config, f"encoders.{modality}.{name}"), laid)


def family_of(params: Params, modality: str, name: str) -> tuple[str, type[Encoder]]:
    """An encoder's family, and its class; the encoder's other settings are not read. Raises ``BadSettings`` as
    :func:`choose`.
    """
    shelf = _shelf(modality)
    return _family(shelf, name, shelf.read(params, name))


def build(params: Params, modality: str, name: str, *, offline: bool = False, sequences: bool = False) -> Encoder:
    """:func:`choose` and :meth:`ChosenEncoder.build` in one."""
    return choose(params, modality, name).build(offline=offline, sequences=sequences)


def names(params: Params, modality: str) -> list[str]:
    """The encoders of a modality, sorted. Raises ``BadSettings`` if there is no such modality."""
    return _shelf(modality).names(params)


def _shelf(modality: str) -> Shelf:
    if modality not in MODALITIES:
        raise BadSettings(f"no modality {modality!r}; {nearest(modality, list(MODALITIES))}")
    package = f"merc.encoders.{modality}"
    return Shelf(f"encoders.{modality}", package, f"{modality} encoder", alone=partial(_complete, package))


def _family(shelf: Shelf, name: str, laid: Laid) -> tuple[str, type[Encoder]]:
    """The family in ``laid``, and its class; if an encoder has the name of a family, that family is added to it."""
    family = laid.at("family")
    if family is None and name in _families(shelf.package):
        family = name
        laid.lay("family", family, Origin("its own name"))
    if not isinstance(family, str):
        raise BadSettings(f"{shelf.key}.{name} has no key family; valid: {', '.join(_families(shelf.package))}")
    return family, plugins.load(shelf.package, family, Encoder)  # type: ignore[type-abstract]


def _families(package: str) -> list[str]:
    return plugins.names(package, Encoder)


def _complete(package: str) -> list[str]:
    """The families that need only their defaults, and unusable ones: requesting one of these says why."""
    return [name for name in _families(package) if _is_complete(package, name)]


def _is_complete(package: str, name: str) -> bool:
    try:
        kind = plugins.load(package, name, Encoder)  # type: ignore[type-abstract]
    except BadPlugin:
        return True
    return not any(info.is_required() for key, info in kind.Config.model_fields.items() if key != "family")
