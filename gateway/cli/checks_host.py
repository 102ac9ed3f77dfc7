"""Checks of this host: Python, packages, disk, clock, descriptors, and what kernel probes will need."""

import ctypes
import platform
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from gateway.cli.checks import Finding, broken, fine, noted, weak
from gateway.settings import Settings

MIN_FREE_BYTES = 1 << 30
MIN_DESCRIPTORS = 16_384
"""Two for each open stream, and some."""
CLOCK_UNSYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)
TIMEX_BYTES = 512  # struct timex has 208 on x86-64; the kernel writes no more than its own


def host_checks(settings: Settings) -> Iterator[Finding]:
    yield from own_checks(settings)
    yield bcc()


def own_checks(settings: Settings) -> Iterator[Finding]:
    """Those that start no other program."""
    yield python()
    yield packages()
    yield disk(settings)
    yield clock()
    yield descriptors()
    yield kernel()


def python() -> Finding:
    return fine("python", f"{platform.python_version()} ({sys.executable})")


def packages() -> Finding:
    try:
        required = metadata.requires("sluicegate") or []
    except metadata.PackageNotFoundError:
        return broken("packages", "sluicegate itself is not installed as a package", "install.sh, or pip install -e .")
    missing = []
    for requirement in required:
        if "extra ==" in requirement:
            continue
        name = re.split(r"[\s\[<>=!~;(]", requirement, maxsplit=1)[0]
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return broken("packages", f"missing: {', '.join(missing)}", "run install.sh again")
    return fine("packages", f"sluicegate {metadata.version('sluicegate')} and the {len(required)} it asks for")


def disk(settings: Settings) -> Finding:
    folder = settings.data
    while not folder.exists():
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    said = f"{usage.free / 2**30:.1f} of {usage.total / 2**30:.1f} GiB free at {folder}"
    if usage.free < MIN_FREE_BYTES:
        return weak("disk", said, "make room: a full disk turns requests away (503) so that none goes unrecorded")
    return fine("disk", said)


def clock() -> Finding:
    """Windows of limits begin by this clock."""
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(TIMEX_BYTES))
    if state == CLOCK_UNSYNCHRONISED:
        return weak("clock", "the kernel's clock is not synchronised", "apt-get install chrony")
    if state < 0:
        return noted("clock", "the kernel does not tell whether its clock is synchronised (a container?)")
    return fine("clock", "synchronised")


def descriptors() -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < MIN_DESCRIPTORS:
        return weak(
            "descriptors",
            f"at most {hard} open files",
            f"ulimit -Hn {MIN_DESCRIPTORS * 8}, or LimitNOFILE= in its unit",
        )
    return fine("descriptors", "unlimited" if hard == resource.RLIM_INFINITY else f"up to {hard} open files")


def kernel() -> Finding:
    release = platform.release()
    numbers = re.match(r"(\d+)\.(\d+)", release)
    if numbers and (int(numbers[1]), int(numbers[2])) < (5, 15):
        return noted("kernel", f"{release}: interception and probes need 5.15")
    return noted("kernel", f"{release}, new enough for interception and probes")


def bcc() -> Finding:
    """Debian's package is seen by the system's Python only."""
    system = Path("/usr/bin/python3")
    fix = "apt-get install python3-bpfcc"
    if not system.exists():
        return noted("bcc", "absent; kernel probes (a later release) will need it", fix)
    look = "import importlib.util, sys; sys.exit(importlib.util.find_spec('bcc') is None)"
    there = subprocess.run([system, "-c", look], capture_output=True, check=False).returncode == 0
    return (
        noted("bcc", "present") if there else noted("bcc", "absent; kernel probes (a later release) will need it", fix)
    )
