"""DVC stage ``card``: the dataset card, ``croissant.json`` and the checksums of finished shards and trajectories."""

from merc.command_line import stage_command
from merc.job import RunOptions
from merc.layout import Layout
from merc.params import Params
from merc.shards.card.writing import write_card


@stage_command
def main(params: Params, layout: Layout, run: RunOptions) -> None:
    """Shards and trajectories → the dataset card and checksums."""
    write_card(layout.shards)


if __name__ == "__main__":
    main()
