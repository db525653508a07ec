"""Profiles: `profiles/*.toml` to a frozen `Profile`, all issues at once; compiled to `format/service`."""
