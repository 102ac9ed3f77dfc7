"""The kernel's figures of a route and target as the REST API shows them. docs/telemetry.md says what each means."""

from typing import Any, Final

from pydantic import BaseModel

from gateway.probes.histogram import percentiles_ms
from gateway.store.kernel_series import Measured

NS_A_SECOND: Final = 1_000_000_000
RESETS: Final = {
    "upstream": "resets_in", "gateway_to_upstream": "resets_out", "client": "client_resets_in",
    "gateway_to_client": "client_resets_out",
}  # fmt: skip
FULL: Final = {
    "upstream": "full_ns", "client": "client_full_ns", "gateway_from_upstream": "we_full_ns",
    "gateway_from_client": "client_we_full_ns",
}  # fmt: skip


class Distribution(BaseModel):
    p50: float
    p95: float
    p99: float
    count: int


class KernelView(BaseModel):
    """Times in milliseconds; null = not measured, never 0."""

    connect_ms: Distribution | None
    """From connect() to the handshake's end, of new upstream connections."""
    rtt_ms: Distribution | None
    """Smoothed round-trip time to the upstream: at the handshake, then at most every 100 ms of traffic."""
    client_rtt_ms: Distribution | None
    first_byte_ms: Distribution | None
    """From the request's last segment out to the answer's first segment in: network and provider."""
    client_first_byte_ms: Distribution | None
    """From the request's last segment in to the answer's first segment out: all that the client waits for."""
    token_gap_ms: Distribution | None
    """Between segments of an answer as they come from the upstream."""
    accept_wait_ms: Distribution | None
    """How long a new client connection waited for a worker."""
    retransmits: int | None
    """Segments sent again, to the upstream."""
    client_retransmits: int | None
    resets: int | None
    """RST segments on either side, from whichever end."""
    resets_by: dict[str, int] | None
    """The same by who sent them to whom: `upstream`, `gateway_to_upstream`, `client`, `gateway_to_client`."""
    open_connections: int | None
    """To the upstream, as they stand."""
    client_connections: int | None
    """From clients, as they stand."""
    bytes_in: int | None
    """TCP payload from the upstream."""
    bytes_out: int | None
    client_bytes_in: int | None
    client_bytes_out: int | None
    full_s: dict[str, float] | None
    """Seconds for which a window was closed, by who took nothing more: `upstream`, `client`, or the gateway with what
    came from one of them (`gateway_from_upstream`, `gateway_from_client`). Summed over connections."""


def view_of(measured: Measured | None) -> dict[str, Any]:
    """The fields of `KernelView`."""
    if measured is None:
        return dict.fromkeys(KernelView.model_fields)
    counts, gauges = measured.counts, measured.gauges
    if gauges.get("sampled"):  # from the list of sockets: it tells nothing of these
        resets, full_s = None, None
    else:
        resets = {name: counts.get(key, 0) for name, key in RESETS.items()}
        full_s = {name: round(counts.get(key, 0) / NS_A_SECOND, 6) for name, key in FULL.items()}
    return {
        "connect_ms": _distribution(measured, "connect"),
        "rtt_ms": _distribution(measured, "rtt"),
        "client_rtt_ms": _distribution(measured, "client_rtt"),
        "first_byte_ms": _distribution(measured, "first_byte"),
        "client_first_byte_ms": _distribution(measured, "client_first_byte"),
        "token_gap_ms": _distribution(measured, "gap"),
        "accept_wait_ms": _distribution(measured, "accept_wait"),
        "retransmits": counts.get("retransmits", 0),
        "client_retransmits": counts.get("client_retransmits", 0),
        "resets": None if resets is None else sum(resets.values()),
        "resets_by": resets,
        "open_connections": max(0, gauges.get("open", 0)),
        "client_connections": max(0, gauges.get("client_open", 0)),
        "bytes_in": counts.get("bytes_in", 0),
        "bytes_out": counts.get("bytes_out", 0),
        "client_bytes_in": counts.get("client_bytes_in", 0),
        "client_bytes_out": counts.get("client_bytes_out", 0),
        "full_s": full_s,
    }


def _distribution(measured: Measured, name: str) -> Distribution | None:
    found = percentiles_ms(measured.histograms.get(name, {}))
    return None if found is None else Distribution(p50=found.p50, p95=found.p95, p99=found.p99, count=found.count)
