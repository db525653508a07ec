import os
import subprocess
import sys
from pathlib import Path


def test_onnxruntime_keeps_no_identifier_and_uploads_nothing(tmp_path: Path) -> None:
    """Whatever the environment says, the embedding runtime leaves no device id or event store behind."""
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "ORT_DISABLE_TELEMETRY": "0"}
    program = "import bundler.knowledge.encoder, onnxruntime; onnxruntime.disable_telemetry_events()"
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
