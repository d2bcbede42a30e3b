"""Addresses of upstreams: the machine, its network and its cloud are out of reach unless said."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.core import InputError
from turnout.serve.guard.address import check_address, check_url

NEVER = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.0.1",
    "0.0.0.0",
    "0.1.2.3",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "198.51.100.1",
    "203.0.113.1",
    "192.88.99.1",
    "100.100.100.200",
    "168.63.129.16",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fd00:c1::a9fe:a9fe",
    "::ffff:169.254.169.254",
    "::ffff:a9fe:a9fe",
    "::ffff:0.0.0.0",
    "::ffff:224.0.0.1",
    "::ffff:168.63.129.16",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::10.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b:1::1",
    "64:ff9b:1::10.0.0.1",
    "2002:a9fe:a9fe::",
    "2002:0a00:0001::1",
    "2002:7f00:0001::",
    "2002:c0a8:0101::",
    "::127.0.0.1",
    "::10.0.0.1",
    "::169.254.169.254",
    "::ffff:0:10.0.0.1",
    "2001:0:1:2:3:4:5:6",
    "2001:db8::1",
    "3fff::1",
    "5f00::1",
    "100::1",
    "4000::1",
    "2606:4700::5efe:10.0.0.1",
    "2606:4700::200:5efe:127.0.0.1",
]
PRIVATE = [
    "127.0.0.1",
    "127.255.255.255",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "198.18.0.1",
    "::1",
    "fc00::1",
    "fd12:3456::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:c0a8:0101",
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.1",
    "172.15.0.1",
    "172.32.0.1",
    "223.255.255.255",
    "169.253.0.1",
    "192.167.0.1",
    "11.0.0.1",
    "2606:4700::1111",
    "2a00:1450:4001::1",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:0808:0808::1",
    "2001:4860:4860::8888",
]
NONSENSE = ["", "localhost", "127.1", "0x7f.0.0.1", "2130706433", "1.2.3.4.5", "[::1]", "::g", " "]


@pytest.mark.parametrize("ip", NEVER)
def test_never(ip: str) -> None:
    """Link-local, multicast, unspecified, reserved and metadata addresses, in every disguise."""
    assert not check_address(ip, allow_private=False)
    assert not check_address(ip, allow_private=True)


@pytest.mark.parametrize("ip", PRIVATE)
def test_private_where_it_is_said(ip: str) -> None:
    """The loopback and private networks are good only where they are allowed."""
    assert not check_address(ip, allow_private=False)
    assert check_address(ip, allow_private=True)


@pytest.mark.parametrize("ip", PUBLIC)
def test_public(ip: str) -> None:
    """What everybody can reach is good."""
    assert check_address(ip, allow_private=False)
    assert check_address(ip, allow_private=True)


@pytest.mark.parametrize("ip", NONSENSE)
def test_no_address(ip: str) -> None:
    """What is no numeric address is not good."""
    assert not check_address(ip, allow_private=True)


_four = st.ip_addresses(v=4).map(IPv4Address)
_KINDS = ("is_loopback", "is_link_local", "is_multicast", "is_unspecified", "is_reserved")


def kinds(ip: IPv4Address | IPv6Address, *names: str) -> set[str]:
    """What the standard library says that an address is."""
    return {name for name in names if getattr(ip, name)}


@given(_four)
def test_nothing_is_good_that_python_knows_as_bad(four: IPv4Address) -> None:
    """Of what the standard library calls private, link-local and so on, nothing is public."""
    public = check_address(str(four), allow_private=False)
    assert not (public and kinds(four, *_KINDS, "is_private"))
    allowed = check_address(str(four), allow_private=True)
    assert not (allowed and kinds(four, "is_link_local", "is_multicast", "is_unspecified"))


@given(st.ip_addresses(v=6).map(IPv6Address))
def test_the_same_of_version_six(six: IPv6Address) -> None:
    """Nor of version 6, but for the two forms of it that stand for a public IPv4 address."""
    public = check_address(str(six), allow_private=False)
    holds = six.ipv4_mapped or int(six) >> 32 == 0x64FF9B << 64
    assert not (public and not holds and kinds(six, *_KINDS, "is_private", "is_site_local"))


@given(four=_four, allow=st.booleans())
def test_an_address_inside_another_counts_as_itself(four: IPv4Address, allow: bool) -> None:
    """Mapped, it is as good as by itself; through 6to4 and NAT64, only if it is public."""
    number = int(four)
    alone = check_address(str(four), allow_private=allow)
    public = check_address(str(four), allow_private=False)
    assert check_address(str(IPv6Address((0xFFFF << 32) + number)), allow_private=allow) == alone
    through = (
        IPv6Address((0x2002 << 112) + (number << 80) + 1),
        IPv6Address((0x64FF9B << 96) + number),
    )
    assert [check_address(str(ip), allow_private=allow) for ip in through] == [public, public]


def test_spelling_does_not_count() -> None:
    """Long, short, in capitals, with a zone: the same address, the same answer."""
    for ip in ("fd00:ec2::254", "::ffff:169.254.169.254", "2606:4700::1111"):
        six = ipaddress.ip_address(ip)
        expected = check_address(ip, allow_private=True)
        for text in (six.exploded, six.exploded.upper(), f"{six.compressed}%eth0"):
            assert check_address(text, allow_private=True) == expected


# --- URLs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "private"),
    [
        ("https://api.example.com/v1", "api.example.com", 443, "/v1", False),
        ("http://API.Example.com:8000/v1/", "api.example.com", 8000, "/v1", False),
        ("https://api.example.com.", "api.example.com", 443, "", False),
        ("http://localhost:9000/v1", "localhost", 9000, "/v1", True),
        ("http://LOCALHOST./v1", "localhost", 80, "/v1", True),
        ("http://127.0.0.1:9000/v1", "127.0.0.1", 9000, "/v1", True),
        ("http://[::1]:9000/v1", "::1", 9000, "/v1", True),
        ("http://[0:0:0:0:0:0:0:1]", "::1", 80, "", True),
        ("http://10.1.2.3", "10.1.2.3", 80, "", True),
        ("http://[::ffff:10.0.0.1]/", "::ffff:a00:1", 80, "", True),
        ("http://8.8.8.8", "8.8.8.8", 80, "", False),
        ("http://ollama:11434", "ollama", 11434, "", False),
        ("http://my_model.internal", "my_model.internal", 80, "", False),
        ("http://localhost.example.com", "localhost.example.com", 80, "", False),
        ("http://xn--bcher-kva.example", "xn--bcher-kva.example", 80, "", False),
    ],
)
def test_urls(url: str, host: str, port: int, path: str, private: bool) -> None:
    """A plain URL is taken apart; a literal private address or localhost allows private ones."""
    target = check_url(url)
    assert (target.host, target.port, target.path) == (host, port, path)
    assert target.allow_private == private
    assert target.scheme == url[: url.index(":")]
    assert target.address_ok("127.0.0.1") == private
    assert not target.address_ok("169.254.169.254")


def test_private_by_word() -> None:
    """`private = true` lets a name lead to a private network, and not to a metadata service."""
    target = check_url("http://ollama:11434", private=True)
    assert target.address_ok("10.0.0.5")
    assert target.address_ok("8.8.8.8")
    assert not target.address_ok("169.254.169.254")
    assert not check_url("http://ollama:11434").address_ok("10.0.0.5")


@pytest.mark.parametrize("ip", [ip for ip in NEVER if "%" not in ip])
def test_urls_of_addresses_that_are_never_good(ip: str) -> None:
    """No word allows them."""
    host = f"[{ip}]" if ":" in ip else ip
    with pytest.raises(InputError, match="not be link-local") as refused:
        check_url(f"http://{host}/v1", private=True)
    assert ip not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("", "plain http"),
        ("api.example.com", "plain http"),
        ("ftp://api.example.com", "plain http"),
        ("file:///etc/passwd", "plain http"),
        ("http://", "plain http"),
        ("http:///v1", "plain http"),
        ("http://:80/", "plain http"),
        ("http://user@example.com", "user name"),
        ("http://user:secret@example.com", "user name"),
        ("http://@example.com", "user name"),
        ("http://example.com@169.254.169.254/", "user name"),
        ("http://example.com?key=secret", "query or fragment"),
        ("http://example.com/#secret", "query or fragment"),
        ("http://example.com/?", "query or fragment"),
        ("http://example.com:0", "port 0"),
        ("http://example.com:99999", "malformed"),
        ("http://example.com:x", "malformed"),
        ("http://[::1", "malformed"),
        ("http://[v1.fe]/", "IPv6|malformed"),
        ("http://[fe80::1%25eth0]/", "zone or an escape"),
        ("http://[fe80::1%eth0]/", "zone or an escape"),
        ("http://[::1%lo]/", "zone or an escape"),
        ("http://ex%61mple.com", "zone or an escape"),
        ("http://2130706433/", "unusual way"),
        ("http://0x7f000001/", "unusual way"),
        ("http://0x7f.1/", "unusual way"),
        ("http://0177.0.0.1/", "unusual way"),
        ("http://127.1/", "unusual way"),
        ("http://127.0.0.1./", "unusual way"),
        ("http://169.254.43518/", "unusual way"),
        ("http://0/", "unusual way"),
        ("http://1.2.3.4.5/", "ends in a number"),
        ("http://256.256.256.256/", "ends in a number"),
        ("http://a..b/", "neither an address nor a name"),
        ("http://-a.example/", "neither an address nor a name"),
        ("http://a.example../", "neither an address nor a name"),
        ("http://" + "a" * 64 + ".example/", "neither an address nor a name"),
        ("http://" + "a." * 127 + "aa/", "neither an address nor a name"),
        ("http://a;b/", "neither an address nor a name"),
        ("http://exa mple.com", "character"),
        ("http://example.com\\@169.254.169.254/", "character"),
        ("http://example.com\n.evil/", "character"),
        ("http://example.com/\t", "character"),
        ("http://１２７.0.0.1/", "character"),
        ("http://ⓛocalhost/", "character"),
        ("http://127。0。0。1/", "character"),
        ("http://example.com/\x00", "character"),
    ],
)  # fmt: skip
def test_urls_that_are_refused(url: str, rule: str) -> None:
    """What programs could read in different ways is refused, and none of it is repeated."""
    with pytest.raises(InputError, match=rule) as refused:
        check_url(url)
    assert "secret" not in str(refused.value)
    assert "169.254" not in str(refused.value)


@given(st.text(max_size=40) | st.from_regex(r"https?://[!-~]{0,30}", fullmatch=True))
def test_any_text(url: str) -> None:
    """Every text is taken apart or refused, and what is taken apart has a host that can be told."""
    try:
        target = check_url(url)
    except InputError:
        target = check_url("http://localhost")
    assert target.host
    assert target.host == target.host.lower()
    assert 0 < target.port < 65_536
    assert target.host.isascii()
