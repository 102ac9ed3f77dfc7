"""One error hierarchy: status, code and retry class are settled where the error is born.

`message` says what happened, `fix` what the caller can do about it. A dialect renders it for its callers
(`gateway.dialects`), the REST API as RFC 9457 problem details (`gateway.api`).
"""

from typing import Any


class SluicegateError(Exception):
    """Base of every error that a caller may see.

    `fields` holds machine-readable facts (the limit's name, `used`, `resets_at`, the route names allowed, …) that the
    rendering adds to the body; values are JSON-ready and never secret.
    """

    status = 500
    code = "internal_error"
    retryable = False
    """Whether the same request may succeed later without any change: SDKs are told by `x-should-retry`."""

    def __init__(self, message: str, *, fix: str = "", retry_after_s: float | None = None, **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.retry_after_s = retry_after_s
        self.fields = fields

    def __str__(self) -> str:
        return f"{self.message}; {self.fix}" if self.fix else self.message


class BadRequest(SluicegateError):
    status, code = 400, "bad_request"


class MalformedRequest(BadRequest):
    """What came is not one HTTP request, strictly read. `status` says what about it."""

    code = "malformed_request"

    def __init__(self, status: int, message: str, *, fix: str = "") -> None:
        super().__init__(message, fix=fix)
        self.status = status


class RequestExceedsLimit(SluicegateError):
    """The request alone is larger than the whole limit: waiting would not help."""

    status, code = 400, "request_exceeds_limit"


class DialectUnsupported(SluicegateError):
    """No target of the route speaks the caller's dialect, and no translation exists."""

    status, code = 400, "dialect_unsupported"


class Unauthenticated(SluicegateError):
    status, code = 401, "invalid_api_key"


class Forbidden(SluicegateError):
    status, code = 403, "forbidden"


class RouteNotAllowed(Forbidden):
    code = "route_not_allowed"


class NotFound(SluicegateError):
    status, code = 404, "not_found"


class RouteNotFound(NotFound):
    code = "route_not_found"


class Conflict(SluicegateError):
    status, code = 409, "conflict"


class PreconditionFailed(SluicegateError):
    """The `If-Match` of a change does not name the present state (RFC 9110 13.1.1)."""

    status, code = 412, "precondition_failed"


class BodyTooLarge(SluicegateError):
    status, code = 413, "body_too_large"


class Invalid(SluicegateError):
    """Configuration that cannot be accepted; `fields["errors"]` lists field, problem and remedy."""

    status, code = 422, "invalid"


class LimitExceeded(SluicegateError):
    status, code, retryable = 429, "limit_exceeded", True


class UpstreamFailed(SluicegateError):
    """The upstream broke off, refused the connection or answered 5xx on every attempt."""

    status, code, retryable = 502, "upstream_failed", True


class CredentialsRefused(UpstreamFailed):
    """The provider refused our credential: the gateway's fault, never the caller's 401."""

    code = "provider_credentials_refused"


class Unavailable(SluicegateError):
    status, code, retryable = 503, "unavailable", True


class NoHealthyTarget(Unavailable):
    code = "no_healthy_target"


class LimitsUnavailable(Unavailable):
    """The quota authority is away and no held lease covers the request."""

    code = "limits_unavailable"


class LedgerUnavailable(Unavailable):
    """The spool is full: nothing may go upstream that could not be recorded."""

    code = "ledger_unavailable"


class UpstreamTimeout(SluicegateError):
    status, code, retryable = 504, "upstream_timeout", True
