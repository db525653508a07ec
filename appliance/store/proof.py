"""What a candidate showed before it may serve."""

from __future__ import annotations

from dataclasses import dataclass

from bundler.format.errors import SelftestFailed


@dataclass(frozen=True)
class Proof:
    """What the self-test of a candidate said.

    Attributes:
        passed: Whether it may serve.
        lines: How many cases of each kind held, and what each model did.
        model_tested: False where no engine could be started.
        failures: Cases that failed, with their questions: for a terminal, and never for a record on the disk.
    """

    passed: bool
    lines: tuple[str, ...]
    model_tested: bool
    failures: tuple[str, ...] = ()


class Unproved(SelftestFailed):
    """A candidate that failed its self-test here, with what it said."""

    def __init__(self, proof: Proof) -> None:
        super().__init__(
            "the bundle is authentic, but it fails its own self-test:\n  "
            + "\n  ".join((*proof.lines, *proof.failures)),
            "the box keeps what it had; send these lines to the builder",
        )
        self.proof = proof

    def short(self) -> str:
        """Returns what failed, on one line."""
        return f"it fails its own self-test: {'; '.join(line for line in self.proof.lines if 'FAILED' in line)}"
