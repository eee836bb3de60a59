"""``merc-shards pull``: shards from a repository of the Hugging Face hub."""

from pathlib import Path

import click

from merc import extras, log
from merc.command_line import echo, exiting
from merc.commands.sharing import pulled, pulling


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@pulling
def command(repository: str, out: Path, revision: str | None, overwrite: bool, wait: bool) -> None:
    """Pull shards from the dataset OWNER/NAME on the Hugging Face hub into OUT.

    Only files that belong to shards are downloaded. Sizes and hashes are compared with what the hub lists and with
    meta/manifest.json, and the shards are checked as `merc-shards validate` does; OUT appears, complete, only if there
    are no problems. An interrupted pull resumes with the same command.

    \b
    Examples:
      merc-shards pull ann/demo-shards features/demo-meld/shards
      merc-shards pull ann/demo-shards demo --revision 5f0c1b2e9a7d4c3b8f6e1d2c3b4a59687f0e1d2c

    \b
    Exit codes:
      0  done                                          5  something is already at OUT
      1  unexpected, or OUT cannot be written          6  the hub refuses, or does not answer
      2  usage                                         7  another process writes to OUT
      4  no shards there, or shards with problems
    """
    log.set_up()
    with exiting():
        extras.need("hub", "merc-shards pull")
        from merc.exchange import Repository
        from merc.shards.circulation.sharing import pull

        made, report = pull(Repository(repository, "dataset"), out, revision, overwrite=overwrite, wait=wait)
        echo(
            f"{out}: {report.dialogues} dialogues, {report.utterances} utterances, {len(made.names)} files, nothing"
            " wrong"
        )
        echo(pulled(repository, made))
