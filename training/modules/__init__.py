"""Building blocks of the model that know nothing of a batch."""
