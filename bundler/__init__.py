"""The builder: `build(plan, sources, repository)`. The program is `lifeboat`."""

__version__ = "0.1.0"
