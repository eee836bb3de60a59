"""``merc-extract models``: lists every encoder with its checkpoint and the networks of the media stage, and fetches
them ahead of a run.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from merc import log
from merc.command_line import PARAMS, SET, echo, echo_json, exiting
from merc.commands import completion

if TYPE_CHECKING:
    from merc.commands.inventory import Listed


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.argument("names", nargs=-1, metavar="[NAMES]...", shell_complete=completion.models)
@click.option(
    "--preset",
    metavar="NAME",
    shell_complete=completion.presets,
    help="Only the encoders of this preset of params.yaml.",
)
@click.option(
    "--download",
    is_flag=True,
    help="Download models that are missing. Finished files of an interrupted download are kept.",
)
@click.option(
    "--offline",
    is_flag=True,
    help="With --download: never contact the hub, and end with exit code 6 if something is missing.",
)
@PARAMS
@SET
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per encoder, one per line.")
def models(
    names: tuple[str, ...],
    preset: str | None,
    download: bool,
    offline: bool,
    params_file: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """List the encoders and the networks of the media stage, and download their models.

    NAMES are encoders, such as roberta_base or text=roberta_base, or networks of the media stage, such as media=yunet;
    the default is all. Nothing is downloaded without --download.

    \b
    Examples:
      merc-extract models                              all models, their training data, which are on this machine
      merc-extract models --download --preset base     download the models of a preset
      merc-extract models --download text=minilm media=yunet media=light_asd
    """
    log.set_up()
    with exiting():
        from merc.commands.inventory import MEDIA_NAME, chosen, describe, fetch, media_networks, named_networks
        from merc.encoders.engine import registry
        from merc.params import Params

        params = Params.load(params_file, overrides)
        of_media = [name.removeprefix(MEDIA_NAME) for name in names if name.startswith(MEDIA_NAME)]
        encoders = [name for name in names if not name.startswith(MEDIA_NAME)]
        wanted = [] if of_media and not encoders and not preset else chosen(params, encoders, preset)
        for modality, name in wanted:  # show errors before anything is fetched
            registry.choose(params, modality, name)
        params.read("presets")  # the list shows which presets name an encoder
        params.check_overrides()
        networks = [] if names and not preset else media_networks(params, preset)
        networks += [
            one for one in named_networks(params, of_media) if one.name not in [there.name for there in networks]
        ]
        if download:
            fetch(params, wanted, offline=offline, asked_for=bool(names or preset), networks=networks)
        listed = [*(describe(params, modality, name) for modality, name in wanted), *(one.listed() for one in networks)]
        if as_json:
            for one in listed:
                echo_json(asdict(one))
            return
        for line in table(listed):
            echo(line)


_LICENCE_COLUMNS = 16


def table(listed: "Iterable[Listed]") -> Iterator[str]:
    """Two lines per encoder with a checkpoint, one without, at most 120 columns unless names are longer; the first line
    is the heading.
    """
    yield (
        f"{'':6} {'encoder':20} {'family':12} {'dim':>5}  {'licence':{_LICENCE_COLUMNS}} {'MB':>6}  {'state':8} "
        f" {'preset':8}  IEMOCAP, MELD seen"
    )
    before = ""
    for one in listed:
        modality = one.modality if one.modality != before else ""
        before = one.modality
        dim = "?" if one.dim is None else str(one.dim)
        size = "?" if one.megabytes is None else f"{one.megabytes:.0f}" if one.megabytes else "-"
        preset = ",".join(one.presets)
        licence = one.licence if len(one.licence) <= _LICENCE_COLUMNS else "see below"
        about = (
            f"{licence:{_LICENCE_COLUMNS}} {size:>6}  {one.state:8}  {preset:8}  {_briefly(one.training_data_overlap)}"
        )
        yield f"{modality:6} {one.name:20} {one.family:12} {dim:>5}  {about}".rstrip()
        if licence != one.licence:
            yield f"{'':9}licence: {one.licence}"
        if one.repo:
            yield f"{'':9}{one.repo}{'@' if one.revision else ''}{one.revision}"
        if one.problem:
            yield f"{'':9}{one.problem}"
        elif one.how_to_get and not one.revision:  # a checkpoint on the hub is fetched by --download
            yield f"{'':9}{one.how_to_get}"


def _briefly(overlap: str) -> str:
    """The first clause of the text about the training data: ``none known``, or what is contained."""
    return overlap.replace(";", "(").split("(")[0].strip()
