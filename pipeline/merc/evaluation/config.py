"""Settings of the evaluation: the block ``evaluation``, which has a block for each evaluation as well."""

from merc.params import Settings


class Config(Settings):
    """Which evaluations are made."""

    evaluations: tuple[str, ...] = ()
    """Names of files in ``evaluation/protocols`` and ``evaluation/comparisons``, run if the command names none; empty:
    all.
    """
