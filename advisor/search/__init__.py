"""Measurements so far in, what to measure next out; pure functions only."""
