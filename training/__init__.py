"""Shards → fusion heads on frozen encoders. Run `python -m training.fit --help`."""
