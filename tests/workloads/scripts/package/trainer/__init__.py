"""A package that is trained by `python -m trainer.train`."""
