"""Does the advised size hold over a longer run?"""
