"""From which batch on are larger ones no faster?"""
