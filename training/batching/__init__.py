"""From shards to batches: which pictures, texts and masks, and their features."""
