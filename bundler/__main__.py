"""`python -m bundler` is `lifeboat`."""

from bundler.cli import main

main()
