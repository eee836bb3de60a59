"""Models written the usual way, with which training.py compares ours."""
