"""Shell completion: names of datasets, encoders, recipes, models, losses and similarities, with those of the user's
params.yaml. Nothing here loads torch.

A completer that cannot read the settings completes nothing: pressing the tab key must not show an error.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class

from merc.errors import PipelineError
from merc.layout import MODALITIES, with_shards

if TYPE_CHECKING:
    from merc.params import Params

Completer = Callable[[click.Context, click.Parameter, str], list[str]]
_BREAKS = ("=", "@", ":")


def _completer(names: Callable[[click.Context, str], Iterable[str]]) -> Completer:
    """The names that start with what was typed; ``names`` gets the context and what was typed."""

    def complete(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
        try:
            return [name for name in names(context, incomplete) if name.startswith(incomplete)]
        except PipelineError:
            return []

    return complete


def _params(context: click.Context) -> "Params":
    from merc.params import Params

    return Params.load(context.params.get("params_file"))


def _datasets(context: click.Context, _incomplete: str) -> list[str]:
    from merc.corpora.stage import DATASETS

    return DATASETS.names(_params(context))


def _with_shards(context: click.Context, incomplete: str) -> list[str]:
    return with_shards(context.params.get("out") or Path("features")) or _datasets(context, incomplete)


def _encoders(context: click.Context, _incomplete: str) -> list[str]:
    from merc.encoders.engine import registry

    params = _params(context)
    return [f"{modality}={name}" for modality in MODALITIES for name in registry.names(params, modality)]


def _models(context: click.Context, incomplete: str) -> list[str]:
    return [*_encoders(context, incomplete), "media=yunet", "media=light_asd"]


def _encoder_names(*modalities: str) -> Callable[[click.Context, str], list[str]]:
    def names(context: click.Context, _incomplete: str) -> list[str]:
        from merc.encoders.engine import registry

        params = _params(context)
        return [name for modality in modalities for name in registry.names(params, modality)]

    return names


def _presets(context: click.Context, _incomplete: str) -> list[str]:
    return sorted(_params(context).block("presets"))


def _recipes(context: click.Context, incomplete: str) -> list[str]:
    """Recipes; after a plus sign additions, after an at sign modalities."""
    from merc.training.recipes.shelves import ADDITIONS, RECIPES

    if "@" in incomplete:
        before, sign, last = (
            incomplete.rpartition("-") if "-" in incomplete.partition("@")[2] else incomplete.partition("@")
        )
        there = incomplete.partition("@")[2].split("-")[:-1]
        return [
            f"{before}{sign}{modality}"
            for modality in MODALITIES
            if modality not in there and modality.startswith(last)
        ]
    if "+" in incomplete:
        before = incomplete.rpartition("+")[0]
        return [f"{before}+{name}" for name in ADDITIONS.names(_params(context))]
    return RECIPES.names(_params(context))


def _sweeps(context: click.Context, _incomplete: str) -> list[str]:
    from merc.training.recipes.shelves import SWEEPS

    return SWEEPS.names(_params(context))


def _similarities(_context: click.Context, _incomplete: str) -> list[str]:
    from merc.trajectories.config import Config

    return sorted(Config().similarities)


def _modalities(_context: click.Context, incomplete: str) -> list[str]:
    """A comma-separated list without repetitions."""
    before, comma, _ = incomplete.rpartition(",")
    return [f"{before}{comma}{modality}" for modality in MODALITIES if modality not in before.split(",")]


def plugins_of(package: str) -> Completer:
    """Names of the plug-ins of a package."""

    def names(_context: click.Context, _incomplete: str) -> list[str]:
        from merc import plugins

        return plugins.names(package)

    return _completer(names)


datasets, shards_datasets, presets, modalities = map(_completer, (_datasets, _with_shards, _presets, _modalities))
encoders, models, recipes, sweeps, similarities = map(
    _completer, (_encoders, _models, _recipes, _sweeps, _similarities)
)
text_encoders, adaptable_encoders = _completer(_encoder_names("text")), _completer(_encoder_names("text", "audio"))


class _Bash(BashComplete):
    """Bash splits words at ``=``, ``@`` and ``:``, and replaces what comes after the last of them; for us,
    ``text=minilm`` is one word.
    """

    name = "bash"
    _before = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        args, incomplete = super().get_completion_args()
        words = _joined([*args, incomplete])
        at = max(words[-1].rfind(one) for one in _BREAKS)
        self._before = words[-1][: at + 1]
        return words[:-1], words[-1]

    def format_completion(self, item: CompletionItem) -> str:
        value = str(item.value)
        return f"{item.type},{value.removeprefix(self._before) if self._before else value}"


def _joined(words: list[str]) -> list[str]:
    """The words as they were typed.

    >>> _joined(["--encoder", "text", "=", "mini", "--dataset", "me"])
    ['--encoder', 'text=mini', '--dataset', 'me']
    """
    found: list[str] = []
    glue = False
    for word in words:
        is_break = word in _BREAKS
        if found and (glue or is_break):
            found[-1] += word
        else:
            found.append(word)
        glue = is_break
    return found


add_completion_class(_Bash)
