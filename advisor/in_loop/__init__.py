"""What a training takes into its own loop: its noise scale as it goes, and a batch that follows."""
