"""Locations of recipes, additions and named grids; separate from the code that reads them, so that their names can be
listed without loading torch.
"""

from merc.params import Shelf

RECIPES = Shelf("recipes", "merc.training.recipes", "recipe")
ADDITIONS = Shelf("additions", "merc.training.recipes.additions", "addition")
SWEEPS = Shelf("sweeps", "merc.training.recipes.sweeps", "sweep")
