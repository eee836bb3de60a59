"""From names to evaluations with their settings: the block ``evaluation`` of params.yaml, looked up and checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from merc import plugins
from merc.errors import BadSettings, nearest
from merc.evaluation.config import Config
from merc.evaluation.engine.base import Comparison, Protocol
from merc.params import Laid, Params

PROTOCOLS = "merc.evaluation.protocols"
COMPARISONS = "merc.evaluation.comparisons"
BLOCK = "evaluation"


@dataclass(frozen=True)
class Chosen:
    """Evaluations by name.

    Attributes:
        protocols: evaluations of each run. comparisons: comparisons of all runs of a dataset.
    """

    protocols: Mapping[str, Protocol]
    comparisons: Mapping[str, Comparison]

    def settings(self) -> dict[str, Any]:
        """Settings of each, JSON-able, under their keys in params.yaml."""
        return {
            name: one.config.model_dump(mode="json")
            for name, one in (*self.protocols.items(), *self.comparisons.items())
        }


def choose(params: Params, names: Sequence[str] = ()) -> Chosen:
    """Looks evaluations up.

    Args:
        params: the user's settings, which override the defaults.
        names: names of the requested ones; empty: those in ``evaluation.evaluations``, or all.

    Raises:
        BadSettings: if a name or a key is unknown (the message gives the nearest), or a value is invalid.
    """
    there: dict[str, list[str]] = {
        package: plugins.names(package, base) for package, base in ((PROTOCOLS, Protocol), (COMPARISONS, Comparison))
    }
    known = [*there[PROTOCOLS], *there[COMPARISONS]]
    own = _own(params, known)
    wanted = tuple(names) or own.evaluations or known
    for name in wanted:
        if name not in known:
            raise BadSettings(f"no evaluation {name!r}; {nearest(name, known)}")
    return Chosen(
        {name: _made(params, PROTOCOLS, name, Protocol) for name in there[PROTOCOLS] if name in wanted},
        {name: _made(params, COMPARISONS, name, Comparison) for name in there[COMPARISONS] if name in wanted},
    )


def _own(params: Params, known: Sequence[str]) -> Config:
    """The block without the blocks of the evaluations."""
    laid, fields = params.read(BLOCK), list(Config.model_fields)
    for key in laid.tree:
        if key not in fields and key not in known:
            raise BadSettings(f"settings: unknown key {BLOCK}.{key}; {nearest(key, [*fields, *known])}")
    own = Laid(
        {key: value for key, value in laid.tree.items() if key in fields},
        {key: origin for key, origin in laid.origins.items() if key in fields},
    )
    return params.filled(own, Config, BLOCK)


def _made(params: Params, package: str, name: str, base: type[Any]) -> Any:
    kind = plugins.load(package, name, base)
    return kind(params.fill(f"{BLOCK}.{name}", kind.Config))
