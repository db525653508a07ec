"""The program `lifeboat-appliance`. A command parses, makes one call, reports; the only click of this package."""

from __future__ import annotations

import click

from appliance.cli.backup import backup
from appliance.cli.check import check
from appliance.cli.doctor import doctor
from appliance.cli.image import image
from appliance.cli.install import install
from appliance.cli.pin import pin
from appliance.cli.rollback import rollback
from appliance.cli.seal import seal
from appliance.cli.secret import secret
from appliance.cli.serve import serve
from appliance.cli.status import status
from appliance.cli.token import token
from appliance.cli.unit import unit


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lifeboat-ai", prog_name="lifeboat-appliance")
def main() -> None:
    """Installs signed bundles on this box and answers from them when the cloud does not."""


main.add_command(backup)
main.add_command(check)
main.add_command(doctor)
main.add_command(image)
main.add_command(install)
main.add_command(pin)
main.add_command(rollback)
main.add_command(seal)
main.add_command(secret)
main.add_command(serve)
main.add_command(status)
main.add_command(token)
main.add_command(unit)
