"""TensorBoard: ``tensorboard --logdir runs/.follow``."""

from collections.abc import Mapping
from pathlib import Path

from merc.training.following.engine.base import Followed, Follower


class TensorBoard(Follower):
    """A file of events with a scalar for each number of an epoch."""

    def __init__(self, folder: Path, followed: Followed) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(log_dir=str(folder))

    def epoch(self, step: int, values: Mapping[str, float]) -> None:
        """Adds them to the events, and flushes the file."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def end(self) -> None:
        """Closes the file."""
        self.writer.close()
