"""The user's code: what the model file means, and one training step of it."""
