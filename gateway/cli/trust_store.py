"""The certificate authorities that this host trusts, as Debian keeps them; ours is a file among the administrator's.

`update-ca-certificates` (package ca-certificates) links what lies in one folder into another, joins all of it into one
bundle, and tells its hooks, such as the one that keeps Debian's Java in step, what came and what went. It does not see
by itself that a file of the administrator's went: link and hooks' copies would stay. So it is told, by a line of its
configuration, and that only for the one run.
"""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.errors import SluicegateError

TOOL: Final = "update-ca-certificates"
OURS: Final = "sluicegate-interception-"
READABLE_BY_ALL: Final = 0o022
"""A umask: what is trusted is no secret."""


class TrustStoreError(SluicegateError):
    """This host's trust store cannot be changed."""

    code = "trust_store"


@dataclass(frozen=True, slots=True)
class TrustStore:
    folder: Path = Path("/usr/local/share/ca-certificates")
    bundle: Path = Path("/etc/ssl/certs/ca-certificates.crt")
    configuration: Path = Path("/etc/ca-certificates.conf")

    def require_writable(self) -> None:
        """Raises TrustStoreError unless we may change it and know how."""
        if self._tool() is None:
            raise TrustStoreError(
                f"this host has no {TOOL}, which is how Debian changes what it trusts",
                fix="apt-get install ca-certificates; elsewhere install what `sluicegate ca export` prints by hand",
            )
        if os.geteuid() != 0:
            raise TrustStoreError("only root may change what this host trusts", fix="run it with sudo")

    def installed(self) -> list[Path]:
        """Files of ours, of whichever gateway."""
        return sorted(self.folder.glob(f"{OURS}*.crt"))

    def place_of(self, name: str) -> Path:
        """Where the authority of this name belongs (`AuthorityView.name`)."""
        kept = "".join(sign if sign.isalnum() else "-" for sign in name.lower())
        return self.folder / f"{OURS}{kept.removeprefix(OURS)}.crt"

    def trusts(self, name: str, certificate: str) -> bool:
        """Whether just this certificate is trusted here."""
        try:
            return self.place_of(name).read_text() == certificate and certificate.strip() in self.bundle.read_text()
        except (OSError, UnicodeDecodeError):
            return False

    def put(self, name: str, certificate: str) -> Path:
        """Trust it, in place of an earlier one of the same name. Returns its file."""
        self.require_writable()
        path = self.place_of(name)
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".new")
        draft.write_text(certificate)
        draft.chmod(0o644)
        draft.replace(path)
        self._update(self.configuration)
        return path

    def take_out(self, path: Path) -> None:
        """Trust it no longer; all is as it was before."""
        self.require_writable()
        path.unlink(missing_ok=True)
        with tempfile.NamedTemporaryFile("w", prefix="sluicegate-ca-", suffix=".conf") as once:
            once.write(self.configuration.read_text() if self.configuration.exists() else "")
            once.write(f"\n!{path.name}\n")
            once.flush()
            self._update(Path(once.name))

    def _update(self, configuration: Path) -> None:
        tool = self._tool()
        assert tool is not None
        command = [tool, "--certsconf", str(configuration)]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            umask=READABLE_BY_ALL,
            check=False,
        )
        if done.returncode != 0:
            raise TrustStoreError(
                f"{TOOL} ended with {done.returncode}: {done.stdout.strip()[-500:]}", fix=f"run {TOOL} by hand"
            )

    @staticmethod
    def _tool() -> str | None:
        return shutil.which(TOOL, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
