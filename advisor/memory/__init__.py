"""Which micro-batch is the largest that fits?"""
