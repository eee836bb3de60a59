"""DVC stage ``adapted``: the fine-tunings on a dataset, in ``features/<dataset>/adapted/<modality>/list.json``.

The extraction depends on that folder, so that it runs after every fine-tuning on the same dataset and is stale when one
has been redone; the list exists even if nothing is fine-tuned.
"""

from typing import Any

from merc import files
from merc.command_line import stage_command
from merc.job import RunOptions
from merc.layout import Layout
from merc.params import Params

MODALITIES = ("text", "audio")
NAME = "list.json"


def write_lists(params: Params, layout: Layout) -> None:
    """Writes both lists, name of the run → encoder and settings, from ``adapt_text`` and ``adapt_audio`` in
    params.yaml.
    """
    for modality in MODALITIES:
        runs: dict[str, dict[str, Any]] = params.get(f"adapt_{modality}") or {}
        of_dataset = {
            name: {key: run[key] for key in ("encoder", "settings")}
            for name, run in runs.items()
            if run["dataset"] == layout.dataset
        }
        files.write_json(layout.adapted(modality, NAME), of_dataset)


@stage_command
def main(params: Params, layout: Layout, run: RunOptions) -> None:
    """Lists the fine-tunings on a dataset."""
    write_lists(params, layout)


if __name__ == "__main__":
    main()
