"""Bounds on everything that is read from a medium: checked before memory is taken."""

from __future__ import annotations

KIB, MIB, GIB = 2**10, 2**20, 2**30

# TUF metadata: the defaults of python-tuf's client (ngclient/config.py).
ROOT_BYTES = 512_000
TIMESTAMP_BYTES = 16_384
SNAPSHOT_BYTES = 2_000_000
TARGETS_BYTES = 5_000_000
ROOT_ROTATIONS = 256

DESCRIPTOR_BYTES = 4 * MIB
INDEX_BYTES = 256 * MIB
KEYS_BYTES = 4 * MIB
SETTINGS_BYTES = 1 * MIB

VOLUME_BYTES = 1 * GIB  # default size of a full volume's plaintext
VOLUME_BYTES_MAX = 2 * GIB - 64 * MIB  # FAT32 holds files under 4 GiB; older tools trip at 2 GiB
CHUNK_BYTES = 4 * MIB  # weights
CHUNK_BYTES_SMALL = 512 * KIB  # databases, text, vectors
CHUNK_BYTES_MAX = 16 * MIB

ASSETS = 100_000
VOLUMES = 65_536
CHUNKS = 8_000_000
JSON_DEPTH = 32
PATH_BYTES = 512
PATH_DEPTH = 16
