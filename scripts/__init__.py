"""Checks of the repository itself, run by scripts/check."""
