"""Does training show what was advised?"""
