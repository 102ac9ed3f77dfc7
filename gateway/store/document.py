"""What every document is: a strict, frozen model."""

from pydantic import BaseModel, ConfigDict


class Document(BaseModel):
    """Refuses names it does not know: a misspelt option must not be dropped in silence."""

    model_config = ConfigDict(extra="forbid", frozen=True)
