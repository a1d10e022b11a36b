"""`python -m eventstore` is the command line."""

from eventstore.cli import main

main()
