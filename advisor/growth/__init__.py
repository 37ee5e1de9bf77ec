"""Whether a batch that grows saves time: it is trained beside the constant batch."""
