"""The journal and the audit log of the box; nothing is recorded in this version."""
