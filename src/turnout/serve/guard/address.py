"""Which addresses an upstream may have, so that nobody reaches into the machine or its cloud.

An address is judged where it is connected to, after the name was resolved: a name that pointed to
a good address a moment ago may point to another now. Metadata services of clouds, link-local,
multicast, unspecified and reserved addresses are never good. The loopback and private networks
are good only where the configuration names one: as a literal address, as `localhost`, or by
`private = true`. An IPv4 address inside an IPv6 address is judged as what it stands for.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import urlsplit

from turnout.core import InputError

__all__ = ["Target", "check_address", "check_url"]


def _four(*networks: str) -> tuple[IPv4Network, ...]:
    return tuple(map(IPv4Network, networks))


def _six(*networks: str) -> tuple[IPv6Network, ...]:
    return tuple(map(IPv6Network, networks))


#: Where `private = true` leads, and nothing else does.
_PRIVATE_4 = _four(
    *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8"),
    "100.64.0.0/10",  # shared by carriers, and by the pods of some clouds
    "198.18.0.0/15",  # meant for benchmarks; proxies give such addresses to names
)
_PRIVATE_6 = _six("::1/128", "fc00::/7")

#: Never. Spelled out rather than left to `is_global`, whose tables change with Python.
_NEVER_4 = _four(
    *("0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24"),
    *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    *("100.100.100.200/32", "168.63.129.16/32"),  # services of two clouds for their machines
)
_NEVER_6 = _six(
    *("::/128", "100::/64", "100:0:0:1::/64", "2001::/23", "2001:db8::/32", "3fff::/20"),
    *("5f00::/16", "fe80::/10", "fec0::/10", "ff00::/8"),
    "64:ff9b:1::/48",  # translates to private networks
    *("fd00:ec2::/32", "fd20:ce::/32", "fd00:c1::/32"),  # metadata services of three clouds
)
_MAPPED = IPv6Network("::ffff:0:0/96")
#: Each holds an IPv4 address at so many bits from its end.
_HOLDING = ((IPv6Network("2002::/16"), 80), (IPv6Network("64:ff9b::/96"), 0))
#: ISATAP: these, and then an IPv4 address, are the last 64 bits.
_ISATAP = (0x00005EFE, 0x02005EFE)

_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.(?!-)[a-z0-9_-]{1,63})*", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where an upstream is, as its configuration says.

    Parameters
    ----------
    scheme : str
        `http` or `https`.
    host : str
        A name in lower case or a numeric address, without brackets.
    port : int
    path : str
        Without a slash at its end.
    allow_private : bool
        Whether it may resolve to the loopback or a private network.
    """

    scheme: str
    host: str
    port: int
    path: str
    allow_private: bool

    def address_ok(self, ip: str) -> bool:
        """Whether a numeric address that the host resolved to may be connected to."""
        return check_address(ip, allow_private=self.allow_private)


def check_address(ip: str, *, allow_private: bool) -> bool:
    """Whether a numeric address may be connected to.

    Parameters
    ----------
    ip : str
        As `getaddrinfo` gives it; a zone after `%` does not count.
    allow_private : bool
        Whether the loopback and private networks are good.
    """
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return False
    return _good(address, allow_private=allow_private)


def check_url(url: str, *, private: bool = False) -> Target:
    """Take a base URL of an upstream apart, or refuse it; its text is never repeated.

    Parameters
    ----------
    url : str
    private : bool
        The configuration says that it may be on a private network.

    Raises
    ------
    InputError
        It is no plain http(s) URL, its host is spelled in a way that programs read differently,
        or it is an address that is never good.
    """
    hint = "Such as https://api.example.com/v1 or http://127.0.0.1:9000/v1."
    # parsers disagree on what these mean, and one of them drops some of them without a word
    odd = next((mark for mark in url if not "!" <= mark <= "~" or mark in '\\"<>^`{|}'), None)
    if odd is not None:
        raise InputError("upstream", "be a plain http(s) URL", f"the character {odd!r}", hint)
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise InputError("upstream", "be a plain http(s) URL", "a malformed URL", hint) from None
    wrong = None
    if parts.scheme not in ("http", "https") or not host:
        wrong = "no http:// or https:// with a host"
    elif "@" in parts.netloc:
        wrong = "a user name or password in the URL"
    elif "?" in url or "#" in url:
        wrong = "a query or fragment in the URL"
    elif port == 0:
        wrong = "port 0"
    if wrong is not None:
        raise InputError("upstream", "be a plain http(s) URL", wrong, hint)
    literal, host = _host(host, bracketed="[" in parts.netloc)
    if literal is not None and not _good(literal, allow_private=True):
        rule = "not be link-local, multicast, unspecified, reserved or a metadata service"
        raise InputError("upstream", rule, "such an address", "Name another host.")
    local = host == "localhost" or (literal is not None and not _good(literal, allow_private=False))
    return Target(
        scheme=parts.scheme,
        host=host,
        port=port or (443 if parts.scheme == "https" else 80),
        path=parts.path.rstrip("/"),
        allow_private=private or local,
    )


def _host(host: str, *, bracketed: bool) -> tuple[IPv4Address | IPv6Address | None, str]:
    """The host as a literal address, if it is one, and as it is to be resolved."""
    hint = "Write 127.0.0.1, [::1] or a name in ASCII letters, without anything else."

    def wrong(what: str) -> InputError:
        return InputError("upstream", "name its host plainly", what, hint)

    if "%" in host:
        raise wrong("a zone or an escape in the host")
    if bracketed:
        try:
            six = IPv6Address(host)
        except ValueError:
            raise wrong("brackets around something else than an IPv6 address") from None
        return six, str(six)
    try:
        return IPv4Address(host), host
    except ValueError:
        host = host.removesuffix(".")
    if not _NAME.fullmatch(host) or len(host) > 253:
        raise wrong("neither an address nor a name")
    try:
        # what a resolver takes for an address is one, however it is spelled: 2130706433, 0x7f.1
        socket.inet_aton(host)
    except OSError:
        pass
    else:
        raise wrong("an IPv4 address spelled in an unusual way")
    if host.rpartition(".")[2].isdigit():
        raise wrong("a name that ends in a number")
    return None, host


def _good(address: IPv4Address | IPv6Address, *, allow_private: bool) -> bool:
    if isinstance(address, IPv4Address):
        if any(address in network for network in _NEVER_4):
            return False
        return allow_private or not any(address in network for network in _PRIVATE_4)
    if address in _MAPPED:
        return _good(IPv4Address(int(address) & 0xFFFFFFFF), allow_private=allow_private)
    for network, shift in _HOLDING:
        if address in network:
            # nobody reaches a private network that way on purpose
            return _good(IPv4Address(int(address) >> shift & 0xFFFFFFFF), allow_private=False)
    if any(address in network for network in _NEVER_6):
        return False
    if any(address in network for network in _PRIVATE_6):
        return allow_private
    if int(address) >> 32 & 0xFFFFFFFF in _ISATAP:
        return _good(IPv4Address(int(address) & 0xFFFFFFFF), allow_private=False)
    # all that is given out to be reached by everybody
    return address in _GLOBAL_6


_GLOBAL_6 = IPv6Network("2000::/3")
