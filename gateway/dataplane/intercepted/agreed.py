"""Which protocol is spoken inside a client's TLS is known once the handshake is over."""

import asyncio
import ssl
from typing import TYPE_CHECKING

from gateway.dataplane.intercepted.flow import Flow
from gateway.dataplane.intercepted.terminating import H2, HTTP1

if TYPE_CHECKING:
    from gateway.dataplane.intercepted.hall import Hall


class Agreed(asyncio.Protocol):
    """Gives its place to whoever speaks what was agreed upon."""

    def __init__(self, hall: "Hall", flow: Flow, tls: ssl.SSLContext, alpn: tuple[bytes, ...]) -> None:
        """`tls`: how to speak to the destination; `alpn`: what the client has offered, `h2` among it."""
        self._hall = hall
        self._flow = flow
        self._tls = tls
        self._alpn = alpn

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        spoken = transport.get_extra_info("ssl_object").selected_alpn_protocol()
        protocol: asyncio.Protocol
        if spoken == H2.decode():
            from gateway.dataplane.intercepted.h2_front import H2Front  # megabytes of tables, for those who need them

            protocol = H2Front(self._hall, self._flow, self._tls, alone=HTTP1 not in self._alpn)
        else:
            protocol = self._hall.session(self._hall, self._flow, None, self._tls)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
