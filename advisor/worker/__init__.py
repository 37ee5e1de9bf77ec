"""The child process: runs the user's code and reports what it saw. Nobody imports this package."""
