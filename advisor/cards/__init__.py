"""Which card to train on: what a run trained, and what a trace says of cards not here."""
