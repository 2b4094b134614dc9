"""From a model and a stream to trained weights."""
