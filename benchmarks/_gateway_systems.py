"""The contestants of `gateway.py`: how each is configured, started and told apart."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from _gateway_drive import Asking, probe  # type: ignore[import-not-found,unused-ignore]
from _gateway_process import (  # type: ignore[import-not-found,unused-ignore]
    Server,
    free_port,
    last_line,
)
from _gateway_task import Task, bodies  # type: ignore[import-not-found,unused-ignore]
from _gateway_tools import Tool, peer, tool  # type: ignore[import-not-found,unused-ignore]
from _gateway_upstream import (  # type: ignore[import-not-found,unused-ignore]
    MODELS,
    REPLY,
)

#: What the peers are asked with.
KEY = "sk-bench-0123456789abcdef0123456789abcdef"
#: Name of the histogram of decision times that the gateway's /metrics shows.
DECISION_METRIC = "turnout_decision_seconds"
#: The variable that holds the upstream's key.
UPSTREAM_KEY = "TURNOUT_BENCH_UPSTREAM_KEY"


def turnout_toml(task: Task, upstream: int, port: int, keys: Path, *, routed: bool) -> str:
    """The configuration of our gateway: routed by the default router, or one model for all.

    Everything is on in both: keys with rates, two budgets for every request, ledger, metrics.
    """
    names = task.names if routed else ("bench",)
    decides = f'file = "{task.router}"' if routed else 'model = "bench"'
    budget = f"[budget]\nmean_cost_usd = {task.mean_cost:.9f}\n" if routed else ""
    pool = "".join(
        f"""
[pool."{name}"]
upstream = "openai:http://127.0.0.1:{upstream}/v1"
model = "bench"
key_env = "{UPSTREAM_KEY}"
usd_per_million_input_tokens = {price}
usd_per_million_output_tokens = {4 * price}
"""
        for name, price in zip(names, (0.5, 10.0), strict=False)
    )
    return f"""\
[server]
host = "127.0.0.1"
port = {port}
workers = 1
[keys]
file = "{keys}"
[router]
{decides}
{budget}[budgets.everybody]
usd = 1000000
period = "day"
[budgets.each]
usd = 1000000
period = "month"
per = "key"
[ledger]
path = "turnout-{port}.sqlite"
{pool}"""


def turnout_key(keys: Path, name: str, *more: str) -> str:
    """A new key of our gateway, by its own command.

    Raises
    ------
    RuntimeError
        It made none.
    """
    command = [sys.executable, "-m", "turnout", "keys", "new", name, "--file", str(keys), *more]
    made = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if made.returncode != 0:
        raise RuntimeError(f"turnout keys: {last_line(made.stderr)}")
    return made.stdout.strip()


def nginx_conf(folder: Path, port: int, *, upstream: int | None, user: str) -> str:
    """One worker that answers by itself (upstream None), or hands on."""
    if upstream is None:
        pool = ""
        reply, models = REPLY.decode(), MODELS.decode()
        places = f"""
    default_type application/json;
    location / {{ return 200 '{{}}'; }}
    location = /v1/models {{ return 200 '{models}'; }}
    location = /v1/chat/completions {{ return 200 '{reply}'; }}"""
    else:
        pool = f"""
  upstream pool {{
    server 127.0.0.1:{upstream};
    keepalive 256;
    keepalive_requests 1000000000;
  }}"""
        places = """
    location / {
      proxy_pass http://pool;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }"""
    temporary = "\n  ".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""\
{user}worker_processes 1;
daemon off;
pid {folder}/pid;
error_log stderr crit;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  {temporary}{pool}
  server {{
    listen 127.0.0.1:{port} backlog=4096;{places}
  }}
}}
"""


def litellm_yaml(upstream: int) -> str:
    """LiteLLM's proxy: one model, a master key, no database."""
    return f"""\
model_list:
  - model_name: bench
    litellm_params:
      model: openai/bench
      api_base: http://127.0.0.1:{upstream}/v1
      api_key: none
litellm_settings:
  set_verbose: false
  num_retries: 0
  request_timeout: 60
general_settings:
  master_key: {KEY}
"""


@dataclass(frozen=True)
class System:
    """A contestant.

    Parameters
    ----------
    name, about : str
    model : str
        What its clients ask for.
    slack : float
        Share by which lengths of its answers may differ: 0 for those that hand answers on as
        they are.
    wants : tuple of str
        What to install from PyPI into an environment of its own.
    patience : float
        Seconds it may take to start.
    """

    name: str
    about: str
    model: str = "bench"
    slack: float = 0.0
    wants: tuple[str, ...] = ()
    patience: float = 30.0


SYSTEMS = {
    one.name: one
    for one in (
        System("turnout", "turnout serve, everything on", model="auto"),
        System("turnout-pinned", "turnout serve, one model"),
        System("nginx", "nginx proxy_pass"),
        System("aiohttp", "aiohttp server and client"),
        System(
            "vllm-router",
            "vLLM router",
            slack=0.1,
            wants=("vllm-router",),
            patience=90.0,
        ),
        System(
            "litellm",
            "LiteLLM proxy",
            slack=0.25,
            wants=("litellm[proxy]",),
            patience=180.0,
        ),
        System("direct", "no gateway"),
    )
}
PEERS = tuple(name for name, one in SYSTEMS.items() if one.wants)


class Yard:
    """Where contestants and upstreams are made ready and started.

    Parameters
    ----------
    folder : path
        Of the run.
    peers : path
        Keeps environments and unpacked programs.
    task : Task
    cores : tuple of int
        The gateway's, and everything else's.
    """

    def __init__(self, folder: Path, peers: Path, task: Task, cores: tuple[int, int]) -> None:
        self.folder, self.peers, self.task, self.cores = folder, peers, task, cores
        self.nginx: Tool | None
        self.nginx, self.no_nginx = tool("nginx", peers)
        self.versions: dict[str, str] = {}
        self.admin = ""
        self._key = ""
        self._count = 0

    def asking(self, system: System, mode: str) -> Asking:
        """What a contestant is asked in a mode."""
        made = bodies(
            self.task.texts,
            system.model,
            stream=mode in ("stream", "paced"),
            paced=mode == "paced",
        )
        return Asking(made, self._key if system.name.startswith("turnout") else KEY)

    def upstream(self, *, streams: bool) -> tuple[Server, str]:
        """What answers, started on the core of the load; and what it is, in words.

        Raises
        ------
        RuntimeError
            It did not start.
        """
        port = free_port()
        asking = Asking(bodies(self.task.texts, "bench", stream=streams), KEY)
        if streams or self.nginx is None:
            program = Path(__file__).with_name("_gateway_upstream.py")
            command = [sys.executable, str(program), str(port)]
            about = "a server of this benchmark (uvloop) that writes events one by one"
            server = self._start("upstream", command, port, core=self.cores[1])
        else:
            server = self._nginx("upstream", port, None, core=self.cores[1])
            about = self.nginx.version
        why = server.ready(lambda at: probe(at, asking), 20.0)
        if why:
            server.stop()
            raise RuntimeError(f"the upstream did not start: {why}")
        return server, about

    def start(
        self, system: System, upstream: int, *, mode: str, say: Callable[[str], None]
    ) -> tuple[Server | None, str]:
        """A contestant that answers, or why there is none."""
        try:
            server, why = self._made(system, upstream, say)
        except (OSError, RuntimeError) as error:
            return None, f"{type(error).__name__}: {error}"
        if server is None:
            return None, why
        try:
            asking = self.asking(system, mode)
            why = server.ready(lambda at: probe(at, asking), system.patience)
        except BaseException:
            server.stop()
            raise
        if why:
            server.stop()
            return None, why
        return server, ""

    def _made(
        self, system: System, upstream: int, say: Callable[[str], None]
    ) -> tuple[Server | None, str]:
        port = free_port()
        name, core = system.name, self.cores[0]
        if name.startswith("turnout"):
            keys = self.folder / "keys.json"
            if not self._key:
                self.admin = turnout_key(keys, "admin", "--admin")
                rates = ("--rpm", "100000000", "--tpm", "1000000000000")
                self._key = turnout_key(keys, "bench", *rates)
            path = self.folder / f"{name}-{port}.toml"
            routed = name == "turnout"
            text = turnout_toml(self.task, upstream, port, keys, routed=routed)
            path.write_text(text, encoding="utf-8")
            command = [sys.executable, "-m", "turnout", "serve", str(path)]
            env = {UPSTREAM_KEY: KEY}
            return self._start(name, command, port, core=core, env=env), ""
        if name == "nginx":
            if self.nginx is None:
                return None, self.no_nginx
            self.versions[name] = self.nginx.version
            return self._nginx(name, port, upstream, core=core), ""
        if name == "aiohttp":
            from importlib.metadata import PackageNotFoundError, version

            try:
                self.versions[name] = f"aiohttp {version('aiohttp')}"
            except PackageNotFoundError:
                return None, "aiohttp is not installed here"
            program = Path(__file__).with_name("_gateway_aiohttp.py")
            command = [sys.executable, str(program), str(port), f"http://127.0.0.1:{upstream}"]
            return self._start(name, command, port, core=core), ""
        say(f"installing {name}, if it is not there")
        python, told = peer(name, system.wants, self.peers)
        if python is None:
            return None, told
        self.versions[name] = f"{name} {told}"
        command, env = self._peer(name, python.parent, upstream, port)
        return self._start(name, command, port, core=core, env=env), ""

    def _peer(
        self, name: str, programs: Path, upstream: int, port: int
    ) -> tuple[list[str], dict[str, str]]:
        if name == "litellm":
            path = self.folder / "litellm.yaml"
            path.write_text(litellm_yaml(upstream), encoding="utf-8")
            command = [str(programs / "litellm"), "--config", str(path), "--host", "127.0.0.1"]
            command += ["--port", str(port), "--num_workers", "1", "--telemetry", "False"]
            return command, {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        command = [str(programs / "vllm-router"), "--worker-urls", f"http://127.0.0.1:{upstream}"]
        command += ["--policy", "round_robin", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--log-level", "error", "--prometheus-port", str(free_port())]
        return command, {}

    def _nginx(self, name: str, port: int, upstream: int | None, *, core: int) -> Server:
        assert self.nginx is not None
        folder = self.folder / f"{name}-nginx-{port}"
        folder.mkdir()
        user = "user root;\n" if os.geteuid() == 0 else ""
        path = folder / "nginx.conf"
        text = nginx_conf(folder, port, upstream=upstream, user=user)
        path.write_text(text, encoding="utf-8")
        command = [self.nginx.path, "-e", "stderr", "-p", str(folder), "-c", str(path)]
        return self._start(name, command, port, core=core, env=self.nginx.env)

    def _start(
        self,
        name: str,
        command: list[str],
        port: int,
        *,
        core: int,
        env: dict[str, str] | None = None,
    ) -> Server:
        self._count += 1
        label = f"{self._count:02d}-{name}"
        return Server(label, command, port, core=core, folder=self.folder, env=env)
