"""Ends connections that are open: by sock_diag in our network namespace, by a copy of the socket in others."""

import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import Final

from gateway.probes import sock_diag
from gateway.probes.callers import Callers
from gateway.probes.denial_maps import Compiled
from gateway.probes.denial_rules import DenialRule, in_networks
from gateway.probes.feature import cgroup_of, cgroup_root
from gateway.probes.identity import holders, read_process, socket_by_cookie
from gateway.probes.stamps import Address, Flow, Stamp

log = logging.getLogger("sluicegate.probes")

PROTOCOLS: Final = (socket.IPPROTO_TCP, socket.IPPROTO_UDP)


class Cutter:
    """May take a while: to be used off the event loop."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers
        self.spared: frozenset[int] = frozenset()
        """Processes of the gateway: no rule cuts their connections."""

    def cut(self, flow: Flow) -> bool:
        """One TCP connection. False: there is none. Raises OSError."""
        stamp = self._callers.stamp_of(flow)
        if stamp is None and not self._callers.scope.whole:
            found = sock_diag.find(flow)
            if found is None or not any(map(self._is_in_scope, holders(found.inode))):
                return False
        return sock_diag.destroy(flow) or (stamp is not None and _shut(stamp))

    def cut_of_process(self, pid: int, address: Address, port: int) -> int:
        """All that a process has with an address; how many. Raises OSError."""
        done = 0
        if not self._is_in_scope(pid):
            return 0
        for flow, protocol, stamp, pids in self._open():
            if flow.destination == address and flow.destination_port == port and pid in pids():
                done += _end(flow, protocol, stamp)
        return done

    def cut_by_rule(self, rule: DenialRule, compiled: Compiled, pids: set[int] | None = None) -> None:
        """What it denies, of these processes alone where they are given."""
        done = 0
        with contextlib.suppress(OSError):
            for flow, protocol, stamp, owners in self._open():
                if self._goes_to(flow, compiled):
                    found = owners() - self.spared
                    fitting = (pid for pid in found if self._fits(pid, rule, stamp))
                    if (pids is None or found & pids) and any(fitting):
                        done += _end(flow, protocol, stamp)
        if done:
            log.info("connections were cut", extra={"denial": rule.id, "connections": done})

    def _goes_to(self, flow: Flow, compiled: Compiled) -> bool:
        if compiled.networks is not None and not in_networks(flow.destination, compiled.networks):
            return False
        return compiled.ports is None or flow.destination_port in compiled.ports

    def _open(self) -> Iterator[tuple[Flow, int, Stamp | None, "_Owners"]]:
        """All connections: of this network namespace, and of others those whose caller is known. Raises OSError."""
        stamped = dict(self._callers.open_flows())
        for protocol in PROTOCOLS:
            for flow, found in sock_diag.connections(protocol):
                stamp = stamped.pop(flow, None) if protocol == socket.IPPROTO_TCP else None
                if stamp is not None and stamp.cookie != found.cookie:
                    stamp = None
                yield flow, protocol, stamp, _Owners(stamp, found.inode)
        for flow, stamp in stamped.items():
            yield flow, socket.IPPROTO_TCP, stamp, _Owners(stamp, 0)

    def _is_in_scope(self, pid: int) -> bool:
        try:
            return self._callers.scope.holds(read_process(pid).cgroup)
        except OSError:
            return False

    def _fits(self, pid: int, rule: DenialRule, stamp: Stamp | None) -> bool:
        try:
            process = read_process(pid)
            if not self._callers.scope.holds(process.cgroup):
                return False
            if rule.uid is not None and (process.uid if stamp is None else stamp.uid) != rule.uid:
                return False
            if rule.cgroup is not None:
                folder = cgroup_root() / rule.cgroup.lstrip("/")
                if folder not in (cgroup_of(pid), *cgroup_of(pid).parents):
                    return False
        except OSError:
            return False
        container = self._callers.identities.container(process) if rule.container is not None else None
        return rule.fits_process(process, container)


class _Owners:
    """Whose a connection is, found when it is asked for."""

    def __init__(self, stamp: Stamp | None, inode: int) -> None:
        self._stamp = stamp
        self._inode = inode

    def __call__(self) -> set[int]:
        if self._stamp is not None:
            return {self._stamp.tgid}
        return holders(self._inode) if self._inode else set()


def _end(flow: Flow, protocol: int, stamp: Stamp | None) -> bool:
    """Raises OSError."""
    return sock_diag.destroy(flow, protocol) or (stamp is not None and _shut(stamp))


def _shut(stamp: Stamp) -> bool:
    sock = socket_by_cookie(stamp.tgid, stamp.cookie)
    if sock is None:
        return False
    with sock, contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    return True
