"""Losses, and what they compare."""
