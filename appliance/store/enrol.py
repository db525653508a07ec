"""First contact: the code on the site card opens `enroll.age`, which proves the root and holds the identity."""

from __future__ import annotations

import secrets as random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.store.seal import SiteSecrets
from bundler.files import read_limited
from bundler.format.errors import FileMissing, WrongKey
from bundler.format.limits import KEYS_BYTES
from bundler.format.paths import check
from bundler.format.site import open_enrolment

# Each try costs a scrypt of about a second: a medium with hundreds of sites wants --site.
_SITES_TRIED = 16


@dataclass(frozen=True)
class Enroller:
    """Opens the enrolment on a medium.

    Attributes:
        site: The site's name, or None to try every site on the medium.
        code: Asks for the site code; called once.
    """

    site: str | None
    code: Callable[[], str]

    def enrol(self, folder: Path) -> SiteSecrets:
        """Returns the site's secrets; nothing is stored yet.

        Raises:
            FileMissing: The medium holds no such site.
            WrongKey: The code opens none of the sites.
        """
        sites = self._candidates(folder)
        code = self.code()
        for site in sites:
            try:
                found = open_enrolment(read_limited(folder / "sites" / site / "enroll.age", KEYS_BYTES), code)
            except WrongKey:
                continue
            return SiteSecrets(
                site=found.site,
                msp=found.msp,
                repository=found.repository,
                root_sha256=found.root_sha256,
                identity=found.identity,
                report_secret=found.report_secret,
                version_secret=random.token_hex(32),
                recovery=found.recovery,
            )
        raise WrongKey(
            f"the site code opens none of: {', '.join(sites)}",
            "type it as on the site card; letter case does not matter",
        )

    def _candidates(self, folder: Path) -> list[str]:
        if self.site is not None:
            found = [check(self.site)]
        else:
            found = sorted(path.parent.name for path in folder.glob("sites/*/enroll.age"))
            found = [site for site in found if site != "recovery"] or found
        if not found or not (folder / "sites" / found[0] / "enroll.age").is_file():
            raise FileMissing(
                f"{folder} holds no site{f' {self.site!r}' if self.site else ''}", "name the repository's folder"
            )
        if len(found) > _SITES_TRIED:
            raise WrongKey(f"the medium holds {len(found)} sites", "name yours with --site")
        return found
