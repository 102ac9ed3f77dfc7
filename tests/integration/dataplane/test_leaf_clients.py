"""Real TLS clients before minted leaves: accepted within the constraints, refused outside by each of them."""

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.dataplane.leaves import LeafMinter
from gateway.policy.authority import Permitted
from gateway.policy.model import CertificateAuthority
from tests.support.authority import made_for
from tests.support.leaf_server import LeafServer

HOST, FOREIGN, ADDRESS = "api.openai.example", "api.evil.example", "127.0.0.1"
PATIENCE_S = 60


@dataclass(frozen=True, slots=True)
class Site:
    """An authority's certificate as a file, a server with leaves of it, and one with leaves that a thief of its key
    makes for whatever is asked."""

    folder: Path
    ca: Path
    port: int
    forged_port: int


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return made_for(tmp_path_factory.mktemp("authority"), ["openai.example"], ["127.0.0.0/8"])


@contextlib.contextmanager
def site_of(authority: CertificateAuthority, folder: Path) -> Iterator[Site]:
    ca = folder / "ca.pem"
    ca.write_text(authority.certificate)
    thief = LeafMinter(authority)
    thief._permitted = Permitted.of(["example", "localhost"], ["0.0.0.0/0"])
    honest, forged = LeafServer(LeafMinter(authority)), LeafServer(thief)
    try:
        yield Site(folder=folder, ca=ca, port=honest.port, forged_port=forged.port)
    finally:
        honest.close()
        forged.close()


@pytest.fixture(scope="module")
def site(authority: CertificateAuthority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_of(authority, tmp_path_factory.mktemp("site")) as made:
        yield made


def _run(*command: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


# Each client asks for a name on a port and says whether it trusted what it saw: (accepted, what it said).


def python(site: Site, name: str, port: int) -> tuple[bool, str]:
    context = ssl.create_default_context(cafile=str(site.ca))
    try:
        with (
            socket.create_connection((ADDRESS, port)) as plain,
            context.wrap_socket(plain, server_hostname=name) as tls,
        ):
            tls.sendall(f"GET / HTTP/1.1\r\nhost: {name}\r\n\r\n".encode())
            said = tls.recv(65536).decode()
    except ssl.SSLCertVerificationError as error:
        return False, str(error)
    return name in said, said


def openssl(site: Site, name: str, port: int) -> tuple[bool, str]:
    how = ("-verify_ip", name) if name == ADDRESS else ("-servername", name, "-verify_hostname", name)
    done = _run(
        "openssl", "s_client", "-connect", f"{ADDRESS}:{port}", "-CAfile", site.ca, "-verify_return_error", *how
    )
    return done.returncode == 0 and "Verify return code: 0 (ok)" in done.stdout, done.stdout + done.stderr


def curl(site: Site, name: str, port: int) -> tuple[bool, str]:
    there = ("--resolve", f"{name}:{port}:{ADDRESS}")
    done = _run("curl", "-sS", "--cacert", site.ca, *there, f"https://{name}:{port}/")
    return done.returncode == 0 and name in done.stdout, done.stdout + done.stderr


NODE = """
const [name, port] = process.argv.slice(1);
const request = require("https").get(
  {host: "127.0.0.1", port, servername: name === "127.0.0.1" ? "" : name, headers: {host: name}, agent: false},
  (answer) => { answer.setEncoding("utf8"); answer.on("data", (text) => console.log(text)); });
request.on("error", (error) => { console.log(error.code, error.message); process.exitCode = 1; });
"""


def node(site: Site, name: str, port: int) -> tuple[bool, str]:
    program = Path(sys.executable).with_name("node")
    done = _run(program, "-e", NODE, name, str(port), NODE_EXTRA_CA_CERTS=str(site.ca))
    return done.returncode == 0 and name in done.stdout, done.stdout + done.stderr


GO = """package main

import ("context"; "fmt"; "io"; "net"; "net/http"; "os")

func main() {
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.1:"+os.Args[2])
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial}}
	answer, err := client.Get("https://" + os.Args[1] + ":" + os.Args[2] + "/")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	io.Copy(os.Stdout, answer.Body)
}
"""


@pytest.fixture(scope="module")
def go_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("go") is None:
        pytest.skip("go is not installed here")
    folder = tmp_path_factory.mktemp("go")
    (folder / "main.go").write_text(GO)
    built = subprocess.run(
        ["go", "build", "-o", folder / "client", folder / "main.go"],
        env={**os.environ, "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder / "client"


def go(site: Site, name: str, port: int, client: Path) -> tuple[bool, str]:
    done = _run(client, name, str(port), SSL_CERT_FILE=str(site.ca), SSL_CERT_DIR="/nonexistent")
    return done.returncode == 0 and name in done.stdout, done.stdout + done.stderr


JAVA = """
import java.net.URI;

class Client {
    public static void main(String[] arguments) throws Exception {
        try (var body = URI.create("https://" + arguments[0] + ":" + arguments[1] + "/").toURL().openStream()) {
            System.out.println(new String(body.readAllBytes()));
        } catch (javax.net.ssl.SSLException error) {
            System.out.println(error);
            System.exit(1);
        }
    }
}
"""


def java(site: Site, name: str, port: int) -> tuple[bool, str]:
    store, hosts, source = site.folder / "trust.p12", site.folder / "hosts", site.folder / "Client.java"
    if not store.exists():
        done = _run(
            "keytool", "-importcert", "-noprompt", "-alias", "sluicegate", "-file", site.ca, "-keystore", store,
            "-storepass", "changeit",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        hosts.write_text(f"{ADDRESS} {HOST}\n")
        source.write_text(JAVA)
    done = _run(
        "java", f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStorePassword=changeit",
        f"-Djdk.net.hosts.file={hosts}", source, name, str(port),
    )  # fmt: skip
    return done.returncode == 0 and name in done.stdout, done.stdout + done.stderr


CLIENTS = {each.__name__: each for each in (python, openssl, curl, node)}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("name", [HOST, "openai.example", ADDRESS])
def test_a_name_within_the_constraints_is_accepted(site: Site, client: str, name: str) -> None:
    accepted, said = CLIENTS[client](site, name, site.port)
    assert accepted, said


@pytest.mark.parametrize("client", CLIENTS)
def test_a_name_outside_is_refused_even_with_the_key(site: Site, client: str) -> None:
    accepted, said = CLIENTS[client](site, FOREIGN, site.forged_port)
    assert not accepted
    assert "permitted subtree violation" in said.lower().replace("_", " "), said


@pytest.mark.parametrize("client", CLIENTS)
def test_a_host_only_authority_signs_for_no_address(
    client: str, tmp_path: Path, authority: CertificateAuthority
) -> None:
    with site_of(made_for(tmp_path, ["openai.example"]), tmp_path) as site:
        assert CLIENTS[client](site, HOST, site.port)[0]
        accepted, said = CLIENTS[client](site, ADDRESS, site.forged_port)
    assert not accepted
    assert "excluded subtree violation" in said.lower().replace("_", " "), said


@pytest.mark.parametrize("client", CLIENTS)
def test_a_network_only_authority_signs_for_no_name(client: str, tmp_path: Path) -> None:
    with site_of(made_for(tmp_path, cidrs=["127.0.0.0/8"]), tmp_path) as site:
        accepted, said = CLIENTS[client](site, ADDRESS, site.port)
        assert accepted, said
        accepted, said = CLIENTS[client](site, HOST, site.forged_port)
    assert not accepted
    assert "excluded subtree violation" in said.lower().replace("_", " "), said


def test_go_agrees(site: Site, go_client: Path, tmp_path: Path) -> None:
    for name in (HOST, "openai.example", ADDRESS):
        accepted, said = go(site, name, site.port, go_client)
        assert accepted, said
    accepted, said = go(site, FOREIGN, site.forged_port, go_client)
    assert not accepted
    assert "not permitted by any constraint" in said
    with site_of(made_for(tmp_path, ["openai.example"]), tmp_path) as hosts_only:
        accepted, said = go(hosts_only, ADDRESS, hosts_only.forged_port, go_client)
    assert not accepted
    assert "excluded by constraint" in said
    (tmp_path / "networks").mkdir()
    with site_of(made_for(tmp_path / "networks", cidrs=["127.0.0.0/8"]), tmp_path / "networks") as networks_only:
        assert go(networks_only, ADDRESS, networks_only.port, go_client)[0]
        accepted, said = go(networks_only, HOST, networks_only.forged_port, go_client)
    assert not accepted
    assert "excluded by constraint" in said


@pytest.mark.skipif(shutil.which("java") is None, reason="java is not installed here")
def test_java_accepts_what_we_mint(site: Site) -> None:
    """It does not hold the constraints of a trusted root against leaves (docs/interception-tls.md): no test of that."""
    for name in (HOST, ADDRESS):
        accepted, said = java(site, name, site.port)
        assert accepted, said


def test_who_does_not_trust_us_refuses(site: Site) -> None:
    context = ssl.create_default_context()
    with (
        socket.create_connection((ADDRESS, site.port)) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
        context.wrap_socket(plain, server_hostname=HOST),
    ):
        pass


PROGRAMS = {
    "urllib": "import urllib.request\nprint(urllib.request.urlopen(URL).read().decode())",
    "httpx": "import httpx\nprint(httpx.get(URL).text)",
    "httpx2": "import httpx2\nprint(httpx2.get(URL).text)",
    "requests": "import requests\nprint(requests.get(URL).text)",
    "openai": "import openai\nprint(openai.OpenAI(base_url=URL, api_key='k', max_retries=0).get('/', cast_to=object))",
    "anthropic": "import anthropic\n"
    "print(anthropic.Anthropic(base_url=URL, api_key='k', max_retries=0).get('/', cast_to=object))",
}
VARIABLE = {"requests": "REQUESTS_CA_BUNDLE"}


@pytest.mark.parametrize("library", PROGRAMS)
def test_python_libraries_trust_by_the_variable_that_the_documentation_names(site: Site, library: str) -> None:
    program = f"URL = 'https://{ADDRESS}:{site.port}/'\n{PROGRAMS[library]}"
    trusting = _run(sys.executable, "-c", program, **{VARIABLE.get(library, "SSL_CERT_FILE"): str(site.ca)})
    assert trusting.returncode == 0, trusting.stderr
    assert ADDRESS in trusting.stdout
    alone = _run(sys.executable, "-c", program)
    assert alone.returncode != 0
    assert "certificate" in alone.stderr.lower()


@pytest.mark.skipif(shutil.which("wget") is None, reason="wget is not installed here")
def test_gnutls_agrees(site: Site, tmp_path: Path) -> None:
    """Debian's wget."""

    def wget(site: Site, port: int) -> "subprocess.CompletedProcess[str]":
        store = (f"--ca-certificate={site.ca}", "--ca-directory=/nonexistent")
        return _run("wget", "-q", "-O-", "-4", "--tries=1", *store, f"https://localhost:{port}/")

    with site_of(made_for(tmp_path, ["localhost"]), tmp_path) as allowed:
        done = wget(allowed, allowed.port)
        assert "localhost" in done.stdout, done.stderr
    assert wget(site, site.forged_port).returncode == 5, "5: verification failed"
