"""The parent's side of the process boundary: one fresh worker process for each task."""
