"""Measurements in, fitted laws and conclusions out; pure functions only."""
