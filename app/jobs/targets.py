"""Which addresses notices may go to: public ones by https, unless an admin has allowed the own network.

What an address itself shows is refused when a job is made. Names are resolved when a notice is sent, once,
and every address that comes of it is checked; the connection goes to a checked address, so a name that
changes its mind in between gains nothing. The admin's word is the setting `webhooks`, `{"private": true}`.
"""

import ipaddress
import socket
from contextlib import suppress
from urllib.parse import SplitResult, urlsplit

from sqlalchemy.orm import Session

from app.accounts.models import Setting


class TargetRefused(Exception):
    """The address may not be called; the message says why."""


PRIVATE = "the address is in a private network; an admin can allow that"


def check_address(url: str, *, private: bool) -> SplitResult:
    """The parts of an address that could be called, as far as it can be told without asking for its name.

    Errors: TargetRefused.
    """
    try:
        parts = urlsplit(url)
        if parts.port == 0:
            raise ValueError
    except ValueError as error:
        raise TargetRefused("the address cannot be read") from error
    if parts.scheme != "https" and not (private and parts.scheme == "http"):
        raise TargetRefused("only https addresses are called")
    if not parts.hostname or parts.username or parts.password:
        raise TargetRefused("the address has no plain host name")
    with suppress(ValueError):
        if not private and not is_public(ipaddress.ip_address(parts.hostname)):
            raise TargetRefused(PRIVATE)
    return parts


def pinned(url: str, *, private: bool) -> tuple[str, str]:
    """The address with its name replaced by a checked IP, and the Host header. Errors: TargetRefused."""
    parts = check_address(url, private=private)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        raise TargetRefused("the name cannot be resolved") from error
    addresses = [ipaddress.ip_address(entry[4][0]) for entry in found]
    if not private and not all(is_public(address) for address in addresses):
        raise TargetRefused(PRIVATE)
    chosen = addresses[0]
    literal = f"[{chosen}]" if chosen.version == 6 else str(chosen)
    return parts._replace(netloc=f"{literal}:{port}", fragment="").geturl(), parts.netloc


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Reachable for everybody: not loopback, private, link-local, shared, multicast, nor such inside IPv6."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is not None:
            return is_public(inner)
        if address in ipaddress.ip_network("64:ff9b::/96"):
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return address.is_global and not address.is_multicast


def private_allowed(db: Session) -> bool:
    row = db.get(Setting, "webhooks")
    return bool(row and row.value.get("private"))
