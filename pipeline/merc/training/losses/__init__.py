"""Terms of the training objective. Every public class of the files here can be imported from this package.

from merc.training.losses import InterDialogueLoss
"""

from merc import plugins

__getattr__, __dir__ = plugins.exports(__name__)
