"""Fusion models over dialogues. Every public class of the files here can be imported from this package.

from merc.training.models import MMGCN, MERCModel
"""

from merc import plugins

__getattr__, __dir__ = plugins.exports(__name__)
