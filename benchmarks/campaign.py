"""The whole campaign: faults at every operation, thousands of malicious files, a thousand kills. It takes some hours;
redirect its table to a dated file.

    python benchmarks/campaign.py faults                every operation of eight commands fails once and is killed once
    python benchmarks/campaign.py fuzz --cases 5000     malicious media, tables, shards, records, models, settings, …
    python benchmarks/campaign.py kills --kills 1000    commands and `dvc repro`, killed at random until they finish

`make campaign` runs all three. Exit code 1 if anything is wrong; a fault is reported with what is needed to reproduce
it.
"""

import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from integrity.commands import Disturbed

# Imported inside the functions that use it: a process that reads a pickle starts by importing this file.
BIN = Path(sys.executable).parent


@click.group()
def main() -> None:
    """Disturbs the package's commands and checks what they leave behind."""


def _all() -> "dict[str, Disturbed]":
    from integrity import commands

    return {**commands.COMMANDS, **commands.LONGER}


def _prepared(folder: Path) -> Path:
    from integrity import commands

    made = folder / "prepared"
    made.mkdir()
    commands.prepare(made)
    return made


@main.command("faults")
@click.option("--command", "names", multiple=True, help="Only this one; repeatable. Default: all.")
def faults_command(names: tuple[str, ...]) -> None:
    """Makes every operation of a command fail once, and kills the command once at each."""
    from integrity import faults

    wrong: list[str] = []
    click.echo("| command | operation | of them | failed | killed | wrong |\n| --- | --- | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as scratch:
        prepared = _prepared(Path(scratch))
        for name in names or _all():
            one, folder = _all()[name], Path(scratch) / name
            one.start(prepared, folder / "undisturbed")
            ended = faults.run(one.command, one.arguments, folder / "undisturbed")
            expected, known = faults.tree(folder / "undisturbed"), faults.Known()
            for kind in faults.KINDS:
                before = len(wrong)
                for how in ("fail", "kill"):
                    for number in ended.places(kind, how):
                        problem = faults.disturb(
                            one, prepared, folder / "disturbed", expected, kind, number, how, known
                        )
                        if problem:
                            _tell(wrong, f"{name}: {how} at {kind} {number}: {problem}")
                        shutil.rmtree(folder / "disturbed")
                tried = [len(ended.places(kind, how)) for how in ("fail", "kill")]
                click.echo(
                    f"| {name} | {kind} | {ended.counts[kind]} | {tried[0]} | {tried[1]} | {len(wrong) - before} |"
                )
    sys.exit(1 if wrong else 0)


@main.command("fuzz")
@click.option("--cases", type=click.IntRange(min=7), default=5000, show_default=True, help="Of all kinds together.")
@click.option("--kind", "names", multiple=True, help="Only this kind; repeatable. Default: all.")
@click.option(
    "--from",
    "first",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of the first case, to see one again.",
)
def fuzz_command(cases: int, names: tuple[str, ...], first: int) -> None:
    """Reads files that were changed at random."""
    from integrity import fuzz

    wrong: list[str] = []
    click.echo(
        "| kind | cases | read | told | lost clips | wrong | longest, s | most memory, MiB |\n| --- | ---: | ---: |"
        " ---: | ---: | ---: | ---: | ---: |"
    )
    with tempfile.TemporaryDirectory() as scratch:
        of_all = fuzz.kinds(_prepared(Path(scratch)))
        chosen = {name: of_all[name] for name in names or of_all}
        for name, kind in chosen.items():
            outcomes: Counter[str] = Counter()
            longest, most = 0.0, 0
            for number in range(first, first + cases // len(chosen)):
                folder = Path(scratch) / "case"
                case = fuzz.try_case(name, kind, number, folder)
                shutil.rmtree(folder)
                outcomes[case.outcome] += 1
                longest, most = max(longest, case.seconds), max(most, case.memory_bytes)
                if case.outcome in fuzz.FAULTS:
                    _tell(wrong, f"{name} {number}: {case.outcome}\n{case.words}")
            bad = sum(outcomes[outcome] for outcome in fuzz.FAULTS)
            read, told, lost = (outcomes[outcome] for outcome in ("read", "told", "lost clip"))
            click.echo(
                f"| {name} | {outcomes.total()} | {read} | {told} | {lost} | {bad} | {longest:.1f} |"
                f" {most / 2**20:.0f} |"
            )
    sys.exit(1 if wrong else 0)


@main.command("kills")
@click.option("--kills", type=click.IntRange(min=1), default=1000, show_default=True, help="Of all commands together.")
@click.option(
    "--command",
    "names",
    multiple=True,
    help="Only this one; repeatable. Default: all, adapt and `dvc repro` among them.",
)
@click.option("--seed", default=0, show_default=True)
def kills_command(kills: int, names: tuple[str, ...], seed: int) -> None:
    """Kills commands with all their processes at random moments, and restarts them until they finish."""
    rng, wrong = random.Random(seed), []  # noqa: S311
    click.echo("| command | rounds | kills | wrong |\n| --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as scratch:
        prepared = _prepared(Path(scratch))
        programs = _programs(prepared)
        chosen = {name: programs[name] for name in programs if not names or name in names}
        whole = {name: _undisturbed(*program, Path(scratch) / "undisturbed") for name, program in chosen.items()}
        # Longer commands are killed less often, yet get more of the time.
        shares = {name: 1 / math.sqrt(seconds) for name, (seconds, _) in whole.items()}
        for name in chosen:
            done = rounds = 0
            before = len(wrong)
            start, arguments, writes = chosen[name]
            seconds, expected = whole[name]
            while done < kills * shares[name] / sum(shares.values()):
                folder = Path(scratch) / "killed"
                start(folder)
                done += _killed_until_it_ends(arguments, folder, seconds, rng)
                rounds += 1
                found = _trees(folder, writes)
                differing = sorted(path for path in {*found, *expected} if found.get(path) != expected.get(path))
                if differing:
                    _tell(wrong, f"{name}, round {rounds}: other files: {', '.join(differing[:10])}")
                shutil.rmtree(folder)
            click.echo(f"| {name} | {rounds} | {done} | {len(wrong) - before} |")
    sys.exit(1 if wrong else 0)


Program = tuple[Callable[[Path], None], Sequence[str], Sequence[str]]


def _programs(prepared: Path) -> dict[str, Program]:
    """Name → how its folder is made, what is run, and where it writes."""
    from integrity.commands import ROOT

    found: dict[str, Program] = {}
    for name, one in _all().items():

        def start(folder: Path, one: "Disturbed" = one) -> None:
            one.start(prepared, folder)

        arguments = ["--dataset", "demo-meld", "--workers", "2"] if name == "extract" else one.arguments
        found[name] = (start, [str(BIN / one.program), *arguments], one.writes)

    def clone(folder: Path) -> None:
        subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
        shutil.copy(prepared / "params.yaml", folder / "params.yaml")
        shutil.copytree(prepared / "raw", folder / "raw", copy_function=os.link, dirs_exist_ok=True)

    found["dvc repro"] = (
        clone,
        [str(BIN / "dvc"), "repro", "--quiet", "shards@demo-meld"],
        ["features/demo-meld/shards"],
    )
    return found


def _undisturbed(
    start: Callable[[Path], None], arguments: Sequence[str], writes: Sequence[str], folder: Path
) -> tuple[float, dict[str, str]]:
    start(folder)
    began = time.monotonic()
    subprocess.run(arguments, cwd=folder, check=True, stdout=subprocess.DEVNULL, env=_environment())
    seconds, expected = time.monotonic() - began, _trees(folder, writes)
    shutil.rmtree(folder)
    return seconds, expected


def _killed_until_it_ends(arguments: Sequence[str], folder: Path, seconds: float, rng: random.Random) -> int:
    """Kills the command at moments spread over its running time; returns the number of kills. Each round has at most
    eight, so it ends.
    """
    for kill in range(8):
        process = subprocess.Popen(
            arguments,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=_environment(),
        )
        try:
            process.wait(rng.uniform(0.1, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        else:
            return kill
    subprocess.run(arguments, cwd=folder, check=True, capture_output=True, env=_environment())
    return 8


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


def _trees(folder: Path, writes: Sequence[str]) -> dict[str, str]:
    """The contents of the folders that a command writes to, except for locks of killed runs, which are harmless."""
    from integrity import faults

    found = {}
    for name in writes:
        found |= {
            f"{name}/{path}": content
            for path, content in faults.tree(folder / name).items()
            if not path.endswith(".lock")
        }
    return found


def _tell(wrong: list[str], what: str) -> None:
    """Reports what is wrong at once, since the rest may take hours."""
    wrong.append(what)
    click.echo(f"\n{what}\n", err=True)


if __name__ == "__main__":
    main()
