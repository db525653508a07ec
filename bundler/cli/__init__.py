"""The program `lifeboat`. A command parses, makes one call, reports; the only click of this package."""

from __future__ import annotations

import click

from bundler.cli.build import build, plan
from bundler.cli.cache import cache
from bundler.cli.copy import copy
from bundler.cli.faq import faq
from bundler.cli.init import init
from bundler.cli.inspect import diff, export, inspect, verify
from bundler.cli.keys import keys
from bundler.cli.lock import lock
from bundler.cli.policy import policy
from bundler.cli.profile import profile
from bundler.cli.prune import prune
from bundler.cli.runtime import runtime
from bundler.cli.site import site


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lifeboat-ai", prog_name="lifeboat")
def main() -> None:
    """Snapshots models, documents and FAQs into signed, encrypted bundles for boxes that work offline."""


for command in (
    build,
    cache,
    copy,
    diff,
    export,
    faq,
    init,
    inspect,
    keys,
    lock,
    plan,
    policy,
    profile,
    prune,
    runtime,
    site,
    verify,
):
    main.add_command(command)
