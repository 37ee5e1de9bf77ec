"""The child process."""
