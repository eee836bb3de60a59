"""merc-pipeline: multimodal emotion recognition in conversations, from raw corpora to trained models."""

__version__ = "0.2.0"
