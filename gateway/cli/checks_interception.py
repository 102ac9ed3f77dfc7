"""Checks of what interception needs of this host, and of whom it meets there; silent where no rule asks for it."""

import asyncio
import configparser
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gateway
from gateway import privileges
from gateway.cli import agent_client
from gateway.cli.agent_client import AgentAway
from gateway.cli.checks import Finding, broken, fine, noted, weak
from gateway.cli.service import serving
from gateway.errors import SluicegateError
from gateway.intercept import host_facts
from gateway.intercept.bridges import Bridge
from gateway.intercept.libnftables import Nftables, NftablesMissing, NftablesRefused
from gateway.intercept.marks import Marks, used_bits
from gateway.intercept.policy_routes import PolicyRoutes
from gateway.settings import Settings

TRIED: Final = """
add table inet sluicegate_doctor
add chain inet sluicegate_doctor tried { type filter hook prerouting priority mangle; }
add rule inet sluicegate_doctor tried socket transparent 1 accept
add rule inet sluicegate_doctor tried meta l4proto tcp tproxy to :1 accept
add chain inet sluicegate_doctor redirecting { type nat hook prerouting priority dstnat; }
add rule inet sluicegate_doctor redirecting meta l4proto tcp redirect to :1
"""
MODULES: Final = (
    "modprobe -a nft_tproxy nft_socket nft_redir; where they are missing, a kernel with CONFIG_NFT_TPROXY, "
    "CONFIG_NFT_SOCKET and CONFIG_NFT_REDIR"
)
FORWARD: Final = (
    "iptables -I DOCKER-USER -i LAN -j ACCEPT; iptables -I DOCKER-USER -o LAN -m conntrack --ctstate"
    " ESTABLISHED,RELATED -j ACCEPT  # LAN: the clients' interface"
)
NETWORKD: Final = ("/usr/lib/systemd/networkd.conf.d", "/run/systemd/networkd.conf.d", "/etc/systemd/networkd.conf.d")
KEEP_FOREIGN: Final = ("ManageForeignRoutingPolicyRules", "ManageForeignRoutes")
RUNS_NETWORKD: Final = Path("/run/systemd/netif/state")
CONF: Final = Path("/proc/sys/net")


@dataclass(frozen=True, slots=True)
class Rules:
    """What of the configuration matters here."""

    names: tuple[str, ...]
    ports: tuple[int, ...]
    forwarded: bool
    """Some rule captures what comes through this host."""


def interception_checks(settings: Settings) -> Iterator[Finding]:
    rules = _rules(settings)
    if rules is None:
        return
    said, findings = agent(settings, rules)
    yield from findings
    yield from marking(settings)
    try:
        dry, nft = Nftables(dry_run=True), Nftables()  # a context remembers what it only tried
    except NftablesMissing as error:
        yield broken("nftables", str(error), "apt-get install libnftables1")
    else:
        yield modules(dry)
        yield from others(nft, rules, said)
        dry.close()
        nft.close()
    yield from bridges()
    yield reverse_path()
    yield from ipv6()
    yield from networkd()


def _rules(settings: Settings) -> Rules | None:
    """None where there are none, or no database that could be asked (of which another check speaks)."""
    from sqlalchemy import select
    from sqlalchemy.exc import SQLAlchemyError

    from gateway.store.database import make_engine, read_session
    from gateway.store.models import InterceptionRule

    if settings.database is None and not (settings.data / "sluicegate.sqlite").exists():
        return None
    engine = make_engine(settings.database_url)
    try:
        with read_session(engine) as session:
            rows = session.execute(select(InterceptionRule.name, InterceptionRule.document)).all()
    except SQLAlchemyError:
        return None
    finally:
        engine.dispose()
    if not rows:
        return None
    ports = {int(port) for _, document in rows for port in document["destinations"]["ports"]}
    return Rules(
        tuple(name for name, _ in rows),
        tuple(sorted(ports)),
        any(not document.get("sources") or document["sources"].get("cidrs") for _, document in rows),
    )


def agent(settings: Settings, rules: Rules) -> tuple[dict[str, Any] | None, list[Finding]]:
    """What it says of itself, if it does, and what is to be thought of that."""
    try:
        said = agent_client.ask(settings.agent_socket_path, "status")
    except AgentAway as error:
        return None, [weak("agent", f"{len(rules.names)} interception rules, and {error.message}", error.fix)]
    except SluicegateError as error:
        return None, [broken("agent", error.message, error.fix)]
    findings = []
    if said["release"] != gateway.__version__:
        detail = f"it is release {said['release']}, this is {gateway.__version__}"
        findings.append(weak("agent", detail, "sluicegate service upgrade --agent"))
    if said["trouble"]:
        findings.append(broken("agent", said["trouble"], "see what is broken below, and sluicegate service logs"))
    elif not said["up"]:
        findings.append(weak("agent", "interception is down", "sluicegate intercept up"))
    for rule in said["rules"]:
        if said["up"] and not said["trouble"] and rule["reason"]:
            what = rule["reason"] if rule["armed"] else f"captures nothing: {rule['reason']}"
            findings.append(weak("agent", f"rule {rule['rule']}: {what}", "sluicegate intercept status"))
    for song in said.get("canaries", ()):
        if song["trouble"]:
            detail = f"on {song['path']}, last well {song['last_well'] or 'never'}: {song['trouble']}"
            findings.append(broken("canary", detail, "sluicegate intercept status; sluicegate service logs"))
    return said, findings or [fine("agent", f"{len(said['rules'])} rules armed, {said['workers']} workers answer")]


def marking(settings: Settings) -> Iterator[Finding]:
    """Whether workers may mark their own connections, so that these are not captured again."""
    found = serving(settings.data)
    if found is None:
        return
    try:
        held = privileges.effective_of(found.pid)
    except OSError:
        return
    numbers = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    enough = {privileges.NET_ADMIN, privileges.NET_RAW} if numbers >= (5, 17) else {privileges.NET_ADMIN}
    if held & enough:
        yield fine("own connections", "marked by the gateway's workers, so that they are not captured again")
        return
    name = "CAP_NET_RAW" if numbers >= (5, 17) else "CAP_NET_ADMIN"
    yield weak(
        "own connections",
        f"the gateway may not mark them ({name}): its user is exempt as a whole, whatever program that runs",
        f"AmbientCapabilities={name} in its unit (install.sh again), or start it as root: it keeps no more than that",
    )


def modules(nft: Nftables) -> Finding:
    """Has the kernel look at the expressions that capture, in a transaction that it then throws away."""
    if privileges.NET_ADMIN not in privileges.effective():
        return noted("nftables", "whether the kernel has what captures only root can try", "sudo sluicegate doctor")
    try:
        nft.run(TRIED)
    except NftablesRefused as error:
        return broken("nftables", f"the kernel refuses what captures: {error}", MODULES)
    return fine("nftables", "libnftables is there, and the kernel has nft_tproxy, nft_socket and nft_redir")


def others(nft: Nftables, rules: Rules, said: dict[str, Any] | None) -> Iterator[Finding]:
    """Firewalls, Docker, and who else uses marks."""
    try:
        texts = {name: nft.text(f"list table {' '.join(name)}") for name in nft.tables()}
        chains = [each["chain"] for each in nft.list("list chains") if "chain" in each]
    except NftablesRefused:
        return  # not root: `modules` has said so
    marks = Marks() if said is None else Marks.of(said["marks"])
    if rules.forwarded:
        yield from firewalls(chains, texts, marks, rules)
    strangers = [text for (_, name), text in texts.items() if not name.startswith("sluicegate")]
    yield from mark_bits(strangers, marks)


def firewalls(
    chains: Sequence[dict[str, Any]], texts: dict[tuple[str, str], str], marks: Marks, rules: Rules
) -> Iterator[Finding]:
    """Captured connections of others arrive at this host's input, with the port that the client asked for."""
    mark = f"{marks.forwarded:#x}"
    if ("inet", "firewalld") in texts:
        ports = " ".join(f"--add-port={port}/tcp" for port in rules.ports)
        yield weak(
            "firewalld",
            "captured connections of other hosts come in by its input rules, with their own ports",
            f"firewall-cmd --permanent --zone=ZONE {ports} && firewall-cmd --reload  # ZONE: where the clients are",
        )
    for chain in chains:
        where = f"{chain['family']} {chain['table']} {chain['name']}"
        if chain.get("policy") != "drop" or chain["table"] == "firewalld":
            continue
        text = texts.get((chain["family"], chain["table"]), "")
        if chain.get("hook") == "input" and f"{marks.forwarded:#010x}" not in text:
            yield weak(
                "firewall",
                f"{where} drops what it does not know, and captured connections of other hosts come in by it",
                f"nft insert rule {where} meta mark '&' {mark} == {mark} accept  # and where it is made from",
            )
        if chain.get("hook") == "forward" and chain["name"] == "FORWARD":
            yield weak(
                "forward",
                f"{where} has the policy drop (Docker sets it): what goes past the gateway is dropped there",
                FORWARD,
            )


def mark_bits(strangers: Sequence[str], marks: Marks) -> Iterator[Finding]:
    """Tailscale, WireGuard, Kubernetes and others mark packets, too; the agent chose bits that nobody used."""

    async def fwmarks() -> list[tuple[int, int]]:
        async with PolicyRoutes() as routes:
            return await routes.fwmarks()

    ours = marks.forwarded | marks.upstream | marks.local | marks.field
    used = used_bits(strangers, asyncio.run(fwmarks()))
    if used & ours:
        yield weak(
            "marks",
            f"others use bits {used & ours:#x} of the packet mark, which are ours ({ours:#x})",
            "sluicegate service stop --agent && sluicegate service start  # it chooses others",
        )
    elif used:
        yield fine("marks", f"ours are {ours:#x}; others (Tailscale, WireGuard, Kubernetes, …) use {used:#x}")


def bridges() -> Iterator[Finding]:
    async def read() -> tuple[Bridge, ...]:
        async with PolicyRoutes() as routes:
            return await routes.bridges()

    found = asyncio.run(read())
    routed = ", ".join(bridge.name for bridge in found if bridge.v4 or bridge.v6)
    others = ", ".join(bridge.name for bridge in found if not (bridge.v4 or bridge.v6))
    switch = _number(Path("/proc/sys/net/bridge/bridge-nf-call-iptables"))
    if routed:
        yield fine(
            "bridges", f"what comes in by {routed} is redirected, for which bridge-nf-call-iptables may be {switch}"
        )
    if others:
        yield noted("bridges", f"not captured: what is behind {others}, where this host has no address")


def reverse_path() -> Finding:
    """Pitfalls 5 and 6: with our policy rule no value of the two does harm, and none is changed."""
    strictest = max((_number(each / "rp_filter") for each in (CONF / "ipv4/conf").glob("*")), default=0)
    valid = max((_number(each / "src_valid_mark") for each in (CONF / "ipv4/conf").glob("*")), default=0)
    return fine("reverse path", f"rp_filter {strictest}, src_valid_mark {valid}: both fit as they are")


def ipv6() -> Iterator[Finding]:
    if not host_facts.has_ipv6() or _number(CONF / "ipv6/conf/all/disable_ipv6"):
        yield noted("ipv6", "off on this host, so that IPv4 alone is captured here")


def networkd() -> Iterator[Finding]:
    if not RUNS_NETWORKD.exists():
        return
    told: dict[str, str] = {}
    folders = [Path(folder) for folder in NETWORKD]
    files = [Path("/etc/systemd/networkd.conf"), *(each for one in folders for each in sorted(one.glob("*.conf")))]
    for file in files:
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        try:
            parser.read(file)
        except (configparser.Error, OSError):
            continue
        if parser.has_section("Network"):
            told.update(parser["Network"])
    if all(told.get(name, "yes").lower() in ("no", "false", "0", "off") for name in KEEP_FOREIGN):
        yield fine("networkd", "leaves routes and policy rules of others alone")
        return
    yield weak(
        "networkd",
        "systemd-networkd removes policy rules that are not its own when it restarts; the agent puts ours back at once",
        "mkdir -p /etc/systemd/networkd.conf.d && printf '[Network]\\n"
        + "".join(f"{name}=no\\n" for name in KEEP_FOREIGN)
        + "' > /etc/systemd/networkd.conf.d/sluicegate.conf && systemctl restart systemd-networkd",
    )


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
