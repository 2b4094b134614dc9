"""What the data pipeline and the trainer agree on. Imports neither of them."""
