"""Hands a mail to a mail server (SMTP), which is blocking: TLS always, but to a server on loopback."""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass, field
from email.message import EmailMessage
from urllib.parse import urlsplit

from appliance.gateway.origin import PORTS
from appliance.records.delivery import Verdict

TIMEOUT_S = 20.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Account:
    """A mail server, who logs in there (nobody where `user` is ""), and whom its TLS trusts (None: as the machine)."""

    url: str
    user: str
    password: str = field(repr=False)
    trusted: ssl.SSLContext | None = None


def send(account: Account, mail: EmailMessage, recipients: tuple[str, ...]) -> Verdict:
    """Sends a mail once; the words of the server are not repeated, they may quote what it was sent."""
    try:
        with _connected(account) as server:
            if account.user:
                server.login(account.user, account.password)
            refused = server.send_message(mail, to_addrs=list(recipients))
    except smtplib.SMTPAuthenticationError as error:
        return Verdict(
            sent=False, words=f"the mail server does not let the box in ({error.smtp_code})", destination=True
        )
    except smtplib.SMTPRecipientsRefused:
        return Verdict(sent=False, words="the mail server takes none of its recipients")
    except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
        return Verdict(
            sent=False,
            words=f"the mail server refuses it ({error.smtp_code})",
            destination=400 <= error.smtp_code < 500,
        )
    except smtplib.SMTPNotSupportedError:
        return Verdict(sent=False, words="the mail server offers no TLS, or no log-in", destination=True)
    except ssl.SSLError:
        return Verdict(sent=False, words="the certificate of the mail server is not trusted", destination=True)
    except (smtplib.SMTPException, OSError) as error:
        return Verdict(sent=False, words=_words(error), destination=True)
    if refused:
        return Verdict(sent=True, words=f"taken by the mail server for all but {len(refused)} of its recipients")
    return Verdict(sent=True, words="taken by the mail server")


def _connected(account: Account) -> smtplib.SMTP:
    parts = urlsplit(account.url)
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    trusted = account.trusted or ssl.create_default_context()
    if parts.scheme == "smtps":
        return smtplib.SMTP_SSL(host, port, "lifeboat", timeout=TIMEOUT_S, context=trusted)
    server = smtplib.SMTP(host, port, "lifeboat", timeout=TIMEOUT_S)
    if host not in _LOOPBACK:
        try:
            server.starttls(context=trusted)
        except BaseException:
            server.close()
            raise
    return server


def _words(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "no connection to the mail server: connection refused"
    if isinstance(error, TimeoutError):
        return "no answer of the mail server in time"
    return "no connection to the mail server"
