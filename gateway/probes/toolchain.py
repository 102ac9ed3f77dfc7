"""bcc: a package of the distribution's (`python3-bpfcc`), outside of our environment. What is called `bcc` on PyPI is
another thing.
"""

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Final

PACKAGES: Final = ("/usr/lib/python3/dist-packages", "/usr/lib/python3/site-packages", "/usr/share/bcc")
"""Where distributions put it."""


class BccMissing(Exception):
    """bcc cannot be used on this host; the text says why and what to do."""


def sources() -> Path:
    """The folder `bpf`: in a wheel it lies in the package, in a checkout beside it."""
    package = Path(__file__).resolve().parents[1]
    packed = package / "bpf"
    return packed if packed.is_dir() else package.parent / "bpf"


def load_bcc() -> ModuleType:
    """The module. Raises BccMissing."""
    for folder in PACKAGES:
        if (Path(folder) / "bcc" / "libbcc.py").is_file() and folder not in sys.path:
            sys.path.append(folder)  # behind all of ours
    os.environ.setdefault("BCC_KERNEL_SOURCE", str(sources() / "headers"))
    try:
        found = importlib.import_module("bcc")
    except ImportError as error:
        raise BccMissing(f"bcc is not on this host ({error}): apt-get install python3-bpfcc") from error
    except OSError as error:
        raise BccMissing(f"the library of bcc cannot be loaded ({error}): apt-get install libbpfcc") from error
    if not hasattr(found, "BPF"):
        raise BccMissing(
            "the module bcc is another package of that name: pip uninstall bcc; apt-get install python3-bpfcc"
        )
    return found
