"""Bounds on everything that is read from a medium: checked before memory is taken."""

from __future__ import annotations

from bundler.format.errors import BadInput

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
WHOLE_ASSET_BYTES = 8 * GIB  # what is read into memory at once: an ONNX model is the largest

VOLUME_BYTES = 1 * GIB  # default size of a full volume's plaintext
VOLUME_BYTES_MAX = 2 * GIB - 64 * MIB  # FAT32 holds files under 4 GiB; older tools trip at 2 GiB
VOLUME_FILE_BYTES = 2 * GIB  # such a volume encrypted: age adds 16 bytes to every 64 KiB
CHUNK_BYTES = 4 * MIB  # weights
CHUNK_BYTES_SMALL = 512 * KIB  # databases, text, vectors
CHUNK_BYTES_MAX = 16 * MIB

ASSETS = 100_000
VOLUMES = 16_384  # about 250 bytes each in a descriptor
CHUNKS = 2_000_000  # about 120 bytes each in an index
JSON_DEPTH = 32
INTEGER_DIGITS = 20  # of a JSON integer, its sign included: what 64 bits hold
PATH_BYTES = 512
PATH_DEPTH = 16


def bounded(data: bytes, limit_bytes: int, what: str) -> bytes:
    """Returns `data`, which is about to be written; raises BadInput where no reader would take it."""
    if len(data) > limit_bytes:
        raise BadInput(f"{what} would have {len(data)} bytes, at most {limit_bytes} are read", "split the profile")
    return data
