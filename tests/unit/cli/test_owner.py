"""Root's command becomes the owner of the data folder, and of root's capabilities keeps what it is told to."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.privileges import NET_ADMIN, NET_RAW, effective

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
SCRIPT = """
import json, os, subprocess, sys
from pathlib import Path
from gateway.cli.owner import become_owner
from gateway.dataplane.dialer import may_mark
become_owner(Path(sys.argv[1]), keeping=json.loads(sys.argv[2]))
look = "import json; from gateway.privileges import effective; print(json.dumps(sorted(effective())))"
later = json.loads(subprocess.check_output([sys.executable, "-c", look], env=os.environ))
print(json.dumps([os.geteuid(), may_mark(), later]))
"""


@pytest.mark.parametrize("keeping", [[], [NET_RAW]])
def test_what_is_kept_goes_on_over_exec_and_nothing_else(tmp_path: Path, keeping: list[int]) -> None:
    if keeping and NET_RAW not in effective():
        pytest.skip("this root has no CAP_NET_RAW itself")
    root = Path(__file__).resolve().parents[3]
    os.chown(tmp_path, 13, 13)
    words = [sys.executable, "-c", SCRIPT, str(tmp_path), json.dumps(keeping)]
    said = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(root)})
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout) == [13, bool(keeping), keeping]
    assert NET_ADMIN not in json.loads(said.stdout)[2]
