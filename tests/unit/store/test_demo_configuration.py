"""What `sluicegate demo` applies makes a good first impression in the catalogue, too."""

from gateway.demo.show import CONFIGURATION
from gateway.store.documents import GatewayDocument
from gateway.store.service_documents import Access
from gateway.store.yaml_source import Source


def test_the_demos_service_says_what_it_is_and_is_there_for_everybody() -> None:
    environment = {"SLUICEGATE_DEMO_PORT": "8099", "SLUICEGATE_DEMO_KEY": "sk-sg-" + "x" * 40}
    source = Source(CONFIGURATION.read_text(), file="sluicegate.yaml", environment=environment)
    (route,) = GatewayDocument.model_validate(source.values).routes
    service = route.service
    assert service is not None
    assert (service.title, service.access) == ("Demo chat", Access.OPEN)
    assert service.owner
    assert "runs on this machine" in (service.description or "")
