"""Frameworks that wrap models. Every public class of the files here can be imported from this package.

from merc.training.frameworks import DCLF
"""

from merc import plugins

__getattr__, __dir__ = plugins.exports(__name__)
