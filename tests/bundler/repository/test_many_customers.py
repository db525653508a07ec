"""Forty customers on one base: what they cost on disk, what an edit ships, and what the files tell."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path

from bundler.format.service import LadderSpec, LimitsSpec, Service
from bundler.repository.keyring import Keyring
from bundler.repository.publish import Publisher
from bundler.repository.sites import add_site
from bundler.repository.survey import Captured
from bundler.repository.write import BundleWriter, Written
from bundler.terminal import Terminal

NOW, QUICK, KB = datetime(2026, 11, 21, 12, tzinfo=UTC), 10, 1_000
CUSTOMERS, MODEL_BYTES = 40, 20_000 * KB
SERVICE = Service("s", "S", (), None, (), (), (), (), LadderSpec((), (), (), "", "", ""), LimitsSpec(1, 1, 1), None, ())


def build(publisher: Publisher, keyring: Keyring, base: Path | None, files: dict[str, Path]) -> Written:
    writer = BundleWriter(publisher, keyring, Terminal(quiet=True), 8_000 * KB, base)
    captured = tuple(Captured(name, path, "gguf", "", f"file:{name}", (), 512 * KB) for name, path in files.items())
    return writer.write("p", captured, SERVICE, NOW)


def disk_bytes(folder: Path) -> int:
    """Bytes on disk, each inode once."""
    seen = {
        (found.st_dev, found.st_ino): found.st_size for found in (p.stat() for p in folder.rglob("*") if p.is_file())
    }
    return sum(seen.values())


def test_forty_customers_on_one_base(tmp_path: Path, publisher: Publisher, keyring: Keyring) -> None:
    """At most base + own content + 5 %; no file of one names another; an FAQ edit ships little."""
    model = tmp_path / "model"
    model.write_bytes(random.Random(1).randbytes(MODEL_BYTES))
    build(publisher, keyring, None, {"models/m.gguf": model})
    own, customers = 0, {}
    for number in range(CUSTOMERS):
        folder = tmp_path / "customers" / f"customer-{number:02d}"
        folder.mkdir(parents=True)
        faq = tmp_path / f"faq-{number}"
        faq.write_bytes(random.Random(number + 2).randbytes(20 * KB))
        own += faq.stat().st_size
        customer = Publisher(folder / "repository", keyring, NOW)
        customer.create()
        add_site(customer, keyring, customer.policy().repository, f"site-{number:02d}", work_factor_log2=QUICK)
        written = build(customer, keyring, publisher.folder, {"models/m.gguf": model, "faq/f": faq})
        assert written.new_bytes < 40 * KB
        customers[number] = (customer, faq)
    base = disk_bytes(publisher.folder)
    both = disk_bytes(tmp_path / "customers")
    shared = sum(path.stat().st_size for path in publisher.folder.rglob("vol/*.age"))
    assert base + both - shared <= (base + own) * 1.05
    for number, (customer, _) in customers.items():
        names = [path.as_posix() for path in customer.folder.rglob("*")]
        texts = b"".join(
            path.read_bytes()
            for path in customer.folder.rglob("*")
            if path.stat().st_size < 100 * KB and path.is_file()
        )
        for other in customers:
            if other != number:
                assert not any(f"site-{other:02d}" in name for name in names)
                assert f"site-{other:02d}".encode() not in texts
    customer, faq = customers[7]
    faq.write_bytes(faq.read_bytes() + b"one more answer")
    edited = build(customer, keyring, publisher.folder, {"models/m.gguf": model, "faq/f": faq})
    assert 0 < edited.new_bytes < 50 * KB
