"""How do other precisions and compilation compare?"""
