"""``merc-extract``: everything from a raw corpus to shards and trajectories, resumably."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from merc import __version__, extras, lock, log
from merc.command_line import (
    ADDRESS,
    DEVICE,
    EXECUTOR,
    LOG_FORMAT,
    OFFLINE,
    OUT,
    OVERWRITE,
    PARAMS,
    RAW,
    SET,
    WAIT,
    Group,
    behind_a_subcommand,
    echo,
    exiting,
)
from merc.command_line import workers as workers_option
from merc.commands import completion
from merc.commands.audit import audit
from merc.commands.heard import heard
from merc.commands.inspect import inspect
from merc.commands.models import models
from merc.errors import BadSettings, ModelUnavailable, nearest
from merc.files import read_json
from merc.layout import MODALITIES, Layout
from merc.records.dialogue import SPLITS

if TYPE_CHECKING:
    from merc.corpora.stage import Corpus
    from merc.encoders.engine.registry import ChosenEncoder
    from merc.extraction.config import Config as ExtractionConfig
    from merc.job import RunOptions
    from merc.media.config import Config as MediaConfig
    from merc.params import Params
    from merc.shards.config import Config as ShardsConfig
    from merc.trajectories.config import Config as TrajectoriesConfig


@dataclass(frozen=True)
class Order:
    """A requested extraction with all its settings, resolved and checked.

    Attributes:
        corpus: the dataset.
        encoders: one per modality, in the order text, audio, visual.
        splits: splits of the corpus.
        limit: only the first N dialogues of each split; None for all.
        media, extraction, shards, trajectories: settings of these stages.
    """

    corpus: "Corpus"
    encoders: "tuple[ChosenEncoder, ...]"
    splits: tuple[str, ...]
    limit: int | None
    media: "MediaConfig"
    extraction: "ExtractionConfig"
    shards: "ShardsConfig"
    trajectories: "TrajectoriesConfig"

    @classmethod
    def of(
        cls,
        params: "Params",
        dataset: str,
        encoders: Mapping[str, str],
        splits: tuple[str, ...] = SPLITS,
        limit: int | None = None,
        preset: str | None = None,
    ) -> "Order":
        """Resolves every setting that the extraction will use.

        Args:
            params: the user's settings, which override the defaults.
            dataset: see :func:`merc.corpora.stage.choose`.
            encoders: modality → encoder.
            splits: splits of the corpus.
            limit: only the first N dialogues of each split.
            preset: preset whose media settings the user's override; None: the dataset's default preset.

        Raises:
            BadSettings: for an unknown name or key, or an invalid value.
        """
        from merc.corpora.stage import choose as choose_corpus
        from merc.encoders.engine.registry import choose as choose_encoder
        from merc.extraction.config import Config as ExtractionConfig
        from merc.media.config import of_dataset as media_of
        from merc.shards.config import Config as ShardsConfig
        from merc.trajectories.config import Config as TrajectoriesConfig

        return cls(
            corpus=choose_corpus(params, dataset),
            encoders=tuple(choose_encoder(params, modality, name) for modality, name in encoders.items()),
            splits=splits,
            limit=limit,
            media=media_of(params, dataset, preset),
            extraction=params.fill("extraction", ExtractionConfig),
            shards=params.fill("shards", ShardsConfig),
            trajectories=params.fill("trajectories", TrajectoriesConfig),
        )

    @property
    def names(self) -> dict[str, str]:
        """modality → encoder."""
        return {one.modality: one.name for one in self.encoders}

    @property
    def streams(self) -> frozenset[str]:
        """The streams to decode: a subset of ``audio``, ``visual``."""
        return frozenset(self.names) - {"text"}


def _share(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", value)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise click.BadParameter(f"{value!r}; K/N expected, with K from 1 to N")
    return int(found[1]), int(found[2])


@click.group(
    cls=Group,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.option(
    "--dataset",
    metavar="NAME",
    shell_complete=completion.datasets,
    help="meld, iemocap, demo-meld, demo-iemocap, table (your own), or a block under corpora in params.yaml.",
)
@RAW
@OUT
@click.option(
    "--modalities",
    default=",".join(MODALITIES),
    show_default=True,
    metavar="LIST",
    shell_complete=completion.modalities,
    help="Comma-separated. text alone needs no media files.",
)
@click.option(
    "--preset",
    metavar="NAME",
    shell_complete=completion.presets,
    help=(
        "embedded (no download), base or large: a block under presets in params.yaml. Default: default_encoders there."
    ),
)
@click.option(
    "--encoder",
    "encoders",
    multiple=True,
    metavar="MODALITY=NAME",
    shell_complete=completion.encoders,
    help="An encoder of `merc-extract models`, instead of the preset's; repeatable.",
)
@click.option(
    "--level",
    type=click.Choice(["utterance", "sequences"]),
    help="sequences: also keep the vectors of tokens, audio frames and face crops. Default: extraction.level.",
)
@click.option(
    "--no-text",
    is_flag=True,
    help="Leave the transcripts out of the shards; the text vectors stay. Default: shards.transcripts.",
)
@click.option(
    "--quality",
    is_flag=True,
    help="Add columns quality_... to the shards, from `merc-extract audit`. Default: shards.quality.",
)
@click.option(
    "--split", "splits", multiple=True, type=click.Choice(SPLITS), help="Only this split; repeatable. Default: all."
)
@click.option(
    "--limit", type=click.IntRange(min=1), help="Use only the first N dialogues of each split, for a trial run."
)
@workers_option("Processes for decoding and CPU encoders.")
@DEVICE
@EXECUTOR
@ADDRESS
@click.option(
    "--max-failed",
    metavar="N|P%",
    help="Number or share of broken utterances to tolerate; more give exit code 3. Default: run.max_failed in"
    " params.yaml.",
)
@OVERWRITE
@WAIT
@OFFLINE
@click.option(
    "--part",
    "share",
    callback=_share,
    metavar="K/N",
    help="Decode and encode only the K-th of N shares, while other processes make the rest.",
)
@click.option(
    "--finish",
    is_flag=True,
    help="Combine what `--part` made; if some of it is missing, end with exit code 1 instead of making it.",
)
@click.option(
    "--dry-run", "dry", is_flag=True, help="Only print what is done already, what would run, and what it would need."
)
@PARAMS
@SET
@LOG_FORMAT
@click.version_option(__version__)
@click.pass_context
def main(
    context: click.Context,
    dataset: str | None,
    raw: Path,
    out: Path,
    modalities: str,
    preset: str | None,
    encoders: tuple[str, ...],
    level: str | None,
    no_text: bool,
    quality: bool,
    splits: tuple[str, ...],
    limit: int | None,
    workers: int,
    device: str,
    executor: str | None,
    address: str | None,
    max_failed: str | None,
    overwrite: bool,
    wait: bool,
    offline: bool,
    share: tuple[int, int] | None,
    finish: bool,
    dry: bool,
    params_file: Path | None,
    overrides: tuple[str, ...],
    log_format: str,
) -> None:
    """Turn a raw corpus into shards: one row per dialogue with a text, an audio and a face vector per utterance.

    A killed run resumes when the same command is run again. Utterances that could not be used are not dropped: each has
    a row in the failure table next to the shards.

    \b
    Examples:
      merc-extract --dataset demo-meld                       a small generated corpus, no download
      merc-extract --dataset meld --raw /data --dry-run      what /data/meld would need
      merc-extract --dataset meld --preset embedded          without any download
      merc-extract --dataset meld --modalities text --encoder text=roberta_large
      merc-extract --dataset meld --part 3/40                one of forty processes; then once: --finish

    \b
    Exit codes:
      0  done; broken clips are in the failure table       5  work with other settings already exists
      1  unexpected, or the output cannot be written       6  a model is not available
      2  usage or settings                                 7  another process writes to the same output
      3  more broken clips than --max-failed allows      130  interrupted; run again to resume
      4  raw data missing or of another shape
    """
    if behind_a_subcommand(context):
        return
    if dataset is None:
        raise click.UsageError("Missing option '--dataset', or one of the commands below. See --help.", context)
    if share and finish:
        raise click.UsageError("--part makes a share, --finish puts the shares together: give one of them.", context)
    log.set_up(log_format)
    with exiting():
        extras.need("extract", "merc-extract")
        from merc.commands import dry_run, shares
        from merc.job import RunOptions
        from merc.params import Params

        overrides += (f"extraction.level={level}",) if level else ()
        overrides += ("shards.transcripts=false",) if no_text else ()
        overrides += ("shards.quality=true",) if quality else ()
        params = Params.load(params_file, overrides)
        layout = Layout(raw, out, dataset)
        run = RunOptions.of(
            params,
            max_failed,
            executor,
            address,
            workers=workers,
            device=device,
            overwrite=overwrite,
            offline=offline,
            wait=wait,
        )
        if share is not None and run.executor != "local":
            raise BadSettings(
                "--part is for machines without an engine; Ray hands out all parts by itself: give --executor local, or"
                " leave out --part"
            )
        wanted = Order.of(
            params,
            dataset,
            chosen_encoders(params, dataset, modalities, encoders, preset),
            splits or SPLITS,
            limit,
            preset,
        )
        params.check_overrides()
        with _naming_the_way_out(wanted):
            if dry:
                for line in dry_run.describe(wanted, layout, run):
                    echo(line)
                return
            if share is not None:
                shares.make(wanted, layout, run, shares.Share(*share))
                return
            with lock.held(layout.folder, wait=wait):
                if finish:
                    shares.require_all(wanted, layout, run)
                lines = extract_all(wanted, layout, run)
            for line in lines:
                echo(line)


def extract_all(order: Order, layout: Layout, run: "RunOptions") -> list[str]:
    """Runs every stage from the raw corpus to the trajectories; finished stages are skipped.

    Returns:
        A summary, one line each.
    """
    from merc.commands.overlap import decode_and_extract
    from merc.extraction.stage import extract
    from merc.shards.card.writing import write_card
    from merc.shards.stage import build_shards
    from merc.trajectories.stage import build_trajectories

    begin(order, layout, run)
    made = (
        decode_and_extract(order.media, order.encoders, order.extraction, layout, run, streams=order.streams)
        if order.streams
        else ()
    )
    for one in order.encoders:
        if one not in made:
            extract(one, order.extraction, layout, run)
    build_shards(order.shards, layout, run, encoders=order.names)
    build_trajectories(order.trajectories, layout, run)
    write_card(layout.shards)
    return _summary(layout, order)


def begin(order: Order, layout: Layout, run: "RunOptions") -> None:
    """Builds the manifest. Problems with names, a cluster, raw data or models show here, in this order, before hours of
    decoding.
    """
    from merc.compute.executors.base import choose
    from merc.corpora.stage import build_manifest
    from merc.records import audit as audits

    if order.shards.quality:
        audits.require(layout)
    encoders = [one.build(offline=run.offline) for one in order.encoders]
    if not layout.manifest.exists():  # if everything is done, no cluster is needed
        choose(run).reach()
    build_manifest(order.corpus, layout, run, modalities=tuple(order.names), splits=order.splits, limit=order.limit)
    for encoder in encoders:
        encoder.identity()


@contextmanager
def _naming_the_way_out(order: Order) -> Iterator[None]:
    """Adds to the message about an unavailable model how to fetch all that the run needs, and how to do without."""
    try:
        yield
    except ModelUnavailable as error:
        from merc.commands.inventory import MEDIA, needed_networks

        networks = needed_networks(order.media) if "visual" in order.streams else []
        names = " ".join(
            [
                *(f"{modality}={name}" for modality, name in order.names.items()),
                *(f"{MEDIA}={name}" for name in networks),
            ]
        )
        raise ModelUnavailable(
            f"{error}\nTo download all models of this run:\n  merc-extract models --download {names}\nThe encoders of"
            " --preset embedded need no download."
        ) from error


def chosen_encoders(
    params: "Params", dataset: str, modalities: str, given: tuple[str, ...], preset: str | None = None
) -> dict[str, str]:
    """The encoder of each requested modality: as given, else that of the preset, else that of the default preset.

    Args:
        params: settings; ``default_encoders`` holds the default preset by dataset.
        dataset: its name.
        modalities: comma-separated.
        given: ``MODALITY=NAME``, each modality at most once.
        preset: a block under ``presets``; None for the default.

    Raises:
        BadSettings: for an unknown modality, dataset or preset, or an encoder for a modality that is not requested.
    """
    from merc.commands.inventory import encoders_of
    from merc.corpora.stage import DATASETS

    wanted = {name.strip() for name in modalities.split(",")}
    for name in sorted(wanted - set(MODALITIES)):
        raise BadSettings(f"--modalities: no modality {name!r}; {nearest(name, list(MODALITIES))}")
    if dataset not in DATASETS.names(params):
        raise BadSettings(f"--dataset: no dataset {dataset!r}; {nearest(dataset, DATASETS.names(params))}")
    chosen: dict[str, str] = {}
    for pair in given:
        modality, equals, encoder = pair.partition("=")
        if not equals or not encoder or modality not in wanted:
            raise BadSettings(
                f"--encoder {pair!r}: expected MODALITY=NAME, with a modality from {', '.join(sorted(wanted))}"
            )
        if modality in chosen:
            raise BadSettings(f"--encoder: {modality} is given twice")
        chosen[modality] = encoder
    if preset is not None:
        chosen = {**encoders_of(params, preset), **chosen}
    elif wanted - set(chosen):
        preset = params.get(f"default_encoders.{dataset}") if dataset in params.block("default_encoders") else None
        if preset is None:
            raise BadSettings(
                f"default_encoders in {params.file} has no preset for {dataset}; add it, or give --preset NAME or"
                " --encoder MODALITY=NAME"
            )
        chosen = {**encoders_of(params, preset, f"default_encoders.{dataset}"), **chosen}
    missing = [modality for modality in MODALITIES if modality in wanted and modality not in chosen]
    if missing:
        raise BadSettings(f"presets.{preset} names no {missing[0]} encoder; give --encoder {missing[0]}=NAME")
    return {modality: chosen[modality] for modality in MODALITIES if modality in wanted}


def _summary(layout: Layout, order: Order) -> list[str]:
    lines = [f"{layout.dataset}: shards in {layout.shards}"]
    counts = read_json(layout.folder / "manifest.json")["counts"]
    for split, count in counts.items():
        lines.append(f"  {split}: {count['dialogues']} dialogues, {count['utterances']} utterances")
    for modality, encoder in order.names.items():
        record = read_json(layout.features(modality, encoder) / "record.json")
        absent = ", ".join(f"{reason} {count}" for reason, count in sorted(record["counts"]["absent"].items()))
        present, total = record["counts"]["present"], record["counts"]["utterances"]
        lines.append(
            f"  {modality} by {encoder}: {present} of {total} utterances, {record['dim']} numbers"
            f" each{'; absent: ' + absent if absent else ''}"
        )
    return lines


@click.command("params", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option(
    "--dataset",
    metavar="NAME",
    shell_complete=completion.datasets,
    help="As for merc-extract. Without it, the package's settings file is printed.",
)
@click.option(
    "--modalities",
    default=",".join(MODALITIES),
    show_default=True,
    metavar="LIST",
    shell_complete=completion.modalities,
    help="Comma-separated.",
)
@click.option("--preset", metavar="NAME", shell_complete=completion.presets, help="As for merc-extract.")
@click.option(
    "--encoder",
    "encoders",
    multiple=True,
    metavar="MODALITY=NAME",
    shell_complete=completion.encoders,
    help="As for merc-extract; repeatable.",
)
@PARAMS
@SET
@click.pass_context
def params_command(
    context: click.Context,
    dataset: str | None,
    modalities: str,
    preset: str | None,
    encoders: tuple[str, ...],
    params_file: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Print every setting of an extraction and its origin, or a settings file to start from. No data is read or
    written.

    \b
    Examples:
      merc-extract params > params.yaml         the settings file that comes with the package, with its comments
      merc-extract params --dataset meld        the settings in effect for meld
    """
    log.set_up()
    with exiting():
        if dataset is None:
            _print_settings_file(context)
            return
        from merc.audit.config import Config as AuditConfig
        from merc.commands.settings import lines_of
        from merc.job import RunConfig
        from merc.media.config import lay as lay_media
        from merc.params import Params

        params = Params.load(params_file, overrides)
        order = Order.of(params, dataset, chosen_encoders(params, dataset, modalities, encoders, preset), preset=preset)
        params.fill("run", RunConfig)
        audit_config = params.fill("audit", AuditConfig)
        params.check_overrides()
        for line in lines_of(f"corpora.{dataset}", order.corpus.reader.config, order.corpus.laid.origins):
            echo(line)
        for one in order.encoders:
            for line in lines_of(f"encoders.{one.modality}.{one.name}", one.config, one.laid.origins):
                echo(line)
        for line in lines_of("media", order.media, lay_media(params, dataset, preset).origins):
            echo(line)
        configs = {
            "extraction": order.extraction,
            "audit": audit_config,
            "shards": order.shards,
            "trajectories": order.trajectories,
        }
        for key, config in configs.items():
            for line in lines_of(key, config, params.read(key).origins):
                echo(line)


def _print_settings_file(context: click.Context) -> None:
    """The package's own file unchanged, regardless of any params.yaml here: the shell has already emptied that one if
    the output is redirected to it.

    Raises:
        click.UsageError: if options are given, which would have no effect.
    """
    from merc.params import packaged_file

    given = [
        name for name in context.params if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(
            "without --dataset the package's settings file is printed unchanged; options that do not apply:"
            f" {', '.join(sorted(given))}",
            context,
        )
    click.echo(packaged_file().read_text(encoding="utf-8"), nl=False)


main.add_command(models)
main.add_command(params_command)
main.add_command(inspect)
main.add_command(audit)
main.add_command(heard)
