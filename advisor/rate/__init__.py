"""Which learning rate trains?"""
