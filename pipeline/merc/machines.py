"""How devices and clusters are named in options and settings. Imports nothing, so that ``--help`` is fast."""

import re

DEVICES = re.compile(r"auto|cpu|cuda(:[0-9]+)?")
"""Valid values of ``--device``."""
ADDRESSES = re.compile(r"auto|local|[^:/\s]+:[0-9]{1,5}|\[[0-9a-fA-F:]+\]:[0-9]{1,5}")
"""Valid values of ``--address``."""
