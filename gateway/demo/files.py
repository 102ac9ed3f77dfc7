"""What the demo keeps, all of it in one folder of the data folder: `--down` removes it and nothing is left."""

import os
import secrets
import shutil
import socket
import string
import sys
from dataclasses import dataclass
from pathlib import Path

from gateway.cli.background import BackgroundProcess
from gateway.settings import Settings

KEY_LETTERS = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class DemoFiles:
    folder: Path

    @classmethod
    def of(cls, settings: Settings) -> "DemoFiles":
        return cls(settings.data / "demo")

    @property
    def packages(self) -> Path:
        """Python packages of the model and llama.cpp, where the gateway's own environment has none."""
        return self.folder / "packages"

    @property
    def model(self) -> Path:
        return self.folder / "gemma-3-270m-q4_k_m.gguf"

    @property
    def applied(self) -> Path:
        """Exists once the demo's configuration was applied: what is named `demo` is then ours."""
        return self.folder / "applied"

    def make(self) -> None:
        self.folder.mkdir(mode=0o700, exist_ok=True)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def port(self) -> int:
        """The model server's loopback port: chosen free once, then kept, because the configuration names it."""
        kept = self.folder / "port"
        if kept.exists():
            return int(kept.read_text())
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        kept.write_text(f"{port}\n")
        return port

    def key(self) -> str:
        """The demo's API key: kept, so that what was pasted from an earlier run still works."""
        kept = self.folder / "key"
        if not kept.exists():
            key = "sk-sg-" + "".join(secrets.choice(KEY_LETTERS) for _ in range(40))
            descriptor = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(key + "\n")
        return kept.read_text().strip()

    def model_process(self) -> BackgroundProcess:
        return BackgroundProcess(
            lock=self.folder / "model.lock",
            log=self.folder / "model.log",
            command=[sys.executable, "-m", "gateway.demo.model_server", str(self.model), str(self.port())],
        )

    def python_path(self) -> dict[str, str]:
        """The environment in which `xllamacpp` is found."""
        parts = [str(self.packages), os.environ.get("PYTHONPATH", "")]
        return {"PYTHONPATH": os.pathsep.join(part for part in parts if part)}
