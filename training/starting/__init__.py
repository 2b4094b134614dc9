"""From a command line to all that training starts from."""
