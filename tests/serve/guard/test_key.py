"""Keys as values: what they open, how they are made, rotated, written and read."""

from __future__ import annotations

import json
import math
import os
import re
import stat
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.core import ConfigError, InputError
from turnout.serve.guard import keyfile
from turnout.serve.guard.key import SECRET_LENGTH, Key, KeyLimits, make, rotated
from turnout.serve.guard.refusal import RefusedError, whole_seconds

NOW = 1_790_000_000.0


def test_secret_has_its_form() -> None:
    """A secret is `tn-`, the key's id and 43 url-safe characters; the key has only its hash."""
    made = make("ci", now=NOW)
    assert re.fullmatch(r"tn-[a-z0-9]{8}-[A-Za-z0-9_-]{43}", made.secret)
    assert len(made.secret) == SECRET_LENGTH
    assert made.secret[3:11] == made.key.id
    assert made.key.digest == sha256(made.secret.encode()).digest()


def test_no_two_are_alike() -> None:
    """Neither ids nor secrets come twice; an id that is taken is not given again."""
    made = [make(f"key{number}", now=NOW) for number in range(200)]
    assert len({item.secret for item in made}) == len({item.key.id for item in made}) == 200


def test_no_repr_shows_a_secret_or_a_hash() -> None:
    """What is printed by mistake opens nothing."""
    made = make("ci", now=NOW)
    told = repr(made) + repr(made.key)
    assert made.secret[12:] not in told
    assert repr(made.key.digest) not in told


def test_rotation_keeps_the_old_hash_for_a_while() -> None:
    """The new secret opens the same key; the old one is held with its end, or dropped at once."""
    made = make("ci", now=NOW, admin=True)
    again = rotated(made.key, now=NOW, grace=60.0)
    assert (again.key.id, again.key.name, again.key.admin) == (made.key.id, "ci", True)
    assert again.secret != made.secret
    assert (again.key.previous, again.key.previous_until) == (made.key.digest, NOW + 60.0)
    assert rotated(again.key, now=NOW, grace=0.0).key.previous == bytes(32)


def test_an_expired_key_is_not_rotated() -> None:
    """Rotation does not raise the dead."""
    key = make("ci", now=NOW, expires=NOW + 5).key
    with pytest.raises(InputError, match="not have expired"):
        rotated(key, now=NOW + 5, grace=1.0)


def test_scope() -> None:
    """A key without models may use all; one with models those alone; a refusal is a 403."""
    wide, narrow = make("a", now=NOW).key, make("b", now=NOW, models=frozenset({"pico"})).key
    wide.allow("anything")
    narrow.allow("pico")
    assert (wide.may("grand"), narrow.may("pico"), narrow.may("grand")) == (True, True, False)
    with pytest.raises(RefusedError, match="scope") as refused:
        narrow.allow("grand")
    assert (refused.value.status, refused.value.code) == (403, "out_of_scope")
    assert (refused.value.reason, refused.value.headers) == ("key", b"")


def test_administration() -> None:
    """Only a key made for it may see and change the gateway."""
    make("root", now=NOW, admin=True).key.allow_admin()
    with pytest.raises(RefusedError, match="administration") as refused:
        make("ci", now=NOW).key.allow_admin()
    assert refused.value.status == 403


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"name": " "}, "printable"),
        ({"name": "a\nb"}, "printable"),
        ({"name": "a", "models": frozenset({""})}, "printable"),
        ({"name": "a", "models": frozenset()}, "at least one"),
        ({"name": "a", "expires": 1e18}, "finite number"),
        ({"name": "a", "expires": math.nan}, "finite number"),
    ],
)
def test_bad_fields(fields: dict[str, Any], rule: str) -> None:
    """A key that could not be told or kept is not made."""
    with pytest.raises(InputError, match=rule):
        make(now=NOW, **fields)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "1"])
@pytest.mark.parametrize("name", ["requests_per_minute", "tokens_per_minute", "parallel"])
def test_bad_limits(name: str, value: Any) -> None:
    """A limit is a whole number above 0, or none."""
    with pytest.raises(InputError, match=name):
        KeyLimits(**{name: value})


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.0, 1), (0.2, 1), (1.0, 1), (1.1, 2), (59.5, 60), (60.0, 60), (1e300, 60), (-5.0, 1)],
)
def test_retry_after_is_whole_and_bounded(seconds: float, told: int) -> None:
    """An estimate is told in whole seconds, never 0, never beyond a minute."""
    assert whole_seconds(seconds) == told
    assert whole_seconds(math.nan) == 60


# --- the file -------------------------------------------------------------------------------

_names = st.text('abc -_.é"\\', min_size=1, max_size=8).filter(str.strip)
_times = st.integers(0, 4_000_000_000).map(float)
_limit = st.none() | st.integers(1, 10**12)


@st.composite
def _keys(draw: st.DrawFn) -> Key:
    made = make(draw(_names), now=draw(_times)).key
    fields: dict[str, Any] = {
        "expires": draw(_times | st.just(math.inf)),
        "models": draw(st.none() | st.frozensets(_names, min_size=1, max_size=3)),
        "admin": draw(st.booleans()),
        "limits": KeyLimits(
            requests_per_minute=draw(_limit), tokens_per_minute=draw(_limit), parallel=draw(_limit)
        ),
        "labels": draw(st.dictionaries(_names, _names, max_size=3)),
    }
    if draw(st.booleans()):
        fields |= {"previous": made.digest[::-1], "previous_until": draw(_times)}
    return Key(id=made.id, name=made.name, digest=made.digest, made=made.made, **fields)


@settings(max_examples=40)
@given(st.lists(_keys(), max_size=4, unique_by=lambda key: key.name))
def test_what_is_written_is_read(keys: list[Key]) -> None:
    """Every field of every key comes back as it was."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "keys.json"
        keyfile.write(path, keys)
        assert [key for _, key in keyfile.read(path).keys.values()] == keys


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    """A new file has mode 0600, no secret in it, and nothing lies beside it."""
    made = make("ci", now=NOW)
    keyfile.write(tmp_path / "keys.json", [made.key])
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600
    assert made.secret[12:] not in (tmp_path / "keys.json").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["keys.json"]


def test_what_the_group_may_read_is_kept(tmp_path: Path) -> None:
    """A change keeps the group's right to read and gives nobody any other."""
    path = tmp_path / "keys.json"
    for before, after in ((0o640, 0o640), (0o644, 0o640), (0o400, 0o600)):
        keyfile.write(path, [])
        path.chmod(before)
        keyfile.write(path, [])
        assert stat.S_IMODE(path.stat().st_mode) == after


@pytest.mark.parametrize("mode", [0o602, 0o620, 0o666])
def test_a_file_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    """Who can write the file can let anybody in, so it does not count."""
    path = tmp_path / "keys.json"
    keyfile.write(path, [])
    path.chmod(mode)
    with pytest.raises(ConfigError, match="writable by its owner alone"):
        keyfile.read(path)


def test_a_failed_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk fails in the middle, the old keys stay and nothing lies about."""
    path = tmp_path / "keys.json"
    keyfile.write(path, [make("ci", now=NOW).key])
    before = path.read_bytes()

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match=r"writable.*No space"):
        keyfile.write(path, [])
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["keys.json"]


def _good() -> dict[str, Any]:
    return {
        "id": "abcdefgh",
        "name": "ci",
        "sha256": "0" * 64,
        "made": "2026-01-31T12:00:00Z",
    }


SECRET = "tn-abcdefgh-0123456789012345678901234567890123456789012"

BROKEN: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "not an object": (lambda row: [1], "be an object"),
    "an unknown field": (lambda row: {**row, "modles": []}, "known key.*Did you mean 'models'"),
    "no id": (lambda row: {**row, "id": None}, "8 lower-case"),
    "an id of a list": (lambda row: {**row, "id": []}, "8 lower-case"),
    "a long id": (lambda row: {**row, "id": "abcdefghi"}, "8 lower-case"),
    "a secret for an id": (lambda row: {**row, "id": SECRET}, "8 lower-case"),
    "no name": (lambda row: {**row, "name": ""}, "name that can be printable"),
    "a name of a number": (lambda row: {**row, "name": 3}, "be text"),
    "a secret for a hash": (lambda row: {**row, "sha256": SECRET}, "64 hexadecimal"),
    "no hash": (lambda row: {**row, "sha256": None}, "64 hexadecimal"),
    "a short hash": (lambda row: {**row, "sha256": "00"}, "64 hexadecimal"),
    "no date": (lambda row: {**row, "made": None}, "be a time"),
    "a date without zone": (lambda row: {**row, "made": "2026-01-31T12:00:00"}, "be a time"),
    "a date of words": (lambda row: {**row, "expires": "tomorrow"}, "be a time"),
    "a date of a number": (lambda row: {**row, "expires": 3}, "be a time"),
    "an old hash without end": (lambda row: {**row, "previous_sha256": "0" * 64}, "be a time"),
    "models of text": (lambda row: {**row, "models": "pico"}, "list of names"),
    "models of numbers": (lambda row: {**row, "models": [1]}, "list of names"),
    "no models": (lambda row: {**row, "models": []}, "models that can hold at least one"),
    "admin of text": (lambda row: {**row, "admin": "yes"}, "true or false"),
    "a limit of 0": (lambda row: {**row, "parallel": 0}, "parallel that can be a whole number"),
    "labels of a list": (lambda row: {**row, "labels": []}, "map names to texts"),
    "labels of numbers": (lambda row: {**row, "labels": {"a": 1}}, "map names to texts"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_rows(tmp_path: Path, case: str) -> None:
    """Each mistake in a row is named by its place, and no value of the row is shown."""
    change, rule = BROKEN[case]
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"version": 1, "keys": [change(_good())]}))
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=rf"keys\[0\].*{rule}") as refused:
        keyfile.read(path)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("{", "be JSON; got 'line 1'"),
        ("[]", "key file of version 1"),
        ('{"version": 2, "keys": []}', "key file of version 1"),
        ('{"version": 1}', "hold version and keys alone"),
        ('{"version": 1, "keys": {}}', "hold version and keys alone"),
        ('{"version": 1, "keys": [], "more": 1}', "hold version and keys alone"),
    ],
)
def test_broken_files(tmp_path: Path, text: str, rule: str) -> None:
    """A file that is something else is refused."""
    path = tmp_path / "keys.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=rule):
        keyfile.read(path)


@pytest.mark.parametrize("other", [{"id": "hgfedcba"}, {"name": "other"}])
def test_a_name_or_id_stands_once(tmp_path: Path, other: dict[str, str]) -> None:
    """Two keys of one name, or of one id, are one mistake."""
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"version": 1, "keys": [_good(), {**_good(), **other}]}))
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=r"keys\[1\] must be there once"):
        keyfile.read(path)


def test_changes_at_once_are_all_kept(tmp_path: Path) -> None:
    """Many that change the file at the same time wait for each other: no change is lost."""
    path = tmp_path / "keys.json"
    start = threading.Barrier(8)

    def add(number: int) -> None:
        start.wait()
        with keyfile.changing(path) as keys:
            keys[f"key{number}"] = make(f"key{number}", now=NOW).key

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = {key.name for _, key in keyfile.read(path).keys.values()}
    assert names == {f"key{number}" for number in range(8)}


def test_a_change_that_fails_changes_nothing(tmp_path: Path) -> None:
    """An error inside the block leaves the file as it was, or no file where none was."""
    path = tmp_path / "keys.json"

    def fail() -> None:
        with keyfile.changing(path) as keys:
            keys["a"] = make("a", now=NOW).key
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """A path into nowhere is named."""
    with pytest.raises(ConfigError, match="folder that exists"), keyfile.changing(tmp_path / "a/b"):
        pass
    with pytest.raises(ConfigError, match="be readable"):
        keyfile.read(tmp_path / "keys.json")
