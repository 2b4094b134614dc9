"""Scores of a trained model, and the files of official scripts."""
