"""Models written the usual way, which training.py measures ours against."""
