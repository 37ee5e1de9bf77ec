"""Run the command line: `python -m advisor.cli`."""

from advisor.cli import main

main()
