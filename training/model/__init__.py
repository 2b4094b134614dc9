"""Trunk and heads together, and what each task needs of them."""
