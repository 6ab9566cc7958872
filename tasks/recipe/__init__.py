"""Recipes: what a run is told, checked at the door."""
