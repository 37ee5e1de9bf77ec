"""The user's own training script, run unchanged: another source of optimizer steps."""
