"""Which proxy is used: the environment as curl reads it, loopback never, the provider's own choice before all."""

import pytest

from gateway.dataplane.proxies import EnvironmentProxies, ProxyServer, choose, proxy_server
from gateway.policy.model import Proxy

BOTH = {"http_proxy": "http://plain:3128", "https_proxy": "http://secure:3129"}


@pytest.mark.parametrize(
    ("variables", "origin", "wanted"),
    [
        ({}, "https://a.example:443", None),
        (BOTH, "https://a.example:443", "secure:3129"),
        (BOTH, "http://a.example:80", "plain:3128"),
        ({"HTTPS_PROXY": "upper:1"}, "https://a.example:443", "upper:1"),
        ({"HTTPS_PROXY": "upper:1", "https_proxy": "lower:2"}, "https://a.example:443", "lower:2"),
        ({"HTTPS_PROXY": "upper:1", "https_proxy": ""}, "https://a.example:443", None),
        ({"ALL_PROXY": "all:1"}, "https://a.example:443", "all:1"),
        ({"ALL_PROXY": "all:1", "http_proxy": "plain:2"}, "http://a.example:80", "plain:2"),
        ({"https_proxy": "https://secure"}, "https://a.example:443", "secure:443"),
        ({"https_proxy": "http://[2001:db8::1]:3128/"}, "https://a.example:443", "2001:db8::1:3128"),
        ({**BOTH, "no_proxy": "*"}, "https://a.example:443", None),
        ({**BOTH, "NO_PROXY": "example"}, "https://a.example:443", None),
        ({**BOTH, "no_proxy": ".example"}, "https://a.example:443", None),
        ({**BOTH, "no_proxy": "*.example"}, "https://a.example:443", None),
        ({**BOTH, "no_proxy": "a.EXAMPLE."}, "https://A.example:443", None),
        ({**BOTH, "no_proxy": "ample"}, "https://a.example:443", "secure:3129"),
        ({**BOTH, "no_proxy": "b.example, a.example"}, "https://a.example:443", None),
        ({**BOTH, "no_proxy": "a.example:8443"}, "https://a.example:443", "secure:3129"),
        ({**BOTH, "no_proxy": "a.example:8443"}, "https://a.example:8443", None),
        ({**BOTH, "no_proxy": "10.0.0.0/8"}, "http://10.1.2.3:80", None),
        ({**BOTH, "no_proxy": "10.0.0.0/8"}, "http://11.1.2.3:80", "plain:3128"),
        ({**BOTH, "no_proxy": "192.0.2.7"}, "http://192.0.2.7:80", None),
        ({**BOTH, "no_proxy": "192.0.2.7:81"}, "http://192.0.2.7:80", "plain:3128"),
        ({**BOTH, "no_proxy": "[2001:db8::7]:80"}, "http://2001:db8::7:80", None),
        ({**BOTH, "no_proxy": "2001:db8::/32"}, "http://2001:db8::7:80", None),
        ({**BOTH, "no_proxy": "junk/99,,"}, "http://10.1.2.3:80", "plain:3128"),
        (BOTH, "http://127.0.0.1:80", None),
        (BOTH, "http://localhost:80", None),
        (BOTH, "http://::1:80", None),
    ],
)
def test_the_environment(variables: dict[str, str], origin: str, wanted: str | None) -> None:
    scheme, _, place = origin.partition("://")
    host, _, port = place.rpartition(":")
    found = EnvironmentProxies(variables).of(host, int(port), tls=scheme == "https")
    assert (found and f"{found.host}:{found.port}") == wanted


def test_user_and_password() -> None:
    found = EnvironmentProxies({"https_proxy": "http://us%40er:p%3Aw@proxy:1"}).of("a", 443, tls=True)
    assert found == ProxyServer(False, "proxy", 1, b"Basic dXNAZXI6cDp3")
    assert found is not None
    assert found.lines == b"proxy-authorization: Basic dXNAZXI6cDp3\r\n"
    assert "dXNA" not in repr(found)
    assert proxy_server("http://proxy:1", "u", "p").authorization == b"Basic dTpw"


def test_what_is_no_http_proxy_is_refused_and_not_passed_by() -> None:
    found = EnvironmentProxies({"ALL_PROXY": "socks5h://proxy:1080"}).of("a.example", 443, tls=True)
    assert found is not None
    assert "ALL_PROXY" in found.unusable


def test_the_providers_own_choice_beats_the_environment() -> None:
    environment = EnvironmentProxies(BOTH)
    assert choose(Proxy(url=None), environment, "a.example", 443, tls=True) is None
    own = choose(Proxy(url="http://own:9"), environment, "127.0.0.1", 443, tls=True)
    assert own is not None
    assert own.host == "own"
