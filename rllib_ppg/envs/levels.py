"""Envs: what sets of Procgen's levels are called, wherever they are played, written or plotted."""

LEVELS = ("train", "test", "all")
"""The training's own, those that it never has, and every one that there is."""

UNSEEN = ("test", "all")
"""Those that stand for unseen ones; the first that is there counts."""

CUSTOM = "custom"
"""Levels that are known by their numbers only."""
