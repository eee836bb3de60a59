"""``merc-extract models``: every encoder with its checkpoint, the networks of the media stage, and fetching both ahead of a run. torch is not imported."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click

from merc import log
from merc.command_line import PARAMS, SET, echo, echo_json, exiting
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
_MEDIA_NAME = f"{MEDIA}="
_NETWORKS = ("yunet", "light_asd")
"""Key of a preset that is no modality: settings of the media stage, see :func:`merc.media.config.lay`."""


@dataclass(frozen=True)
class Listed:
    """One encoder.

    Attributes:
        modality, name: its block.
        family: the file that implements it.
        dim: length of its vectors; None if that is known only after loading.
        licence: of its weights, or of the rule where there are none.
        training_data_overlap: whether its training data contain IEMOCAP or MELD, in words.
        megabytes: what a download takes; None if unknown, 0 where there is none.
        state: ``built in``, ``here``, ``not here``, or ``refused`` (see ``problem``).
        repo, revision: of its checkpoint; empty where there is none.
        presets: in which it is named.
        how_to_get: the command that fetches or installs what is not here; empty where nothing is missing.
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


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.argument("names", nargs=-1, metavar="[NAMES]...")
@click.option("--preset", metavar="NAME", help="Only the encoders of this preset of params.yaml.")
@click.option("--download", is_flag=True, help="Fetch what is not here. What an interrupted download has finished is kept.")
@click.option("--offline", is_flag=True, help="With --download: never ask the hub, and end with exit code 6 if something is not here.")
@PARAMS
@SET
@click.option("--json", "as_json", is_flag=True, help="One JSON object per encoder and line.")
def models(
    names: tuple[str, ...], preset: str | None, download: bool, offline: bool, params_file: Path | None, overrides: tuple[str, ...], as_json: bool
) -> None:
    """List the encoders and the networks of the media stage, and fetch their models.

    NAMES are encoders, as roberta_base or text=roberta_base, or networks of the media stage, as media=yunet; without any, all are meant. Nothing is
    downloaded without --download.

    \b
    Examples:
      merc-extract models                              what there is, what it was trained on, what is here
      merc-extract models --download --preset base     fetch the models of a preset
      merc-extract models --download text=minilm media=yunet media=light_asd
    """
    log.set_up()
    with exiting():
        params = Params.load(params_file, overrides)
        of_media = [name.removeprefix(_MEDIA_NAME) for name in names if name.startswith(_MEDIA_NAME)]
        encoders = [name for name in names if not name.startswith(_MEDIA_NAME)]
        wanted = [] if of_media and not encoders and not preset else chosen(params, encoders, preset)
        for modality, name in wanted:  # what is wrong with them shows before anything is fetched
            registry.choose(params, modality, name)
        params.read("presets")  # the list says which of them name an encoder
        params.check_overrides()
        networks = [] if names and not preset else media_networks(params, preset)
        networks += [one for one in named_networks(params, of_media) if one.name not in [there.name for there in networks]]
        if download:
            fetch(params, wanted, offline=offline, asked_for=bool(names or preset), networks=networks)
        listed = [*(describe(params, modality, name) for modality, name in wanted), *(one.listed() for one in networks)]
        if as_json:
            for one in listed:
                echo_json(asdict(one))
            return
        for line in table(listed):
            echo(line)


def chosen(params: Params, names: Iterable[str], preset: str | None = None) -> list[tuple[str, str]]:
    """Modality and name of the encoders that are meant, by modality and name.

    Args:
        params: settings.
        names: ``NAME`` or ``MODALITY=NAME``; together with a preset, both are meant.
        preset: a key of ``presets``.

    Raises:
        BadSettings: if there is no such encoder or preset, naming the nearest.
    """
    every = [(modality, name) for modality in MODALITIES for name in registry.names(params, modality)]
    wanted = set(encoders_of(params, preset).items()) if preset else set()
    for given in names:
        modality, equals, name = given.rpartition("=")
        found = {one for one in every if one[1] == name and (not equals or one[0] == modality)}
        if not found:
            raise BadSettings(f"no encoder {given!r}; {nearest(given, [f'{one[0]}={one[1]}' if equals else one[1] for one in every])}")
        wanted |= found
    unknown = sorted(wanted - set(every))
    if unknown:
        modality, name = unknown[0]
        raise BadSettings(f"presets.{preset} names {modality}={name}, and there is no such encoder; {nearest(name, registry.names(params, modality))}")
    return [one for one in every if one in wanted] if wanted else every


def encoders_of(params: Params, preset: str, key: str = "--preset") -> dict[str, str]:
    """The encoder of each modality in a preset.

    Args:
        params: settings.
        preset: a key of ``presets``.
        key: where the preset was named, for the message.

    Raises:
        BadSettings: if there is no such preset, naming the nearest.
    """
    presets: dict[str, dict[str, Any]] = params.read("presets").tree
    if not isinstance(preset, str) or preset not in presets:
        raise BadSettings(f"{key}: {no_preset(preset, presets)}")
    return {modality: name for modality, name in presets[preset].items() if modality != MEDIA}


@dataclass(frozen=True)
class MediaNetwork:
    """A network that the media stage needs with some preset.

    Attributes:
        name: ``yunet`` or ``light_asd``.
        config: settings of the media with one of these presets.
        presets: that need it.
        about: licence, training data, megabytes, where it comes from and which revision.
    """

    name: str
    config: MediaConfig
    presets: tuple[str, ...]
    about: tuple[str, str, float, str, str]

    def path(self, *, offline: bool) -> Path | None:
        """The file, fetched if it is not here. Raises ``BadSettings`` or ``ModelUnavailable``."""
        if self.name == "yunet":
            return detector.path(self.config, offline=offline)
        from merc.media.active_speaker import weights

        return weights.path(self.config, offline=offline)

    def listed(self) -> Listed:
        """What is known of it without a network."""
        licence, overlap, megabytes, repo, revision = self.about
        state, problem = "here", ""
        try:
            self.path(offline=True)
        except ModelUnavailable:
            state = "not here"
        except PipelineError as error:
            state, problem = "refused", str(error)
        return Listed(MEDIA, self.name, self.name, None, licence, overlap, megabytes, state, repo, revision, self.presets, problem=problem)


def media_networks(params: Params, preset: str | None = None) -> list[MediaNetwork]:
    """The networks that the media stage needs with a preset, or with any of them; none with settings that need none."""
    presets = [preset] if preset else list(params.block("presets"))
    configs = {name: of_preset(params, name) for name in presets}
    needing = {network: tuple(name for name, config in configs.items() if network in needed_networks(config)) for network in _NETWORKS}
    return [_network(network, configs[names[0]], names) for network, names in needing.items() if names]


def needed_networks(config: MediaConfig) -> list[str]:
    """The names of the networks that the media stage needs with some settings."""
    needs = {"yunet": config.detector == "yunet", "light_asd": config.choice == "active_speaker"}
    return [name for name in _NETWORKS if needs[name]]


def named_networks(params: Params, names: Iterable[str]) -> list[MediaNetwork]:
    """Networks of the media stage by name, also where no preset needs them. Raises ``BadSettings`` if there is no such network."""
    of_presets = {one.name: one for one in media_networks(params)}
    found = []
    for name in dict.fromkeys(names):
        if name not in _NETWORKS:
            raise BadSettings(f"no network {_MEDIA_NAME}{name}; {nearest(name, _NETWORKS)}")
        found.append(of_presets.get(name) or _network(name, of_dataset(params, ""), ()))
    return found


def _network(name: str, config: MediaConfig, presets: tuple[str, ...]) -> MediaNetwork:
    if name == "yunet":
        about = ("MIT", f"{_NONE_KNOWN} (WIDER FACE)", 0.2, config.yunet_file or config.yunet_repo, "" if config.yunet_file else config.yunet_revision)
    else:
        here = ("" if config.speaker_file else config.speaker_revision,)
        about = ("MIT", f"{_NONE_KNOWN} (AVA-ActiveSpeaker, TalkSet: films and interviews)", 4.2, config.speaker_file or config.speaker_url, *here)
    return MediaNetwork(name, config, presets, about)


def describe(params: Params, modality: str, name: str) -> Listed:
    """What is known of an encoder without loading it and without a network. Raises ``BadSettings`` if its block is wrong."""
    try:
        encoder = _built(params, modality, name, offline=True)
    except BadPlugin as error:
        return Listed(modality, name, name, None, "?", "?", None, "refused", problem=str(error))
    config = encoder.config
    checkpoint = _checkpoint(encoder)
    built_in = not hasattr(config, "licence")
    missing, problem, words = None, "", {}
    try:
        missing = encoder.missing()
        # Of an encoder with weights the provenance begins with their hash, so its words are taken from the settings.
        words = encoder.provenance() if built_in and missing is None else {}
    except PipelineError as error:
        problem = str(error)
    size = 0.0 if built_in else getattr(config, "megabytes", None)
    if checkpoint and not problem and missing is None:
        size = checkpoint.bytes_on_disk() / 1e6
    return Listed(
        modality=modality,
        name=name,
        family=config.family,
        dim=encoder.planned_dim() if not problem and (checkpoint is None or missing is None) else getattr(config, "dim", None),
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


def fetch(params: Params, wanted: Iterable[tuple[str, str]], *, offline: bool, asked_for: bool = True, networks: Iterable[MediaNetwork] = ()) -> None:
    """Fetches the models that are not here; one that cannot be had does not keep the others from being fetched.

    Args:
        params: settings.
        wanted: modality and name of each.
        offline: never ask the hub.
        networks: of the media stage.
        asked_for: they were named; else what no download can give (an extra, an encoder that is fine-tuned here) is told and left out.

    Raises:
        ModelUnavailable: naming each model that could not be had, and the command for it.
    """
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
                    log.logger.info("%s=%s is no download: %s", modality, name, missing)
            elif checkpoint is not None and missing is not None:
                if offline:
                    checkpoint.fetch()  # says what is missing
                sizes.append((f"{modality}={name}", checkpoint, checkpoint.bytes_to_fetch()))
        except PipelineError as error:
            failed.append(f"{modality}={name}: {error}")
    log.logger.info("to fetch: %d model%s, %.0f MB", len(sizes), "" if len(sizes) == 1 else "s", sum(size for *_, size in sizes) / 1e6)
    for title, checkpoint, size in sizes:
        log.logger.info("%s: %s, %.0f MB", title, checkpoint.repo, size / 1e6)
        try:
            checkpoint.fetch()
        except PipelineError as error:
            failed.append(f"{title}: {error}")
    for network in networks:
        try:
            network.path(offline=offline)
        except PipelineError as error:
            failed.append(f"{MEDIA}={network.name}: {error}")
    if failed:
        raise ModelUnavailable("not everything is to be had:\n" + "\n".join(failed))


def table(listed: Iterable[Listed]) -> Iterator[str]:
    """Two lines per encoder with a checkpoint, one without, at most 120 columns unless names are longer; the first line is the heading."""
    yield f"{'':6} {'encoder':20} {'family':12} {'dim':>5}  {'licence':16} {'MB':>6}  {'state':8}  {'preset':8}  IEMOCAP, MELD seen"
    before = ""
    for one in listed:
        modality = one.modality if one.modality != before else ""
        before = one.modality
        dim = "?" if one.dim is None else str(one.dim)
        size = "?" if one.megabytes is None else f"{one.megabytes:.0f}" if one.megabytes else "-"
        preset = ",".join(one.presets)
        about = f"{one.licence:16} {size:>6}  {one.state:8}  {preset:8}  {_briefly(one.training_data_overlap)}"
        yield f"{modality:6} {one.name:20} {one.family:12} {dim:>5}  {about}".rstrip()
        if one.repo:
            yield f"{'':9}{one.repo}{'@' if one.revision else ''}{one.revision}"
        if one.problem:
            yield f"{'':9}{one.problem}"
        elif one.how_to_get and not one.revision:  # a checkpoint on the hub is fetched by --download
            yield f"{'':9}{one.how_to_get}"


def _briefly(overlap: str) -> str:
    """The first clause of the words about the training data: ``none known``, or what is contained."""
    return overlap.replace(";", "(").split("(")[0].strip()


def _built(params: Params, modality: str, name: str, *, offline: bool) -> Encoder:
    return registry.build(params, modality, name, offline=offline)


def _checkpoint(encoder: Any) -> Checkpoint | None:
    found = getattr(encoder, "checkpoint", None)
    return found if isinstance(found, Checkpoint) else None
