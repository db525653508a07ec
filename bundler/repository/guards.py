"""What a publisher refuses to sign over: a repository that went back, a stale request, a clock that is behind."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from tuf.api.metadata import Targets

from bundler.files import FileLayer, read_limited, write_atomic
from bundler.format.errors import BadInput, FileMissing, TooOld
from bundler.format.trust.policy import POLICY, REPOSITORY, Policy, read_policy
from bundler.format.trust.verify import TrustedRepository

_CLOCK_SLACK = timedelta(hours=26)  # machines that disagree by a time zone


@dataclass(frozen=True)
class Mark:
    """The newest timestamp version that this home has signed, by repository, beside the ledgers."""

    home: Path
    layer: FileLayer

    def require(self, trusted: TrustedRepository, folder: Path) -> TrustedRepository:
        """Returns what was read, or raises TooOld where it lies behind the mark: a revocation would be undone."""
        path, found = self._path(trusted.policy.repository), trusted.remembered().timestamp_version
        try:
            least = int(read_limited(path, 32))
        except FileMissing:
            least = 0
        except ValueError as error:
            raise BadInput(f"{path} is damaged", "restore it from a backup of the home") from error
        if found < least:
            raise TooOld(
                f"{folder} is at timestamp {found}, this home has signed {least}",
                "bring the newest copy of the repository back",
            )
        return trusted

    def store(self, repository: str, version: int) -> None:
        write_atomic(self._path(repository), str(version).encode(), mode=0o600, layer=self.layer)

    def _path(self, repository: str) -> Path:
        return self.home / "ledgers" / f"{repository}.signed"


def check_clock(now: datetime, made: datetime | None) -> None:
    """Refuses a clock that went back, which would sign what boxes take for expired.

    Args:
        now: The clock.
        made: When the last timestamp was made, or None where a newer root has voided that.

    Raises:
        BadInput: The clock is behind.
    """
    if made is not None and made > now + _CLOCK_SLACK:
        raise BadInput(
            f"the clock says {now:%Y-%m-%d %H:%M}, the last signature says {made:%Y-%m-%d %H:%M}",
            "set the clock; if it was wrong before, replace the refresh key (docs/compromise.md)",
        )


def check_follows(fresh: Targets, policy: Policy, version: int) -> None:
    """Holds targets that were signed elsewhere against those in force: a request may be old, or another customer's.

    Raises:
        BadInput: They are another repository's, of another version than the next, or take something back.
    """
    asked = read_policy(fresh.unrecognized_fields.get(POLICY))
    if fresh.unrecognized_fields.get(REPOSITORY) != policy.repository or asked.repository != policy.repository:
        raise BadInput(f"these targets are of repository {asked.repository}, this one is {policy.repository}")
    if fresh.version != version + 1:
        raise BadInput(
            f"these targets are version {fresh.version}, the repository has {version}", "make the request anew"
        )
    if (asked.epoch, asked.min_sequence) < (policy.epoch, policy.min_sequence):
        raise BadInput("these targets take back an epoch or a least sequence")
    if lost := set(policy.revoked) - set(asked.revoked):
        raise BadInput(f"these targets take back the revocation of {', '.join(sorted(lost))}")
