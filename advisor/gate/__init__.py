"""Is this training slower, or larger, than it was? `check`, `baseline` and `compare`."""
