"""Chaos runs: something real is taken away, and what was promised is counted."""
