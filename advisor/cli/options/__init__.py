"""The options of the commands: those of one command by its name, the others by what they share."""
