"""Words that turn a question into its opposite: as vectors, "switch it on" and "switch it off" are neighbours."""

from __future__ import annotations

from bundler.knowledge.words import stem

_PAIRS = (
    "on/off enable/disable enabled/disabled activate/deactivate start/stop begin/end increase/decrease raise/lower "
    "bigger/smaller larger/smaller big/small large/small more/less up/down before/after add/remove open/close "
    "opened/closed install/uninstall installed/uninstalled lock/unlock locked/unlocked allow/block connect/disconnect "
    "new/old send/receive sent/received incoming/outgoing login/logout internal/external first/last minimum/maximum "
    "min/max in/out arrive/leave starter/leaver joiner/leaver upload/download import/export with/without "
    "encrypt/decrypt mute/unmute subscribe/unsubscribe buy/sell borrow/lend public/private personal/shared early/late "
    "morning/evening day/night high/low fast/slow long/short hot/cold left/right inside/outside always/never "
    "accept/refuse approve/reject grow/shrink enlarge/shrink push/pull active/inactive paid/unpaid show/hide "
    "attach/detach assign/unassign pause/resume credit/debit domestic/international"
)


def _table() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for pair in _PAIRS.split():
        one, two = (stem(word) for word in pair.split("/"))
        found.setdefault(one, set()).add(two)
        found.setdefault(two, set()).add(one)
    return {word: frozenset(others) for word, others in found.items()}


OPPOSITES = _table()  # stem to the stems of its opposites
