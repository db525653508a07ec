"""A repository as an OCI artifact of a registry (SPEC 12): pushed for sites, pulled to a folder, a medium then."""
