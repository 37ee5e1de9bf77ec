"""What do several ranks cost and gain?"""
