"""The check of a request's key, how changes of the file are taken up, and gateways without keys."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.core import ConfigError
from turnout.serve.guard import keyfile
from turnout.serve.guard.key import Made, make, rotated
from turnout.serve.guard.keys import Keyring, anyone, check_open, from_elsewhere
from turnout.serve.guard.refusal import RefusedError

from .conftest import Clock

NOW = 1_790_000_000.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def wall() -> Clock:
    return Clock(NOW)


def write(path: Path, *made: Made) -> None:
    keyfile.write(path, [item.key for item in made])


def bearer(made: Made) -> bytes:
    return f"Bearer {made.secret}".encode()


def refused(ring: Keyring, authorization: bytes | None) -> str:
    with pytest.raises(RefusedError) as error:
        ring.check(authorization)
    assert (error.value.status, error.value.code) == (401, "invalid_api_key")
    assert error.value.headers == b"www-authenticate: Bearer\r\n"
    assert (error.value.reason, error.value.kind) == ("key", "authentication_error")
    return str(error.value)


def test_a_secret_opens_its_key_alone(path: Path, wall: Clock) -> None:
    """Each secret gives its own key; the scheme's case does not count."""
    made = [make(f"key{number}", now=NOW) for number in range(5)]
    write(path, *made)
    ring = Keyring(path, wall=wall)
    assert len(ring) == 5
    for item in made:
        assert ring.check(bearer(item)).name == item.key.name
        assert ring.check(b"bEARER " + item.secret.encode()).id == item.key.id


def test_what_opens_nothing_is_refused_in_one_way(path: Path, wall: Clock) -> None:
    """Missing, misspelled, unknown, swapped, expired: one status, one message, nothing quoted."""
    first, second = make("a", now=NOW), make("b", now=NOW)
    old = make("old", now=NOW - 10, expires=NOW)
    write(path, first, second, old)
    ring = Keyring(path, wall=wall)
    good = bearer(first)
    swapped = f"Bearer tn-{second.key.id}-{first.secret[12:]}".encode()
    tried = [
        *(None, b"", b"Bearer", b"Bearer ", good + b"x", good[:-1], good[7:], b"Basic " + good[7:]),
        *(b"Bearer  " + good[8:], swapped, bearer(make("c", now=NOW)), bearer(old)),
        *(good[:-1] + (b"A" if good[-1:] != b"A" else b"B"), b"Bearer " + b"\xff" * 55),
        *(b"Bearer tn-" + bytes(52), b"x" * 1_000_000),
    ]
    messages = {refused(ring, authorization) for authorization in tried}
    assert len(messages) == 1
    assert first.secret[12:] not in messages.pop()


@settings(max_examples=40)
@given(data=st.binary(max_size=80))
def test_garbage_is_refused(data: bytes) -> None:
    """No bytes make the check fail in another way than by refusing."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "keys.json"
        write(file, make("a", now=NOW))
        ring = Keyring(file, wall=Clock(NOW))
        refused(ring, data)
        refused(ring, b"Bearer " + data.ljust(55, b"-")[:55])


def test_expiry_is_to_the_second(path: Path, wall: Clock) -> None:
    """A key opens until the moment of its end, and from then on no more."""
    made = make("a", now=NOW, expires=NOW + 60)
    write(path, made)
    ring = Keyring(path, wall=wall)
    wall.on(59.9)
    assert ring.check(bearer(made)).name == "a"
    wall.on(0.1)
    refused(ring, bearer(made))


def test_rotation(path: Path, wall: Clock, clock: Clock) -> None:
    """Both secrets open during the grace, without a restart; then the new one alone."""
    old = make("a", now=NOW)
    write(path, old)
    ring = Keyring(path, wall=wall)
    new = rotated(old.key, now=NOW, grace=60.0)
    write(path, new)
    refused(ring, bearer(new))  # not looked at yet
    assert ring.tick(clock.on(5))
    assert ring.check(bearer(old)) is ring.check(bearer(new))
    wall.on(60)
    refused(ring, bearer(old))
    assert ring.check(bearer(new)).name == "a"


def test_a_revoked_key_is_out(path: Path, wall: Clock, clock: Clock) -> None:
    """What is not in the file any more opens nothing after the next look."""
    first, second = make("a", now=NOW), make("b", now=NOW)
    write(path, first, second)
    ring = Keyring(path, wall=wall)
    write(path, second)
    ring.tick(clock())
    refused(ring, bearer(first))
    assert ring.check(bearer(second)).name == "b"


def test_the_file_is_looked_at_once_a_second(
    path: Path, wall: Clock, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often the clock ticks, the file is asked about once a second, and read on change."""
    write(path, make("a", now=NOW))
    ring = Keyring(path, wall=wall)
    looks = 0
    stat = Path.stat

    def counted(self: Path, **more: Any) -> os.stat_result:
        nonlocal looks
        looks += self == path
        return stat(self, **more)

    monkeypatch.setattr(Path, "stat", counted)
    for _ in range(100):
        ring.tick(clock.on(0.05))
    assert looks == 5
    assert ring.reads == 1


def test_a_broken_file_changes_nothing(
    path: Path, wall: Clock, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The last good keys go on counting, health says why; a good file heals it."""
    made = make("a", now=NOW)
    write(path, made)
    ring = Keyring(path, wall=wall)
    path.write_text('{"version": 1, "keys": [{"id"')
    assert not ring.tick(clock.on(2))
    assert "be JSON" in (ring.error or "")
    assert ring.check(bearer(made)).name == "a"
    assert not ring.tick(clock.on(2))
    assert caplog.text.count("last good ones") == 1
    other = make("b", now=NOW)
    write(path, other)
    assert ring.tick(clock.on(2))
    assert ring.error is None
    assert ring.check(bearer(other)).name == "b"
    refused(ring, bearer(made))


def test_a_broken_file_is_read_once(
    path: Path, wall: Clock, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that cannot be used is not read again and again, only when it has changed."""
    write(path, make("a", now=NOW))
    ring = Keyring(path, wall=wall)
    path.write_text("{")
    reads = 0
    read = keyfile.read

    def counted(*arguments: Any) -> keyfile.Content:
        nonlocal reads
        reads += 1
        return read(*arguments)

    monkeypatch.setattr(keyfile, "read", counted)
    for _ in range(5):
        ring.tick(clock.on(2))
    assert reads == 1
    path.write_text("{{")
    ring.tick(clock.on(2))
    assert reads == 2


def test_a_file_that_is_gone_changes_nothing(path: Path, wall: Clock, clock: Clock) -> None:
    """Without the file the last keys go on counting; when it is back it is read again."""
    made = make("a", now=NOW)
    write(path, made)
    ring = Keyring(path, wall=wall)
    text = path.read_bytes()
    path.unlink()
    assert not ring.tick(clock.on(2))
    assert "be readable" in (ring.error or "")
    assert ring.check(bearer(made)).name == "a"
    path.write_bytes(text)
    path.chmod(0o600)
    assert ring.tick(clock.on(2))
    assert ring.error is None


def test_a_change_within_the_clocks_grain_is_seen(path: Path, wall: Clock, clock: Clock) -> None:
    """A file of the same length and time is a new one, because it is another file."""
    first, second = make("a", now=NOW), make("b", now=NOW)
    write(path, first)
    ring = Keyring(path, wall=wall)
    before = path.stat()
    write(path, second)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert ring.tick(clock.on(2))
    assert ring.check(bearer(second)).name == "b"


def test_keys_that_stay_are_the_same_objects(path: Path, wall: Clock, clock: Clock) -> None:
    """A change of one key leaves the others untouched: what hangs on them need not be made anew."""
    first, second = make("a", now=NOW), make("b", now=NOW)
    write(path, first, second)
    ring = Keyring(path, wall=wall)
    key = ring.check(bearer(first))
    write(path, first, rotated(second.key, now=NOW, grace=0.0))
    ring.tick(clock())
    assert ring.check(bearer(first)) is key
    refused(ring, bearer(second))


def test_a_gateway_does_not_start_with_a_broken_file(path: Path) -> None:
    """At the start there is no last good file to fall back to."""
    with pytest.raises(ConfigError, match="be readable"):
        Keyring(path)


def test_repr_shows_no_key(path: Path) -> None:
    """What is printed by mistake names neither keys nor hashes."""
    write(path, make("a", now=NOW))
    assert repr(Keyring(path)) == f"Keyring({str(path)!r}, 1 keys)"


# --- without keys ---------------------------------------------------------------------------


def test_anyone() -> None:
    """Where there are no keys, everybody may use everything, and administer where it is local."""
    assert anyone(admin=False).may("x")
    anyone(admin=True).allow_admin()
    with pytest.raises(RefusedError):
        anyone(admin=False).allow_admin()


@pytest.mark.parametrize("address", ["127.0.0.1", "127.5.5.5", "::1"])
def test_the_loopback_needs_no_keys(address: str) -> None:
    """On the loopback a gateway may be open, and is told that it is local."""
    assert check_open(address, keys=False, allowed=False)
    assert check_open(address, keys=True, allowed=False)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.1", "fe80::1%eth0", "8.8.8.8"])
def test_elsewhere_keys_or_a_word_are_needed(address: str) -> None:
    """An address that others can reach is refused without keys, unless it is said."""
    with pytest.raises(ConfigError, match=r"loopback.*open = true"):
        check_open(address, keys=False, allowed=False)
    assert not check_open(address, keys=True, allowed=False)
    assert not check_open(address, keys=False, allowed=True)


@pytest.mark.parametrize(
    ("origin", "host", "elsewhere"),
    [
        (None, b"127.0.0.1:8080", False),
        (None, b"localhost", False),
        (None, b"localhost.:8080", False),
        (None, b"[::1]:8080", False),
        (None, None, False),
        (b"http://localhost:3000", b"127.0.0.1:8080", False),
        (b"https://evil.example", b"127.0.0.1:8080", True),
        (b"null", b"127.0.0.1:8080", True),
        (None, b"evil.example:8080", True),
        (b"http://evil.example:8080", b"evil.example:8080", True),
        (None, b"127.0.0.1.evil.example", True),
        (None, b"\xff", True),
        (None, b"[::1", True),
    ],
)
def test_pages_of_other_sites(origin: bytes | None, host: bytes | None, elsewhere: bool) -> None:
    """Requests that a browser sends for a page of another site are told from those of programs."""
    assert from_elsewhere(origin, host) == elsewhere
