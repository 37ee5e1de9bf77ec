"""Hardware: what the machine offers, and why something is missing."""
