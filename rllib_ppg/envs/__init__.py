"""Envs: environments as arrays, many games stepped in one call."""
