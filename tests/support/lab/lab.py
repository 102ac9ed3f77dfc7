"""A network of three hosts in namespaces: a client, a router (where gateway and agent run), a server.

    client 10.9.1.2 ── 10.9.1.1 router 10.9.2.1 ── 10.9.2.2 … 10.9.2.9 server
           fd09:1::2   fd09:1::1       fd09:2::1   fd09:2::2 … fd09:2::9

With `container=True` the router has a bridge (10.9.3.1, fd09:3::1) with a fourth host behind it (10.9.3.2, fd09:3::2).
Nothing of it is connected with the machine's own network: the root namespace never sees an interface, not even for a
moment. `remove` takes everything away, asserts that no process was left and that the root namespace is as it was.
"""

import contextlib
import itertools
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from tests.support.lab.capture import Capture
from tests.support.lab.dns import NameServer
from tests.support.lab.namespace import Namespace
from tests.support.lab.root import root_state
from tests.support.lab.servers import Handler, TcpServer
from tests.support.own_cgroup import cgroup_root, remove_cgroup, sweep_cgroups
from tests.support.provider import Provider

CLIENT4, CLIENT6 = "10.9.1.2", "fd09:1::2"
ROUTER4, ROUTER6 = "10.9.1.1", "fd09:1::1"
"""The router's addresses on the client's side; `ROUTER_OUT` are those that the server sees."""
ROUTER_OUT4, ROUTER_OUT6 = "10.9.2.1", "fd09:2::1"
SERVERS4 = [f"10.9.2.{n}" for n in range(2, 10)]
SERVERS6 = [f"fd09:2::{n}" for n in range(2, 10)]
SERVER4, SERVER6 = SERVERS4[0], SERVERS6[0]
NAMESERVER4 = "10.9.2.53"
CONTAINER4, CONTAINER6 = "10.9.3.2", "fd09:3::2"
UNPRIVILEGED = 64321
"""A user (and group) id that no account has: what runs so has the rights of nobody."""

Kept = TypeVar("Kept")
_counter = itertools.count()


class Lab:
    """`with Lab() as lab:`; see the module. What a test gave to `keep` is closed before the namespaces go."""

    client: Namespace
    router: Namespace
    server: Namespace
    container: Namespace | None

    def __init__(self, *, container: bool = False) -> None:
        self.prefix = f"sgl{os.getpid()}-{next(_counter)}"
        self._with_container = container
        self._stack = ExitStack()
        self._namespaces: list[Namespace] = []
        self._cgroups: list[Path] = []
        self.folder = Path()

    def __enter__(self) -> Self:
        sweep()
        self._root = root_state(self.prefix)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.prefix}-", dir="/tmp"))
        self.folder.chmod(0o711)  # the gateway's own user finds its data folder in it
        try:
            self._build()
        except BaseException:
            with contextlib.suppress(Exception):
                self._remove()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.remove()

    # ---- building ----------------------------------------------------------------------------------------------------
    def _build(self) -> None:
        (self.folder / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
        (self.folder / "resolv.conf").write_text(f"nameserver {NAMESERVER4}\noptions timeout:1 attempts:1\n")
        for file in ("hosts", "resolv.conf"):
            (self.folder / file).chmod(0o644)
        names = ["client", "router", "server", *(["container"] if self._with_container else [])]
        made = [self._namespace(name) for name in names]
        self.client, self.router, self.server = made[:3]
        self.container = made[3] if self._with_container else None
        for namespace in made:
            namespace.ip("link", "set", "lo", "up")
        self.router.sysctl("net.ipv4.ip_forward", 1)
        self.router.sysctl("net.ipv6.conf.all.forwarding", 1)
        self._join()
        for namespace in made:
            namespace.wait_ready()

    def _namespace(self, name: str) -> Namespace:
        full = f"{self.prefix}-{name}"
        subprocess.run(["ip", "netns", "add", full], check=True)
        holder = _mounts(full, self.folder)
        made = Namespace(full, holder)
        self._namespaces.append(made)
        for where in ("all", "default"):
            made.sysctl(f"net.ipv6.conf.{where}.accept_dad", 0)  # else addresses are of no use for their first second
            made.sysctl(f"net.ipv6.conf.{where}.accept_ra", 0)
            made.sysctl(f"net.ipv4.conf.{where}.rp_filter", 0)
        with contextlib.suppress(FileNotFoundError):  # br_netfilter may be absent
            for family in ("ip", "ip6"):
                made.sysctl(f"net.bridge.bridge-nf-call-{family}tables", 0)  # 1 in a new namespace here
        return made

    def _join(self) -> None:
        self.router.ip_batch(
            f"link add rc type veth peer name c0 netns {self.client.name}\n"
            f"link add rs type veth peer name s0 netns {self.server.name}\n"
            f"addr add {ROUTER4}/24 dev rc\naddr add {ROUTER6}/64 dev rc nodad\n"
            f"addr add {ROUTER_OUT4}/24 dev rs\naddr add {ROUTER_OUT6}/64 dev rs nodad\n"
            "link set rc up\nlink set rs up\n"
        )
        self.client.ip_batch(
            f"addr add {CLIENT4}/24 dev c0\naddr add {CLIENT6}/64 dev c0 nodad\nlink set c0 up\n"
            f"route add default via {ROUTER4}\nroute add ::/0 via {ROUTER6}\n"
        )
        addresses = "".join(f"addr add {address}/24 dev s0\n" for address in [*SERVERS4, NAMESERVER4])
        addresses += "".join(f"addr add {address}/64 dev s0 nodad\n" for address in SERVERS6)
        self.server.ip_batch(
            f"{addresses}link set s0 up\nroute add default via {ROUTER_OUT4}\nroute add ::/0 via {ROUTER_OUT6}\n"
        )
        if self.container is not None:
            self.router.ip_batch(
                "link add br0 address 02:09:03:00:00:01 type bridge\n"  # its own, as Docker's: else that of a port
                f"link add rk type veth peer name k0 netns {self.container.name}\n"
                "link set rk master br0\naddr add 10.9.3.1/24 dev br0\naddr add fd09:3::1/64 dev br0 nodad\n"
                "link set br0 up\nlink set rk up\n"
            )
            self.container.ip_batch(
                f"addr add {CONTAINER4}/24 dev k0\naddr add {CONTAINER6}/64 dev k0 nodad\nlink set k0 up\n"
                "route add default via 10.9.3.1\nroute add ::/0 via fd09:3::1\n"
            )

    # ---- what is in it -----------------------------------------------------------------------------------------------
    def keep(self, context: Any) -> Any:
        """Enter a context manager that ends with the lab; returns what it gives."""
        return self._stack.enter_context(context)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """What is kept, served, captured within the block ends with it: several tests share a lab."""
        outer, self._stack = self._stack, ExitStack()
        try:
            yield
        finally:
            inner, self._stack = self._stack, outer
            inner.close()

    def at_end(self, act: Callable[[], object]) -> None:
        self._stack.callback(act)

    def hosts(self, names: Mapping[str, str | Sequence[str]]) -> None:
        """From now on /etc/hosts of every process in the lab holds these names and no others."""
        lines = ["127.0.0.1 localhost", "::1 localhost"]
        for name, addresses in names.items():
            lines += [f"{one} {name}" for one in ([addresses] if isinstance(addresses, str) else addresses)]
        with (self.folder / "hosts").open("r+") as file:  # in place: the mounts are of this very file
            file.truncate()
            file.write("\n".join(lines) + "\n")

    def serve(self, handler: Handler, port: int, **options: Any) -> TcpServer:
        """A TCP server on every address of the server, IPv4 and IPv6, until the lab ends."""
        where = options.pop("where", self.server)
        server: TcpServer = self.keep(TcpServer(where, handler, port, **options))
        return server

    def provider(self, port: int = 80, **options: Any) -> Provider:
        """An AI provider on every address of the server until the lab ends."""
        made = Provider(hosts=("0.0.0.0", "::"), port=port, enter=self.server.enter, **options)
        provider: Provider = self.keep(made)
        return provider

    def names(self) -> NameServer:
        """A DNS server (which every process here asks) until the lab ends."""
        server: NameServer = self.keep(NameServer(self.server, NAMESERVER4))
        return server

    def capture(self, where: Namespace, interface: str, *expression: str) -> Capture:
        """What passes an interface, until `stop` is called."""
        capture: Capture = self.keep(Capture(where, interface, *expression))
        return capture

    def cgroup(self, name: str) -> Path:
        """A cgroup (v2) of the lab's own. Raises FileExistsError when there is one of this name."""
        made = cgroup_root() / f"{self.prefix}-{name}"
        made.mkdir()
        self._cgroups.append(made)
        return made

    # ---- the end -----------------------------------------------------------------------------------------------------
    def remove(self) -> None:
        left = self._remove()
        problems = [f"left running: {line}" for line in left]
        for _ in range(50):  # a namespace goes a moment after its last process
            difference = self._root.difference(root_state(self.prefix))
            if not difference:
                break
            time.sleep(0.05)
        problems += [f"root namespace: {line}" for line in difference]
        assert not problems, "\n".join(problems)

    def _remove(self) -> list[str]:
        try:
            self._stack.close()
        finally:
            left: list[str] = []
            for namespace in self._namespaces:
                left += namespace.kill_all()
            for namespace in self._namespaces:
                namespace.close()
                subprocess.run(["ip", "netns", "del", namespace.name], check=False)
            self._namespaces.clear()
            for cgroup in self._cgroups:
                remove_cgroup(cgroup)
            shutil.rmtree(self.folder, ignore_errors=True)
        return left


def sweep() -> None:
    """Remove what labs of dead processes left (a pytest that was killed)."""
    folder = Path("/run/netns")
    dead = re.compile(r"sgl(\d+)-")

    def is_dead(name: str) -> bool:
        found = dead.match(name)
        return found is not None and not Path(f"/proc/{found[1]}").exists()

    for path in folder.iterdir() if folder.is_dir() else ():
        if is_dead(path.name):
            subprocess.run(["ip", "netns", "del", path.name], check=False, capture_output=True)
    sweep_cgroups()
    for path in Path("/tmp").glob("sgl*"):
        if is_dead(path.name):
            shutil.rmtree(path, ignore_errors=True)


MOUNTS = """
for file in hosts resolv.conf; do mount --bind "$0/$file" "/etc/$file" || exit 1; done
mkdir -p "$0/cgroup" && mount --rbind /sys/fs/cgroup "$0/cgroup" || exit 1
mount -t sysfs sysfs /sys && mount --rbind "$0/cgroup" /sys/fs/cgroup && umount -l "$0/cgroup" || exit 1
echo ready
exec sleep infinity
"""


def _mounts(name: str, folder: Path) -> "subprocess.Popen[str]":
    """A process in namespace `name` with mounts of its own: /etc/hosts and /etc/resolv.conf are the lab's, /sys shows
    the namespace's devices (`ip netns exec` does so too, and loses the cgroups at that).

    They are slaves of the root's mounts: a namespace that `ip netns del` unmounts goes there too, and is not held.
    """
    words = ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net=/run/netns/{name}"]
    words += ["unshare", "--mount", "--propagation", "slave", "sh", "-c", MOUNTS, str(folder)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
