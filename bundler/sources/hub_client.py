"""Asks a hub through huggingface-hub: what a revision stands for, what a commit holds, and the bytes of a file.

Of that client its API, its file metadata and its session are used, not `hf_hub_download`: that begins a killed download
anew, falls back to what its cache holds where the hub fails, and hashes nothing (huggingface_hub#3643, #3007).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any, TypeVar

from huggingface_hub import HfApi, get_hf_file_metadata, get_session, hf_hub_url
from huggingface_hub import errors as hub_errors
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import hf_raise_for_status

from bundler.format.errors import SourceFailed
from bundler.format.secrets import masked
from bundler.patience import Passing
from bundler.silence import BYTES_S
from bundler.sources.hub_listing import Entry, Listing, card_licence, is_commit, make_listing
from bundler.sources.hub_part import PartFile
from bundler.sources.hub_patience import PATIENCE, PROGRESS_BYTES, HubPatience
from bundler.sources.hub_session import IS_FILE, hub_session, transport_errors
from bundler.sources.hub_settings import HubSettings, origin
from bundler.sources.hub_wire import one_step
from bundler.sources.source import UNRESOLVED

KEPT = "keep one with `lifeboat keys token set`"
TOKEN_HINT = f"set HF_TOKEN to a token of an account that may read it, or {KEPT}"
T = TypeVar("T")


class HubClient:
    """A hub, for the length of `hub_client`."""

    def __init__(self, settings: HubSettings, patience: HubPatience) -> None:
        self._settings, self._patience = settings, patience
        # A token that lies in the home is of the public hub, and HF_ENDPOINT may be another.
        self._token: str | bool = settings.token or False
        self._api = HfApi(endpoint=settings.endpoint, token=self._token)

    def commit(self, repository: str, revision: str) -> str:
        """Returns the commit that a branch, a tag or UNRESOLVED stands for now.

        Raises:
            SourceFailed: The hub cannot be asked or does not know it.
        """
        return self._info(repository, None if revision == UNRESOLVED else revision)[0]

    def listing(self, repository: str, commit: str) -> Listing:
        """Returns what a commit holds, page by page; raises SourceFailed as `commit`, or where it makes no sense."""
        where = f"{repository}@{commit}"

        def listed() -> Listing:
            found, licence = self._info(repository, commit)
            if found != commit:
                raise SourceFailed(f"{where}: the hub answers with commit {found}")
            return make_listing(repository, commit, licence, rows())

        def rows() -> Iterator[tuple[str, object, object, object]]:
            for row in self._api.list_repo_tree(repository, recursive=True, revision=commit):
                if isinstance(row, RepoFile):
                    lfs = row.lfs
                    yield (
                        row.path,
                        row.size if lfs is None else lfs.size,
                        None if lfs is None else lfs.sha256,
                        row.blob_id,
                    )

        return self._patiently(where, listed)

    def _info(self, repository: str, revision: str | None) -> tuple[str, str]:
        """Returns the commit and the licence that the card declares."""
        where = f"{repository}@{revision}" if revision else f"{repository} (its default branch)"

        def asked() -> tuple[str, str]:
            found = self._api.model_info(repository, revision=revision, expand=["sha", "cardData"])
            card: Any = found.card_data
            named = getattr(card, "license", None), getattr(card, "license_name", None)
            if found.sha is None or not is_commit(found.sha):
                raise SourceFailed(f"{where}: the hub names the commit {str(found.sha)[:80]!r}, which is none")
            return found.sha, card_licence(*named)

        return self._patiently(where, asked)

    def pull(self, repository: str, commit: str, entry: Entry, part: PartFile, heard: Callable[[int], None]) -> None:
        """Adds to `part` what it lacks of the file; whether it is the right one is for the caller to say.

        Raises:
            SourceFailed: The hub cannot deliver it, or announces another file than it lists.
        """
        self._patiently(
            f"{repository}@{commit}/{entry.path}",
            lambda: self._pull_once(repository, commit, entry, part, heard),
            lambda: part.digests.length_bytes,
        )

    def _pull_once(
        self, repository: str, commit: str, entry: Entry, part: PartFile, heard: Callable[[int], None]
    ) -> None:
        if part.digests.length_bytes == entry.length_bytes:
            return
        url = self._location(repository, commit, entry)
        # A signed address is opened by its signature; ours alone takes the token.
        own = bool(self._settings.token) and self._is_own(url)
        headers = {"Authorization": f"Bearer {self._settings.token}"} if own else {}
        start = part.digests.length_bytes
        if start:
            headers["Range"] = f"bytes={start}-"
        with get_session().stream("GET", url, headers=headers, extensions={IS_FILE: True}) as response:
            if response.status_code in (401, 403, 404, 410) and not self._is_own(str(response.url)):
                raise Passing(f"{response.url.host} answered {response.status_code}: its signed address may be over")
            if response.status_code == 416 or (start and not _continues(response, start)):
                part.restart()
            if response.status_code == 416:
                raise Passing(f"{response.url.host} has no byte {start} of it")
            hf_raise_for_status(response)
            self._take(response, entry, part, heard)

    def _location(self, repository: str, commit: str, entry: Entry) -> str:
        """Asks where the file lies, and whether it is still the one that was listed."""
        url = hf_hub_url(repository, entry.path, revision=commit, endpoint=self._settings.endpoint)
        told = get_hf_file_metadata(url, token=self._token, endpoint=self._settings.endpoint)
        if told.commit_hash != commit or told.etag != entry.digest or told.size not in (None, entry.length_bytes):
            raise SourceFailed(
                f"{repository}@{commit}/{entry.path}: listed with {entry.kind} {entry.digest} and {entry.length_bytes}"
                f" bytes, announced with {str(told.etag)[:80]!r} and {told.size} bytes of commit {told.commit_hash}",
                "the hub contradicts itself: try again later, or another mirror",
            )
        return told.location

    def _is_own(self, url: str) -> bool:
        try:
            return origin(url) == self._settings.origin
        except ValueError as error:
            raise SourceFailed(f"the hub leads to where a hub does not lead: {masked(url)[:200]!r}") from error

    def _take(self, response: Any, entry: Entry, part: PartFile, heard: Callable[[int], None]) -> None:
        patience, host = self._patience, response.url.host
        since, before = time.monotonic(), part.digests.length_bytes
        with transport_errors(host), patience.silence(host, BYTES_S) as silence:
            for piece in response.iter_raw():
                silence.heard()
                came = time.monotonic()
                with silence.apart():  # a disk that stalls is not the hub
                    part.write(piece)
                    heard(len(piece))
                if came - since > patience.slow_s:
                    if part.digests.length_bytes - before < patience.slow_bytes:
                        raise Passing(f"{host} sends less than {patience.slow_bytes} bytes in {patience.slow_s:.0f} s")
                    since, before = came, part.digests.length_bytes
                since += time.monotonic() - came
        if part.digests.length_bytes < entry.length_bytes:
            raise Passing(f"{host} ended after {part.digests.length_bytes} of {entry.length_bytes} bytes")

    def _patiently(self, what: str, step: Callable[[], T], reached: Callable[[], int] = lambda: 0) -> T:
        """Runs a step until it works; failures that may pass are tried again, and counted anew where it got on."""
        before = reached()

        def tried() -> T:
            nonlocal before
            before = reached()
            with one_step(), transport_errors(self._settings.origin[1]), _told(what):
                return step()

        hint = "what was fetched is kept: try again later, or name a mirror by HF_ENDPOINT"
        return self._patience.keep(what, tried, hint, lambda: reached() - before >= PROGRESS_BYTES)


@contextmanager
def hub_client(settings: HubSettings, patience: HubPatience = PATIENCE) -> Iterator[HubClient]:
    """Opens a hub for the length of the block."""
    with hub_session(settings, patience):
        yield HubClient(settings, patience)


def _continues(response: Any, start: int) -> bool:
    told = response.headers.get("Content-Range", "")
    return bool(response.status_code == 206 and told.startswith(f"bytes {start}-"))


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Says in words what the client's library raises."""
    try:
        yield
    except hub_errors.GatedRepoError as error:
        raise SourceFailed(
            f"{what}: the repository is gated", f"accept its terms on the hub, then {TOKEN_HINT}"
        ) from error
    except hub_errors.RevisionNotFoundError as error:
        raise SourceFailed(f"{what}: the hub knows no such revision", "check the branch, tag or commit") from error
    except hub_errors.RemoteEntryNotFoundError as error:
        raise SourceFailed(f"{what}: the hub no longer has the file") from error
    except hub_errors.RepositoryNotFoundError as error:
        raise SourceFailed(
            f"{what}: the hub knows no such repository, or shows it only to who may read it",
            f"check the name; of a private one {TOKEN_HINT}",
        ) from error
    except hub_errors.HfHubHTTPError as error:
        status = error.response.status_code
        hint = TOKEN_HINT if status in (401, 403) else ""
        raise SourceFailed(f"{what}: the hub answered {status}", hint) from error
    except (hub_errors.HFValidationError, hub_errors.FileMetadataError) as error:
        raise SourceFailed(f"{what}: {masked(str(error))[:200]}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        # What the library makes of an answer that is not what it expects; a fault of this program stays one.
        if _is_ours(error):
            raise
        raise SourceFailed(
            f"{what}: the hub's answer is not what a hub answers: {type(error).__name__}", "is HF_ENDPOINT a hub?"
        ) from error


def _is_ours(error: BaseException) -> bool:
    """Whether this program raised it: in how it calls the library, or in what the library called back."""
    modules = [str(frame.f_globals.get("__name__")) for frame, _ in walk_tb(error.__traceback__)]
    met = [package for module in modules if (package := module.partition(".")[0]) in ("bundler", "huggingface_hub")]
    return met[-1] == "bundler"
