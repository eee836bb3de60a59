"""``merc-shards push``: shards to a repository of the Hugging Face hub."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

import click

from merc import extras, log
from merc.command_line import PARAMS, echo, exiting
from merc.commands.sharing import REPOSITORY, confirm, pushed, pushing


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.argument("folder", type=click.Path(path_type=Path))
@REPOSITORY
@click.option("--no-text", is_flag=True, help="Push a copy without the transcripts. The text vectors stay.")
@pushing
@PARAMS
def command(
    folder: Path, repository: str, no_text: bool, private: bool | None, yes: bool, params_file: Path | None
) -> None:
    """Push the shards in FOLDER to the dataset OWNER/NAME on the Hugging Face hub, with their card.

    They are checked first, as by `merc-shards validate`. Everything is uploaded as one commit, which is printed:
    nothing is visible before it is complete. An interrupted push resumes with the same command, and sends only what is
    missing. Files in FOLDER that do not belong to shards are not sent.

    Shards that must not be passed on, according to their card, are refused, unless the repository is private and
    --yes-i-may confirms that everyone with access to it may have them. A copy without transcripts (--no-text) needs
    that confirmation, too. Log in with `hf auth login`, or set HF_TOKEN.

    \b
    Examples:
      merc-shards push features/demo-meld/shards ann/demo-shards --public
      merc-shards push features/meld/shards ann/meld-shards --yes-i-may            private, for people who have MELD
      merc-shards push features/meld/shards ann/meld-vectors --no-text

    \b
    Exit codes:
      0  done                                    4  no shards, or shards with problems
      2  usage, or they must not be passed on    6  the hub refuses, or does not answer
    """
    log.set_up()
    with exiting(), ExitStack() as stack:
        extras.need("hub", "merc-shards push")
        from merc.exchange import Repository
        from merc.params import Params
        from merc.shards.circulation import sharing
        from merc.shards.config import Config
        from merc.shards.format import reader

        to = Repository(repository, "dataset")
        info = reader.info(folder)
        confirm(
            sharing.question(
                {**info, "transcripts": info.get("transcripts", True) and not no_text}, folder, public=private is False
            ),
            yes=yes,
        )
        if no_text and info.get("transcripts", True):
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="merc-push-")))
            folder = sharing.without_transcripts(folder, scratch, Params.load(params_file).fill("shards", Config))
        for line in pushed(to, sharing.push(folder, to, private=private), f"merc-shards pull {repository} FOLDER"):
            echo(line)
