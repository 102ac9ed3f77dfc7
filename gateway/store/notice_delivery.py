"""Bring one notice to one destination: mail by SMTP, webhooks by POST, signed as standardwebhooks.com says.

Each attempt has one deadline for all of it, whatever the other side sends meanwhile. Whether it is tried, and when
again, is `keeper_notices`' to say.
"""

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import ssl
from dataclasses import dataclass, field
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any, Final

import aiosmtplib
import httpx2
import orjson

from gateway.listening import split_address
from gateway.settings import Settings

MAIL_S: Final = 60.0
"""For all of a mail, from looking its server up to what that says in the end."""
FAREWELL_S: Final = 2.0
POST_S: Final = 30.0
"""For all of a webhook."""
SECRET_MARK: Final = "whsec_"  # noqa: S105 - how a secret begins, and none


class NotDelivered(Exception):
    """Why, in words."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """One delivery that is due. `tried`: how often before."""

    delivery_id: int
    notice_id: int
    channel: str
    destination: str
    tried: int
    kind: str
    title: str
    team: str | None
    at: datetime
    document: dict[str, Any]
    installation: str
    secret: str | None = field(repr=False)
    """Of a webhook whose messages are signed."""


async def mail(settings: Settings, parcel: Parcel) -> None:
    """Done when the server has taken it: how it says good-bye does not matter. Raises NotDelivered."""
    if settings.smtp is None:
        raise NotDelivered("no mail server is named any more: set `smtp`")
    letter = message(settings, parcel)
    host, port = split_address(settings.smtp)
    server = aiosmtplib.SMTP(
        hostname=host,
        port=port,
        timeout=None,
        use_tls=settings.smtp_security == "tls",
        start_tls=settings.smtp_security == "starttls",
        tls_context=None if settings.smtp_security == "none" else ssl.create_default_context(),
    )
    try:
        async with asyncio.timeout(MAIL_S):
            await server.connect()
            if settings.smtp_user is not None and settings.smtp_password is not None:
                await server.login(settings.smtp_user, settings.smtp_password.get_secret_value())
            await server.send_message(letter)
        with contextlib.suppress(OSError, aiosmtplib.SMTPException):
            async with asyncio.timeout(FAREWELL_S):
                await server.quit()
    except TimeoutError:
        raise NotDelivered(f"{settings.smtp}: it did not take the mail within {MAIL_S:.0f} s") from None
    except (OSError, aiosmtplib.SMTPException, ValueError) as error:
        raise NotDelivered(f"{settings.smtp}: {str(error) or type(error).__name__}"[:500]) from None
    finally:
        server.close()


def message(settings: Settings, parcel: Parcel) -> EmailMessage:
    """The id is the delivery's own, so that a mail that was sent twice is known as one."""
    found = EmailMessage()
    found["Subject"] = " ".join(parcel.title.split())[:200]
    found["From"] = settings.smtp_from
    found["To"] = parcel.destination
    found["Date"] = format_datetime(parcel.at)
    found["Message-ID"] = f"<notice-{parcel.notice_id}-{parcel.delivery_id}@{parcel.installation}>"
    found["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's absence answers it
    lines = [parcel.title, ""]
    lines += [
        f"{name.replace('_', ' ')}: {_plain(value)}" for name, value in parcel.document.items() if value is not None
    ]
    lines += ["", _link(settings, parcel) or "The console of the gateway has the rest."]
    found.set_content("\n".join(lines) + "\n")
    return found


async def post(client: httpx2.AsyncClient, settings: Settings, parcel: Parcel, now_s: int) -> None:
    """Any 2xx will do. No redirect is followed: it would lead where nobody said. Raises NotDelivered."""
    content = orjson.dumps(
        {
            "type": f"notice.{parcel.kind}",
            "timestamp": parcel.at.isoformat(),
            "data": {
                "notice": parcel.notice_id,
                "title": parcel.title,
                "team": parcel.team,
                "url": _link(settings, parcel),
                **parcel.document,
            },
        }
    )
    headers = {"content-type": "application/json", **signed(parcel, content, now_s)}
    try:
        async with (
            asyncio.timeout(POST_S),
            client.stream(
                "POST", parcel.destination, content=content, headers=headers, follow_redirects=False
            ) as answer,
        ):
            status, delivered = answer.status_code, answer.is_success  # what else it says may be endless
    except TimeoutError:
        raise NotDelivered(f"it did not answer within {POST_S:.0f} s") from None
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise NotDelivered(str(error)[:500] or type(error).__name__) from None
    if not delivered:
        raise NotDelivered(f"it answered {status}")


def signed(parcel: Parcel, content: bytes, now_s: int) -> dict[str, str]:
    """Headers by which the receiver knows the sender, the time, and a message that came twice."""
    message_id = f"notice_{parcel.installation}_{parcel.delivery_id}"
    headers = {"webhook-id": message_id, "webhook-timestamp": str(now_s)}
    if parcel.secret is not None:
        try:
            key = base64.b64decode(parcel.secret.removeprefix(SECRET_MARK), validate=True)
        except (binascii.Error, ValueError):
            raise NotDelivered("the webhook's secret is not base64: make another one") from None
        digest = hmac.new(key, f"{message_id}.{now_s}.".encode() + content, hashlib.sha256).digest()
        headers["webhook-signature"] = "v1," + base64.b64encode(digest).decode()
    return headers


def _link(settings: Settings, parcel: Parcel) -> str | None:
    if settings.public_url is None:
        return None
    page = f"access-requests/{parcel.document['request']}" if "request" in parcel.document else "usage"
    return f"{settings.public_url.rstrip('/')}/console/{page}"


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
