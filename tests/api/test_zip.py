"""KPS runs from a Zip archive, with the web files that a server serves."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent.parent / "kps"

PROGRAM = """
import sys, urllib.request
sys.path.insert(0, sys.argv[1])
import kps.sync
assert kps.__file__.startswith(sys.argv[1]), kps.__file__
with kps.sync.Server("127.0.0.1:0") as server, kps.sync.Client(server.address) as client:
    messages = client.subscribe("t")
    client.publish("t", 1)
    assert next(messages).data == 1
    for page in ("", "kps.js", "console.js", "console.css"):
        print(len(urllib.request.urlopen(f"http://{server.address}/{page}").read()) > 100)
"""


@pytest.mark.pure("no archive can hold machine code")
def test_kps_runs_from_a_zip_archive(tmp_path: Path) -> None:
    archive = tmp_path / "kps.zip"
    with zipfile.ZipFile(archive, "w") as written:
        for file in PACKAGE.rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                written.write(file, file.relative_to(PACKAGE.parent))
    command = [sys.executable, "-c", PROGRAM, str(archive)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert (done.stdout.split(), done.stderr) == (["True"] * 4, "")
