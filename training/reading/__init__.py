"""From the bytes of tars to checked arrays and records."""
