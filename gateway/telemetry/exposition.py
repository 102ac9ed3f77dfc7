"""Families of our own in Prometheus's text: headings for both of its formats, labels escaped.

Only what is too many for objects is written so (series that are kept as text); everything else goes through
prometheus_client. Formats: Prometheus text 0.0.4, OpenMetrics 1.0.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """`name` without a counter's `_total`; OpenMetrics' heading leaves it out, the older format's has it."""

    name: str
    kind: Kind
    meaning: str

    def heading(self, *, openmetrics: bool) -> str:
        name = f"{self.name}_total" if self.kind is Kind.COUNTER and not openmetrics else self.name
        return f"# HELP {name} {self.meaning}\n# TYPE {name} {self.kind}\n"


def labelled(**labels: str) -> str:
    """`name="value",…` as it stands between the braces."""
    return ",".join([f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items()])
