"""`python -m gateway.cli`: the command where its script is not on the path (the service's guard starts it so)."""

from gateway.cli import main

main()
