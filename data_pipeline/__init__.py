"""Raw annotations and pictures → validated shards. Run `python -m data_pipeline --help`."""
