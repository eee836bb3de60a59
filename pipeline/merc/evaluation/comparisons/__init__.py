"""Comparisons of all finished runs of a dataset, a file each. Every public class of the files here can be imported from
this package.

from merc.evaluation.comparisons import Significance
"""

from merc import plugins

__getattr__, __dir__ = plugins.exports(__name__)
