"""The inventory of encoders with their checkpoints and of networks of the media stage: which exist, which are on this
machine, and fetching the others. torch is not imported.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from merc import log
from merc.encoders.engine import registry
from merc.encoders.engine.base import Encoder
from merc.encoders.engine.checkpoint import Checkpoint
from merc.errors import BadPlugin, BadSettings, ModelUnavailable, PipelineError, nearest
from merc.layout import MODALITIES
from merc.media import detector
from merc.media.config import Config as MediaConfig
from merc.media.config import no_preset, of_dataset, of_preset
from merc.params import Params

_NONE_KNOWN = "none known"
MEDIA = "media"
"""Key of a preset that is not a modality: settings of the media stage, see :func:`merc.media.config.lay`."""
MEDIA_NAME = f"{MEDIA}="
"""Prefix of the name of a network of the media stage."""
_NETWORKS = ("yunet", "light_asd")


@dataclass(frozen=True)
class Listed:
    """One encoder.

    Attributes:
        modality, name: its block.
        family: the file that implements it.
        dim: length of its vectors; None if that is known only after loading.
        licence: licence of its weights, or of the rule if there are none.
        training_data_overlap: description of whether its training data contain IEMOCAP or MELD.
        megabytes: size of the download; None if unknown, 0 if there is none.
        state: ``built in``, ``here``, ``not here``, or ``refused`` (see ``problem``).
        repo, revision: origin of its checkpoint; empty if there is none.
        presets: presets that name it.
        how_to_get: the command that fetches or installs what is missing; empty if nothing is.
        problem: why it is refused; empty otherwise.
    """

    modality: str
    name: str
    family: str
    dim: int | None
    licence: str
    training_data_overlap: str
    megabytes: float | None
    state: str
    repo: str = ""
    revision: str = ""
    presets: tuple[str, ...] = field(default=())
    how_to_get: str = ""
    problem: str = ""


def chosen(params: Params, names: Iterable[str], preset: str | None = None) -> list[tuple[str, str]]:
    """Modality and name of the requested encoders, sorted by both.

    Args:
        params: settings.
        names: ``NAME`` or ``MODALITY=NAME``; together with a preset, both are included.
        preset: a key of ``presets``.

    Raises:
        BadSettings: if there is no such encoder or preset; the message gives the nearest name.
    """
    every = [(modality, name) for modality in MODALITIES for name in registry.names(params, modality)]
    wanted = set(encoders_of(params, preset).items()) if preset else set()
    for given in names:
        modality, equals, name = given.rpartition("=")
        found = {one for one in every if one[1] == name and (not equals or one[0] == modality)}
        if not found:
            raise BadSettings(
                f"no encoder {given!r}; {nearest(given, [f'{one[0]}={one[1]}' if equals else one[1] for one in every])}"
            )
        wanted |= found
    unknown = sorted(wanted - set(every))
    if unknown:
        modality, name = unknown[0]
        raise BadSettings(
            f"presets.{preset} names {modality}={name}, which is not an encoder;"
            f" {nearest(name, registry.names(params, modality))}"
        )
    return [one for one in every if one in wanted] if wanted else every


def encoders_of(params: Params, preset: str, key: str = "--preset") -> dict[str, str]:
    """The encoder of each modality in a preset.

    Args:
        params: settings.
        preset: a key of ``presets``.
        key: where the preset was named, for the message.

    Raises:
        BadSettings: if there is no such preset; the message gives the nearest name.
    """
    presets: dict[str, dict[str, Any]] = params.read("presets").tree
    if not isinstance(preset, str) or preset not in presets:
        raise BadSettings(f"{key}: {no_preset(preset, presets, params.file)}")
    return {modality: name for modality, name in presets[preset].items() if modality != MEDIA}


@dataclass(frozen=True)
class MediaNetwork:
    """A network that the media stage needs with some preset.

    Attributes:
        name: ``yunet`` or ``light_asd``.
        config: settings of the media with one of these presets.
        presets: presets that need it. about: licence, training data, megabytes, origin and revision.
    """

    name: str
    config: MediaConfig
    presets: tuple[str, ...]
    about: tuple[str, str, float, str, str]

    def path(self, *, offline: bool) -> Path | None:
        """The file, fetched if it is not on this machine. Raises ``BadSettings`` or ``ModelUnavailable``."""
        if self.name == "yunet":
            return detector.path(self.config, offline=offline)
        from merc.media.active_speaker import weights

        return weights.path(self.config, offline=offline)

    def listed(self) -> Listed:
        """What is known about it without a network connection."""
        licence, overlap, megabytes, repo, revision = self.about
        state, problem = "here", ""
        try:
            self.path(offline=True)
        except ModelUnavailable:
            state = "not here"
        except PipelineError as error:
            state, problem = "refused", str(error)
        return Listed(
            MEDIA,
            self.name,
            self.name,
            None,
            licence,
            overlap,
            megabytes,
            state,
            repo,
            revision,
            self.presets,
            problem=problem,
        )


def media_networks(params: Params, preset: str | None = None) -> list[MediaNetwork]:
    """The networks that the media stage needs with a preset, or with any preset."""
    presets = [preset] if preset else list(params.block("presets"))
    configs = {name: of_preset(params, name) for name in presets}
    needing = {
        network: tuple(name for name, config in configs.items() if network in needed_networks(config))
        for network in _NETWORKS
    }
    return [_network(network, configs[names[0]], names) for network, names in needing.items() if names]


def needed_networks(config: MediaConfig) -> list[str]:
    """The names of the networks that the media stage needs with some settings."""
    needs = {"yunet": config.detector == "yunet", "light_asd": config.choice == "active_speaker"}
    return [name for name in _NETWORKS if needs[name]]


def named_networks(params: Params, names: Iterable[str]) -> list[MediaNetwork]:
    """Networks of the media stage by name, even if no preset needs them. Raises ``BadSettings`` if there is no such
    network.
    """
    of_presets = {one.name: one for one in media_networks(params)}
    found = []
    for name in dict.fromkeys(names):
        if name not in _NETWORKS:
            raise BadSettings(f"no network {MEDIA_NAME}{name}; {nearest(name, _NETWORKS)}")
        found.append(of_presets.get(name) or _network(name, of_dataset(params, ""), ()))
    return found


def _network(name: str, config: MediaConfig, presets: tuple[str, ...]) -> MediaNetwork:
    if name == "yunet":
        about = (
            "MIT",
            f"{_NONE_KNOWN} (WIDER FACE)",
            0.2,
            config.yunet_file or config.yunet_repo,
            "" if config.yunet_file else config.yunet_revision,
        )
    else:
        here = ("" if config.speaker_file else config.speaker_revision,)
        about = (
            "MIT",
            f"{_NONE_KNOWN} (AVA-ActiveSpeaker, TalkSet: films and interviews)",
            4.2,
            config.speaker_file or config.speaker_url,
            *here,
        )
    return MediaNetwork(name, config, presets, about)


def describe(params: Params, modality: str, name: str) -> Listed:
    """What is known about an encoder without loading it and without a network connection. Raises ``BadSettings`` if its
    block is wrong.
    """
    try:
        encoder = _built(params, modality, name, offline=True)
    except BadPlugin as error:
        return Listed(modality, name, name, None, "?", "?", None, "refused", problem=str(error))
    config = encoder.config
    checkpoint = _checkpoint(encoder)
    built_in = not hasattr(config, "licence")
    missing, problem = None, ""
    words: dict[str, Any] = {}
    try:
        missing = encoder.missing()
        # The provenance of an encoder with weights requires their hash, so its descriptions are taken from the
        # settings.
        words = encoder.provenance() if built_in and missing is None else encoder.terms()
    except PipelineError as error:
        problem = str(error)
    size = 0.0 if built_in else getattr(config, "megabytes", None)
    if checkpoint and not problem and missing is None:
        size = checkpoint.bytes_on_disk() / 1e6
    return Listed(
        modality=modality,
        name=name,
        family=config.family,
        dim=(
            encoder.planned_dim()
            if not problem and (checkpoint is None or missing is None)
            else getattr(config, "dim", None)
        ),
        licence=str(getattr(config, "licence", words.get("licence", "?"))),
        training_data_overlap=str(getattr(config, "training_data_overlap", words.get("training_data_overlap", "?"))),
        megabytes=None if size is None else round(size, 1),
        state="refused" if problem else "not here" if missing is not None else "built in" if built_in else "here",
        repo=checkpoint.repo if checkpoint else "",
        revision=checkpoint.revision if checkpoint and not checkpoint.is_folder else "",
        presets=tuple(preset for preset, encoders in params.block("presets").items() if encoders.get(modality) == name),
        how_to_get=missing or "",
        problem=problem,
    )


def fetch(
    params: Params,
    wanted: Iterable[tuple[str, str]],
    *,
    offline: bool,
    asked_for: bool = True,
    networks: Iterable[MediaNetwork] = (),
) -> None:
    """Fetches the missing models; one that is unavailable does not prevent the others from being fetched.

    Args:
        params: settings.
        wanted: modality and name of each.
        offline: never contact the hub.
        networks: networks of the media stage.
        asked_for: whether they were named; otherwise, what cannot be downloaded (an extra, an encoder that is
            fine-tuned here) is reported and skipped.

    Raises:
        ModelUnavailable: the message names each unavailable model, and the command for it.
    """
    networks = list(networks)
    sizes: list[tuple[str, Checkpoint, int]] = []
    failed: list[str] = []
    for modality, name in wanted:
        try:
            encoder = _built(params, modality, name, offline=offline)
        except BadPlugin as error:
            if asked_for:
                raise
            log.logger.warning("%s=%s: %s", modality, name, error)
            continue
        checkpoint = _checkpoint(encoder)
        try:
            missing = encoder.missing()
            if missing is not None and (checkpoint is None or checkpoint.made_by):
                if asked_for:
                    failed.append(f"{modality}={name}: {missing}")
                else:
                    log.logger.info("%s=%s needs no download: %s", modality, name, missing)
            elif checkpoint is not None and missing is not None:
                if offline:
                    checkpoint.fetch()  # raises an error with what is missing
                sizes.append((f"{modality}={name}", checkpoint, checkpoint.bytes_to_fetch()))
        except PipelineError as error:
            failed.append(f"{modality}={name}: {error}")
    absent = [network for network in networks if network.listed().state == "not here"]
    count, megabytes = (
        len(sizes) + len(absent),
        sum(size for *_, size in sizes) / 1e6 + sum(network.about[2] for network in absent),
    )
    log.logger.info("to download: %d model%s, %.0f MB", count, "" if count == 1 else "s", megabytes)
    for title, checkpoint, size in sizes:
        log.logger.info("%s: %s, %.0f MB", title, checkpoint.repo, size / 1e6)
        try:
            checkpoint.fetch()
        except PipelineError as error:
            failed.append(f"{title}: {error}")
    for network in absent:
        log.logger.info("%s=%s: %s, %.0f MB", MEDIA, network.name, network.about[3], network.about[2])
    for network in networks:
        try:
            network.path(offline=offline)
        except PipelineError as error:
            failed.append(f"{MEDIA}={network.name}: {error}")
    if failed:
        raise ModelUnavailable("not everything is available:\n" + "\n".join(failed))


def _built(params: Params, modality: str, name: str, *, offline: bool) -> Encoder:
    return registry.build(params, modality, name, offline=offline)


def _checkpoint(encoder: Any) -> Checkpoint | None:
    found = getattr(encoder, "checkpoint", None)
    return found if isinstance(found, Checkpoint) else None
