"""How noisy is the gradient?"""
