"""DVCLive, through which DVC Studio and the VS Code extension show a training while it runs."""

from collections.abc import Mapping
from pathlib import Path

from merc.errors import BadSettings
from merc.training.following.engine.base import Followed, Follower


class DVCLive(Follower):
    """A folder of DVCLive next to a separate ``dvc.yaml`` that lists its metrics and plots, so that the project's own
    is not changed.

    No experiment is saved: that would commit the whole workspace for every seed, even for concurrent ones; ``dvc exp
    run`` does it for the run.

    Raises:
        BadSettings: if DVCLive finds a Git repository here that it cannot use, such as one without a commit.
    """

    def __init__(self, folder: Path, followed: Followed) -> None:
        from dvclive import Live
        from scmrepo.exceptions import SCMError

        try:
            self.live = Live(
                str(folder / "live"), dvcyaml=str(folder / "dvc.yaml"), save_dvc_exp=False, exp_message=str(followed)
            )
        except SCMError as error:
            raise BadSettings(
                f"follow: dvclive needs a Git repository with a commit ({error}): commit something, or leave out"
                " --follow dvclive"
            ) from error

    def epoch(self, step: int, values: Mapping[str, float]) -> None:
        """Passes them on as metrics of a step."""
        self.live.step = step
        for name, value in values.items():
            self.live.log_metric(name, value)
        self.live.sync()

    def end(self) -> None:
        """Sends the last step, and marks the training as finished."""
        self.live.end()
