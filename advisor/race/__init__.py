"""Which pair of batch and rate trains fastest in the user's own loop?"""
