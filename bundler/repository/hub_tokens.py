"""Tokens of model hubs in the keyring: one encrypted file a hub, named by its address, opened by the passphrase."""

from __future__ import annotations

from bundler.format import canonical
from bundler.format.errors import BadBundle, BadInput, NotReady
from bundler.repository.keyring import TOKEN, WORK_FACTOR_LOG2, Keyring


class HubTokens:
    """Opens a token only when a hub is asked, and each once."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._opened: dict[str, str] = {}

    def addresses(self) -> list[str]:
        """Returns the hubs that have a token, `HOST` or `HOST:PORT`; needs no passphrase."""
        return sorted(path.stem for path in self._keyring.folder.glob(f"*{TOKEN}"))

    def keep(self, address: str, token: str, work_factor_log2: int = WORK_FACTOR_LOG2) -> bool:
        """Keeps a token; returns whether it replaces one.

        Args:
            address: As `hub_settings.read_address` returns it.
            token: What the hub is shown.
            work_factor_log2: Of the passphrase's scrypt.

        Raises:
            NotReady: There is no keyring.
            WrongKey: The passphrase is not the keyring's; nothing was written.
        """
        replaced = address in self.addresses()
        # The address goes in, so that a file that somebody renamed sends no token elsewhere.
        secret = canonical.encode({"hub": address, "token": token})
        self._keyring.seal(f"{address}{TOKEN}", secret, work_factor_log2)
        self._opened.pop(address, None)
        return replaced

    def remove(self, address: str) -> None:
        """Removes a token; raises NotReady where there is none."""
        if address not in self.addresses():
            raise NotReady(f"there is no token for {address}", "see `lifeboat keys token list`")
        self._keyring.remove(f"{address}{TOKEN}")

    def open(self, address: str) -> str:
        """Returns the token for a hub; "", without the passphrase, where none is kept.

        Raises:
            WrongKey: The passphrase does not open it.
            BadInput: Its file is damaged, or another hub's.
        """
        if address not in self._opened:
            if address not in self.addresses():
                return ""
            self._opened[address] = self._token(address)
        return self._opened[address]

    def _token(self, address: str) -> str:
        file = f"{address}{TOKEN}"
        hint = f"set it again with `lifeboat keys token set {address}`"
        try:
            value = canonical.decode(self._keyring.unseal(file), file)
            hub, token = value["hub"], value["token"]
        except (BadBundle, KeyError, TypeError) as error:
            raise BadInput(f"{file} holds no token", hint) from error
        if hub != address or not isinstance(token, str):
            raise BadInput(f"{file} holds the token of another hub", hint)
        return token
