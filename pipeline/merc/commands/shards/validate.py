"""``merc-shards validate``: whether shards satisfy their contract."""

import sys
from dataclasses import asdict
from pathlib import Path

import click

from merc import log
from merc.command_line import echo, echo_json, exiting


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per problem, one per line.")
def command(folder: Path, as_json: bool) -> None:
    """Check the shards in FOLDER, and list all problems.

    Checks columns and types, lengths of lists, ids, splits, speakers, labels, vectors (finite; absent if and
    only if all zeros and a failure row says why), failure rows, trajectories and neighbours, statistics, and the hashes
    in meta/manifest.json.

    \b
    Exit codes:
      0  no problems
      1  problems; one line each on stdout, at most 20 of a kind
      4  no shards, of another schema version, or a file that cannot be read
    """
    from merc.shards.checks.problems import KINDS
    from merc.shards.validate import validate

    log.set_up()
    with exiting():
        report = validate(folder)
        for problem in report.problems.listed:
            if as_json:
                echo_json(asdict(problem))
            else:
                echo(problem)
        counts = report.problems.counts
        seen = f"{report.dialogues} dialogues, {report.utterances} utterances, {report.files} files"
        if not as_json:
            for kind in (kind for kind in KINDS if counts[kind]):
                echo(f"{counts[kind]:>8}  {kind}: {KINDS[kind]}")
            echo(f"{folder}: {seen}, {f'{counts.total()} problems' if counts.total() else 'nothing wrong'}")
        sys.exit(report.exit_code)
