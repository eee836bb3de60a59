"""Evaluations of one finished run, a file each. Every public class of the files here can be imported from this package.

from merc.evaluation.protocols import Calibration
"""

from merc import plugins

__getattr__, __dir__ = plugins.exports(__name__)
