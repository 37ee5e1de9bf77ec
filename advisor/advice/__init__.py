"""Which batch, and with it which rate?"""
