"""One row per dialogue with all modalities side by side. Every public class of the files here can be imported from this
package.

from merc.shards import Dialogues
"""

from merc import plugins

__getattr__, __dir__ = plugins.exports(__name__)
