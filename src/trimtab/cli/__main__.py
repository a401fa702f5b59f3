"""`python -m trimtab.cli`."""

from trimtab.cli.main import main

main()
