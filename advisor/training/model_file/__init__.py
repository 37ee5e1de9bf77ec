"""The user's model file, understood."""
