"""CPU seconds of every command's ``--help``, compared with an empty Python with click and ``dvc --help``; writes a
dated file next to this one.

    python benchmarks/start_up.py

Each is run --repetitions times, alternating; the minimum of each is given: other load makes a process slower, never
faster.
"""

import datetime
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from _tables import put_dated

# How the scripts that pip installs start.
_RUN = "import sys; from merc.commands.{module} import main; sys.exit(main(prog_name='merc-{module}'))"
_MODULES = ("extract", "shards", "train", "report", "adapt")


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """What is run: a name, and the arguments."""
    yield "python -c 'import click'", [sys.executable, "-c", "import click"]
    yield "dvc --help", [str(Path(sys.executable).with_name("dvc")), "--help"]
    for module in _MODULES:
        main = __import__(f"merc.commands.{module}", fromlist=["main"]).main
        below = main.list_commands(click.Context(main)) if isinstance(main, click.Group) else []
        for words in ([], *([name] for name in below)):
            yield (
                " ".join([f"merc-{module}", *words, "--help"]),
                [sys.executable, "-c", _RUN.format(module=module), *words, "--help"],
            )


def cpu_seconds(command: list[str]) -> float:
    """CPU seconds of a process and its children, from start to end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measured(repetitions: int) -> Mapping[str, float]:
    found: dict[str, float] = {}
    for _ in range(repetitions):
        for name, command in command_lines():
            found[name] = min(cpu_seconds(command), found.get(name, float("inf")))
    return found


@click.command()
@click.option("--repetitions", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Default: start_up_<date>.md beside this file.")
def main(repetitions: int, out: Path | None) -> None:
    """Measures --help of every command."""
    lines = [
        f"# Start-up ({datetime.date.today()})",
        "",
        f"    python benchmarks/start_up.py --repetitions {repetitions}",
        "",
        f"CPU seconds, the least of {repetitions}; {platform.machine()}, Python {platform.python_version()},",
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.",
        "",
        "| command | CPU seconds |",
        "| --- | ---: |",
    ]
    lines += [f"| `{name}` | {seconds:.3f} |" for name, seconds in measured(repetitions).items()]
    put_dated(__file__, lines, out)


if __name__ == "__main__":
    main()
