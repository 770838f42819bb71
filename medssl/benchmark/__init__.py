"""TODO benchmark."""
