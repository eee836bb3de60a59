"""``merc-train``: trains one recipe on the shards of one dataset, or labels shards with a model that it trained."""

import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from merc import __version__, extras, log
from merc.command_line import (
    ADDRESS,
    DEVICE,
    EXECUTOR,
    LOG_FORMAT,
    OUT,
    OVERWRITE,
    PARAMS,
    RUNS,
    SET,
    WAIT,
    Group,
    behind_a_subcommand,
    echo,
    exiting,
    go_through,
)
from merc.command_line import workers as workers_option
from merc.commands import completion
from merc.commands.share_models import pull, push
from merc.layout import Layout

_NAME_COLUMNS = 26
_WIDTH = 100


def _checked(dataset: str | None, recipe: str | None, model: Path | None, shards: Path | None) -> None:
    """Raises ``click.UsageError`` unless the options say either what to train or what to label."""
    train, label = (dataset is not None, recipe is not None), (model is not None, shards is not None)
    if not (all(train) and not any(label)) and not (all(label) and not any(train)):
        raise click.UsageError("give --dataset and --recipe to train, or --predict and --shards to label")


def _listed(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(name for name in value.split(",") if name)


_FOLLOW = click.option(
    "--follow",
    callback=_listed,
    metavar="NAME,NAME",
    help="Show the training while it runs: dvclive, tensorboard; each needs its extra. Default: run.follow.",
)


def _training(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of all commands that train: sources, destination, and how to run."""
    for option in reversed(
        (
            OUT,
            RUNS,
            DEVICE,
            EXECUTOR,
            ADDRESS,
            workers_option("Seeds trained at once on a CPU."),
            _FOLLOW,
            OVERWRITE,
            WAIT,
        )
    ):
        command = option(command)
    return command


@click.group(
    cls=Group,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.version_option(__version__)
@click.option(
    "--dataset",
    shell_complete=completion.shards_datasets,
    help="Dataset to train on; its shards are made by `merc-extract --dataset NAME`.",
)
@click.option(
    "--recipe",
    shell_complete=completion.recipes,
    help="One of `merc-train recipes`, optionally with additions and modalities: baseline, mmgcn+dclf,"
    " mmgcn+dclf@text.",
)
@_training
@click.option(
    "--predict",
    "model",
    type=click.Path(path_type=Path),
    metavar="CHECKPOINT",
    help="Label dialogues with this seed-<n>/model.safetensors.",
)
@click.option("--shards", type=click.Path(path_type=Path), help="With --predict: the folder of the shards to label.")
@click.option("--split", help="With --predict: only this split.")
@click.option(
    "--predictions",
    type=click.Path(path_type=Path),
    default="predictions.parquet",
    show_default=True,
    help="With --predict: the Parquet file to write.",
)
@click.option(
    "--force",
    is_flag=True,
    help="With --predict: also accept vectors from a different encoder than the one the model was trained on.",
)
@PARAMS
@SET
@LOG_FORMAT
@click.pass_context
def main(
    context: click.Context,
    dataset: str | None,
    recipe: str | None,
    out: Path,
    runs: Path,
    device: str,
    executor: str | None,
    address: str | None,
    workers: int,
    follow: tuple[str, ...] | None,
    overwrite: bool,
    wait: bool,
    model: Path | None,
    shards: Path | None,
    split: str | None,
    predictions: Path,
    force: bool,
    params_file: Path | None,
    overrides: tuple[str, ...],
    log_format: str,
) -> None:
    """Train a recipe with all its seeds, select each seed's epoch on the dev split, score the test split once.

    Writes weights (safetensors), predictions (Parquet) and metrics (JSON). A killed run resumes with the first
    unfinished seed.

    With --predict, label dialogues (which need no labels of their own) and write a Parquet file.

    \b
    Examples:
      merc-train --dataset demo-meld --recipe baseline
      merc-train --predict runs/demo-meld/baseline/models/seed-0/model.safetensors --shards features/demo-meld/shards

    \b
    Exit codes:
      0  done                                                5  work with other settings already exists
      1  unexpected, or the output cannot be written         7  another process writes to the same output
      2  usage or settings                                 130  interrupted; run again to resume
      4  no shards or checkpoint, damaged, or of another shape
    """
    if behind_a_subcommand(context):
        return
    _checked(dataset, recipe, model, shards)
    log.set_up(log_format)
    with exiting():
        extras.need("train", "merc-train")
        if model is not None and shards is not None:
            from merc.compute import device as devices
            from merc.training.loop.prediction import label

            label(model, shards, predictions, split=split, force=force, device=devices.resolve(device))
            echo(predictions)
            return
        from merc.job import RunOptions
        from merc.params import Params
        from merc.training.recipes.resolution import resolve
        from merc.training.stage import train

        params = Params.load(params_file, overrides)
        chosen = {} if follow is None else {"follow": follow}
        run = RunOptions.of(
            params, None, executor, address, device=device, overwrite=overwrite, workers=workers, wait=wait, **chosen
        )
        resolved = resolve(params, recipe or "")
        params.check_overrides()
        made = train(resolved, Layout(Path("raw"), out, dataset or ""), run, runs=runs)
        echo(made / "metrics.json")


@main.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@PARAMS
def recipes(params_file: Path | None) -> None:
    """List recipes and additions, one per line.

    A recipe's name is BASE, BASE+ADDITION… or BASE@MODALITY-MODALITY, such as mmgcn+dclf@text-audio.
    """
    log.set_up()
    with exiting():
        from merc.params import Params
        from merc.training.recipes.shelves import ADDITIONS, RECIPES

        params = Params.load(params_file)
        for title, shelf, sign in (("recipes", RECIPES, ""), ("additions", ADDITIONS, "+")):
            echo(title)
            for name in shelf.names(params):
                echo(f"  {sign + name:<28} {shelf.read(params, name).at('about') or ''}".rstrip())


def _listing(kind: str, example: str) -> click.Command:
    """The command that lists the models, or the losses."""

    @click.command(
        kind,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
        help=f"""List the {kind}, or the settings of one with their defaults and meanings.

        \b
        Example:
          merc-train {kind} {example}
        """,
    )
    @click.argument("name", required=False, shell_complete=completion.plugins_of(f"merc.training.{kind}"))
    def command(name: str | None) -> None:
        _outlined(kind, name)

    return command


main.add_command(_listing("models", "mmgcn"))
main.add_command(_listing("losses", "supcon"))


def _outlined(kind: str, name: str | None) -> None:
    """Prints what the files of models or losses say about themselves; torch is not needed."""
    log.set_up()
    with exiting():
        from merc import outline

        package = f"merc.training.{kind}"
        if name is None:
            for one, title in outline.titles(package).items():
                echo(f"{one:<{_NAME_COLUMNS}} {title}".rstrip())
            return
        if kind == "models":
            _refuse_recipe(name, package)
        found = outline.read(package, name)
        echo(found.title)
        for setting in found.settings:
            default = f" = {setting.default}" if setting.default else ""
            echo(f"\n{kind}.{name}.{setting.name}: {setting.type}{default}")
            echo(textwrap.indent(textwrap.fill(setting.about, _WIDTH), "    "))


def _refuse_recipe(name: str, package: str) -> None:
    """Raises ``BadSettings`` for the name of a recipe that is not that of a model, such as ``baseline``."""
    from merc import plugins
    from merc.errors import BadSettings
    from merc.params import Params
    from merc.training.recipes.shelves import RECIPES

    if name in plugins.names(package):
        return
    params = Params.load(None)
    if name in RECIPES.names(params):
        model = RECIPES.read(params, name).at("model")
        raise BadSettings(
            f"{name!r} is a recipe; its model is {model}: merc-train models {model}. All settings of the recipe:"
            f" merc-train show {name}"
        )


@main.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.argument("recipe", shell_complete=completion.recipes)
@PARAMS
@SET
def show(recipe: str, params_file: Path | None, overrides: tuple[str, ...]) -> None:
    """Print every setting of a recipe and its origin. Nothing is trained.

    \b
    Example:
      merc-train show mmgcn+dclf@text
    """
    log.set_up()
    with exiting():
        extras.need("train", "merc-train show")
        from merc.commands.settings import lines_of
        from merc.params import Params
        from merc.training.recipes.resolution import resolve

        params = Params.load(params_file, overrides)
        resolved = resolve(params, recipe)
        params.check_overrides()
        for key, config in resolved.configs().items():
            below = {
                name.removeprefix(f"{key}."): origin
                for name, origin in resolved.origins.items()
                if name.startswith(f"{key}.")
            }
            for line in lines_of(key, config, below):
                echo(line)


def _grid(given: tuple[str, ...]) -> dict[str, list[Any]]:
    """Raises ``click.BadParameter`` or ``BadSettings`` unless each is KEY=VALUE,VALUE."""
    from merc.params import values

    found: dict[str, list[Any]] = {}
    for one in given:
        key, equals, listed = one.partition("=")
        if not (key and equals and listed) or key in found:
            raise click.BadParameter(f"{one!r}: expected KEY=VALUE,VALUE, each key once", param_hint="--grid")
        found[key] = values(listed, f"--grid {one}")
    return found


@main.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.argument("recipe", shell_complete=completion.recipes)
@click.option(
    "--dataset", required=True, shell_complete=completion.shards_datasets, help="Dataset whose shards are used."
)
@click.option(
    "--grid",
    multiple=True,
    metavar="KEY=VALUE,VALUE",
    help="A setting and its values; repeat it for every combination of several settings.",
)
@click.option(
    "--sweep",
    "named",
    multiple=True,
    shell_complete=completion.sweeps,
    help="A named grid, one of `merc-train sweeps`; repeatable.",
)
@click.option(
    "--table", type=click.Path(path_type=Path, dir_okay=False), help="Also write a CSV file with one row per point."
)
@click.option(
    "--dvc", is_flag=True, help="Train nothing; print for every point the command that adds it to DVC's queue."
)
@_training
@PARAMS
@SET
@LOG_FORMAT
def sweep(
    recipe: str,
    dataset: str,
    grid: tuple[str, ...],
    named: tuple[str, ...],
    table: Path | None,
    dvc: bool,
    out: Path,
    runs: Path,
    device: str,
    executor: str | None,
    address: str | None,
    workers: int,
    follow: tuple[str, ...] | None,
    overwrite: bool,
    wait: bool,
    params_file: Path | None,
    overrides: tuple[str, ...],
    log_format: str,
) -> None:
    """Train a recipe at every point of a grid of settings.

    Each point is a separate run, such as mmgcn+dclf+context_aware-window-2. If a point fails, finished points are kept
    and not retrained. Prints weighted F1 on dev and test of every point, in per cent; choose by dev.

    \b
    Examples:
      merc-train sweep mmgcn+dclf --dataset meld --grid context_aware.window=2,4,8,16
      merc-train sweep mmgcn+dclf --dataset meld --sweep dclf_weights --table weights.csv
      merc-train sweep mmgcn+dclf --dataset meld --sweep dclf_weights --dvc | sh    then: dvc queue start
    """
    if not (grid or named):
        raise click.UsageError("give --grid or --sweep")
    if dvc and (params_file or table):
        raise click.UsageError(
            "--dvc cannot be combined with --params, since DVC reads params.yaml, or with --table: dvc exp show --csv"
            " writes one"
        )
    log.set_up(log_format)
    with exiting():
        extras.need("train", "merc-train sweep")
        from merc.job import RunOptions
        from merc.params import Params, fill
        from merc.training.recipes.shelves import SWEEPS
        from merc.training.sweep import Sweep, experiment, points, train_point, write_table

        params = Params.load(params_file, overrides)
        whole: dict[str, Any] = _grid(grid)
        for name in named:
            whole |= params.filled(SWEEPS.read(params, name), Sweep, f"sweeps.{name}").grid
        every = points(params, recipe, fill({"grid": whole}, Sweep, "--grid").grid)
        if dvc:
            for line in [experiment(params, point, dataset, overrides) for point in every]:
                echo(line)
            return
        chosen = {} if follow is None else {"follow": follow}
        run = RunOptions.of(
            params, None, executor, address, device=device, overwrite=overwrite, workers=workers, wait=wait, **chosen
        )
        rows: list[dict[str, Any]] = []

        def trained(point: Any) -> list[str]:
            rows.append(train_point(point, Layout(Path("raw"), out, dataset), run, runs=runs))
            if table is not None:
                write_table(table, rows)
            return ["{recipe}  dev {dev_weighted_f1:.2f}  test {test_weighted_f1:.2f}".format(**rows[-1])]

        go_through({point.resolved.name: partial(trained, point) for point in every})


@main.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@PARAMS
def sweeps(params_file: Path | None) -> None:
    """List named grids, one per line."""
    log.set_up()
    with exiting():
        from merc.params import Params
        from merc.training.recipes.shelves import SWEEPS

        params = Params.load(params_file)
        for name in SWEEPS.names(params):
            echo(f"  {name:<28} {SWEEPS.read(params, name).at('about') or ''}".rstrip())


main.add_command(push)
main.add_command(pull)
