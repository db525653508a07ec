"""The confined child: what it is given, what it cannot do, and that every way of failing is named."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bundler.confine import Confinement, check_isolation, run_confined, run_reported
from bundler.format import errors
from bundler.format.errors import BadInput, BadInputs

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SMALL = Confinement(memory_bytes=2**29, cpu_s=20, wall_s=30, output_bytes=2**20, result_bytes=2**16)


@pytest.fixture(autouse=True)
def _targets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


def call(name: str, request: dict[str, Any] | None = None, **options: Any) -> Any:
    return run_confined(f"confined_targets:{name}", request or {}, **{"confinement": SMALL} | options)


def test_it_calls_the_function_with_open_files(tmp_path: Path) -> None:
    """The request arrives, the input is read, the output appears, the result comes back."""
    (tmp_path / "a").write_bytes(b"hello")
    result = call("copy", {"n": [1, 2.5, None, "é"]}, inputs={"in": tmp_path / "a"}, outputs={"out": tmp_path / "b"})
    assert result == {"request": {"n": [1, 2.5, None, "é"]}, "length": 5}
    assert (tmp_path / "b").read_bytes() == b"hello"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_it_is_given_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No secret of the parent's environment, no other file, no working folder, no privilege; limits are taken."""
    monkeypatch.setenv("PROVIDER_KEY", "secret")
    secret = tmp_path / "secret"
    secret.write_text("x")
    (tmp_path / "a").write_bytes(b"")
    with secret.open() as _open:
        seen = call("surroundings", inputs={"in": tmp_path / "a"})
    assert not {"PROVIDER_KEY", "HOME", "USER"} & seen["environment"].keys()
    assert seen["folder"] == "/"
    assert all(entry.startswith("/") for entry in seen["path"])
    kept = [name for name in seen["files"] if not name.startswith(("pipe:", "/dev/null"))]
    assert kept == [str(tmp_path / "a")]
    assert seen["privileges"] == "1"
    assert seen["capabilities"] == ["0" * 16] * 2
    assert seen["limits"] == {
        "CORE": 0, "AS": 2**29, "FSIZE": 2**20, "NOFILE": 65, "CPU": 20, "NPROC": 0,
    }  # fmt: skip


def test_it_has_no_network() -> None:
    """A listener of this machine answers the test and not the child; the report agrees."""
    if reason := check_isolation().missing.get("network"):
        pytest.skip(f"this kernel allows neither a network namespace nor a filter: {reason}")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        assert call("connect", {"port": port}) == "OSError"


def test_namespaces_that_the_machine_forbids_are_not_needed() -> None:
    """Where the kernel refuses them by its settings, the filter keeps the network away; nothing is missing."""
    program = (
        "from bundler.confine import check_isolation, run_confined\n"
        "print(dict(check_isolation().missing))\n"
        "for _ in range(3): run_confined('bundler.confined_child:nothing', {})\n"
    )
    forbid = "echo 0 > /proc/sys/user/max_user_namespaces && echo 0 > /proc/sys/user/max_net_namespaces && "
    words = ["unshare", "-Ur", "sh", "-c", forbid + 'exec "$0" "$@"', sys.executable, "-c", program]
    if subprocess.run(["unshare", "-Ur", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this kernel allows no user namespace, in which the test could forbid further ones")
    if missing := check_isolation().missing:
        pytest.skip(f"this kernel lacks more than namespaces: {missing}")
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "{}\n", "")


@pytest.mark.parametrize("name", ["BadInput", "BadBundle", "FileMissing", "WrongKey", "NoSpace", "LifeboatError"])
def test_errors_keep_their_class(name: str) -> None:
    """What the function raises arrives as the same class with fact and hint."""
    with pytest.raises(errors.LifeboatError) as caught:
        call("raise_error", {"class": name})
    assert (type(caught.value).__name__, caught.value.fact, caught.value.hint) == (name, "fact", "hint")


def test_a_list_of_issues_arrives_whole() -> None:
    """BadInputs keeps its issues and its text."""
    with pytest.raises(BadInputs) as caught:
        call("raise_error", {"class": "BadInputs"})
    assert caught.value.issues == ("first", "second")
    assert str(caught.value) == str(BadInputs("two", ("first", "second"), "look"))
    assert caught.value.hint == "look"


def test_an_unknown_subclass_arrives_as_its_parent() -> None:
    """A class outside bundler.format.errors becomes the nearest one inside it."""
    with pytest.raises(errors.BadBundle) as caught:
        call("raise_error", {"class": "OwnKind"})
    assert type(caught.value) is errors.BadBundle


def test_foreign_words_cannot_steer_the_terminal() -> None:
    """Control characters in an error are replaced; new lines stay."""
    with pytest.raises(BadInput, match=r"\Aa\?\[2J\nb\?\Z"):
        call("raise_error", {"class": "BadInput", "fact": "a\x1b[2J\nb\x9b"})


@pytest.mark.parametrize("kind", ["BadInput", "OSError"])
def test_a_name_that_is_no_text_does_not_hide_what_is_wrong(kind: str) -> None:
    """Half of a surrogate pair, as a file name of other bytes holds it, arrives written out."""
    with pytest.raises(BadInput, match=r"no tensor \\udcff"):
        call("raise_error", {"class": kind, "fact": "no tensor \udcff"})


@pytest.mark.parametrize(
    ("name", "request_", "words"),
    [
        ("raise_error", {"class": "KeyError"}, r"cannot be read: KeyError: .*confined_targets\.py:\d+"),
        ("eat_memory", {}, "more than 536870912 bytes of memory"),
        ("crash", {}, "SIGSEGV"),
        ("return_value", {"kind": "long"}, "the result is longer than 65536 bytes"),
        ("return_value", {"kind": "nan"}, "exit code 1: ValueError"),
        ("return_value", {"kind": "infinite"}, "exit code 1: ValueError"),
        ("return_value", {"kind": "set"}, "exit code 1: TypeError"),
        ("missing", {}, "AttributeError"),
    ],
)
def test_every_failure_is_bad_input_that_names_it(name: str, request_: dict[str, Any], words: str) -> None:
    """A crash, a limit or an exception of the parser says what happened."""
    with pytest.raises(BadInput, match=words):
        call(name, request_)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ('{"result": NaN}', "the answer of the reading process is not strict JSON: NaN is no number"),
        ('{"result": 1, "result": 2}', "the key 'result' appears twice"),
        ("[1]", "not a JSON object"),
        ("[" * 60_000, "nests deeper"),
        ('{"error": {"class": "annotations", "fact": "x"}}', r"\Ax\Z"),
        ('{"error": {"class": "Exception", "fact": 7}}', r"\A\Z"),
        ('{"error": []}', r"\A\Z"),
        ('{"fault": 7}', "cannot be read"),
        ("", "exit code 0"),
    ],
)
def test_a_forged_answer_is_parsed_strictly(answer: str, words: str) -> None:
    """A child that its input has taken over can return no more than JSON or an error of ours."""
    with pytest.raises(BadInput, match=words):
        call("forge", {"answer": answer})


def test_time_on_the_processor_is_bounded() -> None:
    """A loop without end is stopped and named."""
    with pytest.raises(BadInput, match="used more than 1 s of processor time"):
        call("spin", confinement=Confinement(cpu_s=1, wall_s=60))


def test_time_on_the_wall_is_bounded() -> None:
    """A child that waits without end is stopped and named."""
    start = time.monotonic()
    with pytest.raises(BadInput, match=r"longer than 0\.5 s"):
        call("sleep", {"s": 60}, confinement=Confinement(wall_s=0.5))
    assert time.monotonic() - start < 20


def test_output_is_bounded_and_leaves_nothing(tmp_path: Path) -> None:
    """A child that writes without end is stopped; no part of it stays on disk."""
    with pytest.raises(BadInput, match="wrote more than 1048576 bytes"):
        call("write_much", outputs={"out": tmp_path / "b"})
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_stops_leaves_nothing(tmp_path: Path) -> None:
    """An exit without an answer is named with the child's last words, and its half-written output is removed."""
    with pytest.raises(BadInput, match=r"exit code 3: \?\[2Jlast words"):
        call("stop", {"code": 3}, outputs={"out": tmp_path / "b"})
    assert list(tmp_path.iterdir()) == []


def test_nobody_stays_behind(tmp_path: Path) -> None:
    """The parser starts no process; where no filter refuses that to root, what it started ends with it."""
    note = tmp_path / "note"
    if os.getuid() != 0 or "calls" not in check_isolation().missing:
        # Else RLIMIT_NPROC, from which the kernel exempts root.
        with pytest.raises(BadInput, match=r"BlockingIOError|PermissionError"):
            call("leave_somebody", {"note": str(note)}, folders=[tmp_path])
        assert not note.exists()
        return
    with pytest.raises(BadInput, match="longer than 3 s"):
        call("leave_somebody", {"note": str(note)}, folders=[tmp_path], confinement=Confinement(wall_s=3))
    assert _wait_for(lambda: not _alive(int(note.read_text())))


def test_much_noise_blocks_nobody() -> None:
    """A parser that fills stderr neither hangs nor takes memory."""
    assert call("fill_stderr") == "done"


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo"])
def test_only_regular_files_are_read(tmp_path: Path, kind: str) -> None:
    """A missing file, a folder and a FIFO are refused before a child is started."""
    path = tmp_path / "a"
    if kind == "folder":
        path.mkdir()
    if kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(BadInput, match=r"cannot be read|not a regular file"):
        call("copy", inputs={"in": path}, outputs={"out": tmp_path / "b"})
    assert not (tmp_path / "b").exists()


def test_the_working_folder_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A json.py in the working folder, or on a relative path, is not what the child imports."""
    (tmp_path / "json.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", ".", *sys.path])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert check_isolation().result is None


def test_the_report_travels_with_the_result() -> None:
    """The long form returns the result and what the confinement was worth."""
    done = run_reported("confined_targets:sleep", {"s": 0}, confinement=SMALL)
    assert done.result is None
    assert all(done.missing.values())


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    """A killed builder leaves no parser running."""
    program = (
        f"import sys; sys.path.insert(0, {str(HERE)!r})\n"
        "from bundler.confine import run_confined\nrun_confined('confined_targets:sleep', {'s': 51.5})\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) as parent:
        child = _wait_for(lambda: _children(parent.pid))
        parent.send_signal(signal.SIGKILL)
    assert _wait_for(lambda: not _alive(child[0]))


def _children(number: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{number}/task/{number}/children").read_text().split()]


def _alive(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _wait_for(question: Any) -> Any:
    for _ in range(300):
        if answer := question():
            return answer
        time.sleep(0.1)
    raise AssertionError("waited for 30 s")


def test_the_order_is_json() -> None:
    """What JSON cannot hold is our own fault and not the input's."""
    with pytest.raises(TypeError):
        call("sleep", {"s": {1}})
