"""Network namespaces for tests/kernel: see lab.py for the network, gateway.py for gateway and agent in it."""

from tests.support.lab.gateway import Agent, Gateway, gateway
from tests.support.lab.lab import Lab
from tests.support.lab.namespace import Namespace

__all__ = ["Agent", "Gateway", "Lab", "Namespace", "gateway"]
