"""A corpus, an encoder, a model and a loss that are added to merc-pipeline from outside."""
