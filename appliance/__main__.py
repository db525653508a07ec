"""`python -m appliance` is `lifeboat-appliance`."""

from appliance.cli import main

main()
