"""What a peer sent is not what its specification allows."""


class WireError(Exception):
    """`status` is the HTTP status that tells a caller of it; `message` names the fault and is safe to show."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
