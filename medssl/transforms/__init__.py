"""TODO transforms."""
