"""How sharp is the loss?"""
