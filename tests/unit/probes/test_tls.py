"""On which kernels TLS of chosen processes can be read."""

import os
from types import SimpleNamespace

import pytest

from gateway.probes.program import ProgramRefused
from gateway.probes.scope import Scope
from gateway.probes.tls import TlsCalls


@pytest.mark.parametrize("release", ["5.15.0-100-generic", "6.5+", "6.5.13"])
def test_an_older_kernel_says_what_it_lacks(release: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release=release))
    with pytest.raises(ProgramRefused, match=r"takes Linux 6\.6, .* this is " + release.replace("+", r"\+")):
        TlsCalls(lambda message, descriptors: None, Scope()).load()
