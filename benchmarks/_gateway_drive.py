"""Load on one contestant of `gateway.py`: wrk for closed loops, else a client of our own."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _gateway_process import last_line, pinned  # type: ignore[import-not-found,unused-ignore]
from _gateway_upstream import CONTENT  # type: ignore[import-not-found,unused-ignore]

#: Seconds until wrk counts an answer as missing.
PATIENCE = 30
CHAT = "/v1/chat/completions"

_LUA = """\
local bodies = {
%s
}
local requests, turn, threads = {}, 0, {}
good, bad = 0, 0
wrk.method, wrk.path = "POST", "/v1/chat/completions"
%s
function init(args)
  for i, body in ipairs(bodies) do requests[i] = wrk.format(nil, nil, nil, body) end
end
function request()
  turn = turn %% #requests + 1
  return requests[turn]
end
function setup(thread) table.insert(threads, thread) end
function done(summary, latency, _)
  local e = summary.errors
  io.write(string.format(
    '{"requests": %%d, "us": %%d, "p50": %%d, "p99": %%d, "status": %%d, "socket": %%d, ' ..
    '"timeout": %%d, "good": %%d, "bad": %%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), e.status,
    e.connect + e.read + e.write, e.timeout, threads[1]:get("good"), threads[1]:get("bad")))
end
"""
_LUA_CHECK = """
function response(status, headers, body)
  if status == 200 and #body >= %d and #body <= %d then good = good + 1 else bad = bad + 1 end
end
"""


@dataclass(frozen=True)
class Asking:
    """What is asked in turn, and the key it is asked with."""

    bodies: list[str]
    key: str

    @property
    def headers(self) -> dict[str, str]:
        """Of every request."""
        return {"content-type": "application/json", "authorization": f"Bearer {self.key}"}


@dataclass(frozen=True)
class Sizes:
    """Bytes that a right answer's body has."""

    low: int
    high: int


@dataclass(frozen=True)
class Block:
    """What one block of a closed loop came to; milliseconds, errors by kind."""

    requests: int
    seconds: float
    p50: float
    p99: float
    errors: dict[str, int] = field(default_factory=dict)

    @property
    def rps(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds


def ask(port: int, asking: Asking, turn: int = 0) -> tuple[int, dict[str, str], bytes]:
    """One request by the standard library's client: status, headers, body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20.0)
    try:
        connection.request("POST", CHAT, asking.bodies[turn].encode(), asking.headers)
        response = connection.getresponse()
        named = {name.lower(): value for name, value in response.getheaders()}
        return response.status, named, response.read()
    finally:
        connection.close()


def probe(port: int, asking: Asking) -> str:
    """Nothing if the answer is the upstream's, read as its client would, else what is wrong."""
    status, _, data = ask(port, asking)
    if status != 200:
        return f"status {status}: {last_line(data.decode(errors='replace'))}"
    try:
        said = spoken(data, stream='"stream":true' in asking.bodies[0])
    except (ValueError, KeyError, IndexError, TypeError):
        return f"an answer that is none: {data[:120]!r}"
    return "" if said == CONTENT else f"another answer than the upstream's: {said[:120]!r}"


def spoken(data: bytes, *, stream: bool) -> str:
    """The text of an answer."""
    if not stream:
        return str(json.loads(data)["choices"][0]["message"]["content"])
    events = [line[6:] for line in data.splitlines() if line.startswith(b"data: ")]
    if not events or events[-1] != b"[DONE]":
        raise ValueError("no end")
    chunks = [json.loads(event) for event in events[:-1]]
    texts = [chunk["choices"][0]["delta"].get("content") for chunk in chunks if chunk["choices"]]
    return "".join(text or "" for text in texts)


def sizes(port: int, asking: Asking, slack: float) -> Sizes:
    """Lengths of right answers, from a few; `slack` for servers that write the answer anew."""
    lengths = [len(ask(port, asking, turn)[2]) for turn in range(3)]
    return Sizes(int(min(lengths) * (1 - slack)), int(max(lengths) * (1 + slack)))


class Driver:
    """Loads one address at a time.

    Parameters
    ----------
    wrk : tuple of command and environment, optional
        Without it the client of our own keeps the loops closed; it takes more of its core.
    core : int
        Where the load comes from.
    folder : path
        For scripts.
    """

    def __init__(self, wrk: tuple[str, dict[str, str]] | None, *, core: int, folder: Path) -> None:
        self.wrk, self.core, self.folder = wrk, core, folder

    def block(
        self,
        port: int,
        asking: Asking,
        connections: int,
        seconds: float,
        right: Sizes,
        *,
        check: bool = False,
    ) -> Block:
        """A closed loop; with `check`, every answer's length is looked at.

        Raises
        ------
        RuntimeError
            The generator of load failed.
        """
        if self.wrk is None:
            plan = {"connections": connections, "seconds": seconds}
            told = self.own(port, asking, right, plan)
            took = sorted(told["took_ms"]) or [0.0]
            p50, p99 = took[len(took) // 2], took[min(len(took) - 1, len(took) * 99 // 100)]
            return Block(len(told["took_ms"]), told["seconds"], p50, p99, told["failures"])
        command, env = self.wrk
        script = self.folder / "load.lua"
        script.write_text(_lua(asking, right if check else None), encoding="utf-8")
        said = _run(
            [
                command,
                *("-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"),
                *("--timeout", f"{PATIENCE}s", "-s", str(script), f"http://127.0.0.1:{port}"),
            ],
            core=self.core,
            seconds=seconds + 2 * PATIENCE,
            env=env,
        )
        told = json.loads(said.splitlines()[-1])
        errors = {"status": told["status"], "socket": told["socket"], "timeout": told["timeout"]}
        if check:
            errors["wrong"] = told["bad"] - told["status"]
        return Block(
            requests=told["requests"] - told["status"],
            seconds=told["us"] / 1e6,
            p50=told["p50"] / 1e3,
            p99=told["p99"] / 1e3,
            errors={kind: count for kind, count in errors.items() if count},
        )

    def own(self, port: int, asking: Asking, right: Sizes, plan: dict[str, Any]) -> dict[str, Any]:
        """The client of our own, with a plan as `_gateway_load.py` says.

        Raises
        ------
        RuntimeError
            It failed.
        """
        path = self.folder / "plan.json"
        headers = [f"{name}: {value}" for name, value in asking.headers.items()]
        whole = {"port": port, "bodies": asking.bodies, "headers": headers}
        whole |= {"low": right.low, "high": right.high, **plan}
        path.write_text(json.dumps(whole), encoding="utf-8")
        program = str(Path(__file__).with_name("_gateway_load.py"))
        told: dict[str, Any] = json.loads(
            _run([sys.executable, program, str(path)], core=self.core, seconds=300, env={})
        )
        return told


def _lua(asking: Asking, right: Sizes | None) -> str:
    quoted = "\n".join(f"[==[{body}]==]," for body in asking.bodies)
    lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in asking.headers.items()]
    headers = "\n".join(lines)
    check = "" if right is None else _LUA_CHECK % (right.low, right.high)
    return _LUA % (quoted, headers) + check


def _run(command: list[str], *, core: int, seconds: float, env: dict[str, str]) -> str:
    with pinned(core):
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env or None
        )
    with process:
        try:
            out, error = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise RuntimeError(f"{Path(command[0]).name}: no end in {seconds:.0f} s") from None
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0 or not out.strip():
        raise RuntimeError(f"{Path(command[0]).name}: {last_line(error or out)}")
    return out
