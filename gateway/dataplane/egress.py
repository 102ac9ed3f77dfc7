"""Where the forward proxy may go for an app, worked out once a snapshot, and the way there: names are looked up first,
every address is judged, and the connection goes to that very address."""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from gateway.dataplane.dialer import Dialer
from gateway.dataplane.dialing import over
from gateway.dataplane.upstream import origin_of
from gateway.errors import Forbidden, UpstreamFailed, UpstreamTimeout
from gateway.policy.egress import Address, Destination, Egress, address_of, parse_destination
from gateway.policy.model import App
from gateway.policy.snapshot import Snapshot

if TYPE_CHECKING:
    from gateway.dataplane.plane import Plane

LOOKUP_SECONDS: Final = 5.0
CONNECT_SECONDS: Final = 10.0
MOST_ADDRESSES: Final = 6
"""Tried in turn, the first as long as half of the time."""

Peer = TypeVar("Peer", bound=asyncio.Protocol)


class DestinationNotAllowed(Forbidden):
    code = "destination_not_allowed"


class EgressBook:
    """What each app may reach under one snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.provider_hosts = frozenset(
            (origin.host, origin.port)
            for origin in (origin_of(provider.base_url) for provider in snapshot.providers.values())
        )
        """Host and port of every provider."""
        self._by_app: dict[str, Egress] = {}

    def of(self, app: App) -> Egress:
        found = self._by_app.get(app.name)
        if found is None:
            found = self._by_app[app.name] = Egress([*map(parse_destination, app.egress), *self._of_routes(app)])
        return found

    def _of_routes(self, app: App) -> list[Destination]:
        """The hosts of the providers behind the routes that it may call, and those that HTTP routes claim."""
        wanted: set[str] = set()
        for name, route in self.snapshot.routes.items():
            if app.routes is not None and name not in app.routes:
                continue
            if route.match is not None and route.match.host:
                wanted.add(route.match.host)
            for target in route.targets:
                origin = origin_of(target.provider.base_url)
                wanted.add(f"[{origin.host}]:{origin.port}" if ":" in origin.host else f"{origin.host}:{origin.port}")
        return [parse_destination(each) for each in sorted(wanted)]


def judge(egress: Egress, app: App, host: str, port: int) -> Destination:
    """The entry that lets the app go there. Raises DestinationNotAllowed."""
    found = egress.find(host, port)
    if found is None:
        raise DestinationNotAllowed(
            f"app {app.name} may not reach {host}:{port}",
            fix=f"ask an operator to add {host} to the app's `egress`, or a route to that provider to its `routes`",
        )
    return found


async def reachable(
    plane: "Plane", egress: Egress, by: Destination, host: str, port: int
) -> list[tuple[socket.AddressFamily, Address]]:
    """The addresses of the host that may be connected to. Raises DestinationNotAllowed where it has others only,
    UpstreamFailed where it has none."""
    loop = asyncio.get_running_loop()
    literal = address_of(host)
    if literal is None:
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except TimeoutError:
            raise UpstreamTimeout(f"{host} was not found in DNS in time", fix="try again shortly") from None
        except OSError as error:
            raise UpstreamFailed(f"{host} is not in DNS ({error.strerror})", fix="check the host's name") from None
        addresses = [ipaddress.ip_address(str(info[4][0]).split("%")[0]) for info in found]
    else:
        addresses = [literal]
    ours = {own_port for _, own_port in plane.own_addresses}
    allowed = [
        (socket.AF_INET6 if address.version == 6 else socket.AF_INET, address)
        for address in dict.fromkeys(addresses)
        if egress.allows_address(by, address, port) and not (port in ours and _is_local(address))
    ]
    if not allowed:
        shown = ", ".join(map(str, dict.fromkeys(addresses)))
        raise DestinationNotAllowed(
            f"{host} leads to {shown}, which its entry in `egress` does not cover",
            fix=f"an operator who means it adds the address itself to the app's `egress`, e.g. {addresses[0]}"
            if port not in ours
            else "the gateway does not connect to itself",
        )
    return allowed[:MOST_ADDRESSES]


async def connect(
    dialer: Dialer,
    addresses: Sequence[tuple[socket.AddressFamily, Address]],
    port: int,
    factory: Callable[[], Peer],
    name: str,
) -> Peer:
    """A connection to the first address that takes it. Raises UpstreamFailed or UpstreamTimeout."""
    reason = "no address"
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            for at, (family, address) in enumerate(addresses):
                last = at == len(addresses) - 1
                try:
                    async with asyncio.timeout(None if last else CONNECT_SECONDS / 2):
                        sock = await dialer.connect_to([(family, str(address))], port)
                    _, peer = await over(sock, factory, None, None)
                except TimeoutError:
                    if last:
                        raise
                    continue
                except OSError as error:
                    reason = error.strerror or str(error)
                    continue
                return peer
    except TimeoutError:
        raise UpstreamTimeout(f"{name}: no connection in {CONNECT_SECONDS:.0f} s", fix="try again shortly") from None
    raise UpstreamFailed(f"{name}: cannot connect ({reason})", fix="check the host and port, then try again")


def _is_local(address: Address) -> bool:
    """Whether the address is one of this host's: the kernel then answers from that very address."""
    if address.is_loopback or address.is_unspecified:
        return True
    try:
        with socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))
            return str(probe.getsockname()[0]) == str(address)
    except OSError:
        return False
