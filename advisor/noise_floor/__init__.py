"""How far does this machine differ from itself?"""
