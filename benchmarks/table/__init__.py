"""The trainings of the memory table, and loops that run them."""
