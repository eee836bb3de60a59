"""``merc-train push`` and ``pull``: trained models to a repository of the Hugging Face hub, and back."""

from pathlib import Path

import click

from merc import extras, log
from merc.command_line import echo, exiting
from merc.commands.sharing import REPOSITORY, confirm, pulled, pulling, pushed, pushing


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.argument("run", type=click.Path(path_type=Path))
@REPOSITORY
@pushing
def push(run: Path, repository: str, private: bool | None, yes: bool) -> None:
    """Push the models of RUN, such as runs/meld/baseline, to the model OWNER/NAME on the Hugging Face hub.

    The weights of all seeds, the scores and a card are uploaded as one commit, which is printed; predictions are not
    uploaded. An interrupted push resumes with the same command, and sends only what is missing. A public repository
    needs --yes-i-may: the models were trained on a corpus with its own licence.

    \b
    Examples:
      merc-train push runs/demo-meld/baseline ann/demo-baseline
      merc-train push runs/meld/baseline ann/meld-baseline --public --yes-i-may
    """
    log.set_up()
    with exiting():
        extras.need("train", "merc-train push")
        extras.need("hub", "merc-train push")
        from merc.exchange import Repository
        from merc.training import sharing

        to = Repository(repository, "model")
        dataset = sharing.results_of(run)["dataset"]
        asked = (
            f"The models of {run} were trained on the corpus {dataset}, whose licence says whether they may be"
            " published. May you publish them?"
        )
        confirm(asked if private is False else "", yes=yes)
        for line in pushed(to, sharing.push(run, to, private=private), f"merc-train pull {repository} FOLDER"):
            echo(line)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@pulling
def pull(repository: str, out: Path, revision: str | None, overwrite: bool, wait: bool) -> None:
    """Pull models from the model OWNER/NAME on the Hugging Face hub into OUT, to label dialogues with --predict.

    Only weights in safetensors format, scores and the card are downloaded. Sizes and hashes are compared with what the
    hub lists, and each model is built from its file; OUT appears, complete, only if there are no problems. An
    interrupted pull resumes with the same command.

    \b
    Example:
      merc-train pull ann/demo-baseline baseline
    """
    log.set_up()
    with exiting():
        extras.need("train", "merc-train pull")
        extras.need("hub", "merc-train pull")
        from merc.exchange import Repository
        from merc.training.sharing import pull as pull_models

        made, models = pull_models(Repository(repository, "model"), out, revision, overwrite=overwrite, wait=wait)
        for path in models:
            echo(path)
        echo(pulled(repository, made))
