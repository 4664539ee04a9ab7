"""The proxy under test: its configuration, its process (or processes, when it replaces itself), what it says about itself.

Owns the writing of configurations. Never sends traffic to backends. Start at `Subject`.
"""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

from ground import Failed, wait_until
from processes import free_ports, tool
from proxy import Metrics

START_SECONDS = 20
UNKNOWN = re.compile(r"unknown key `([^`]+)`")
TOKEN = "bench-token-of-the-fault-bench"
AUTHORIZATION = {"authorization": f"Bearer {TOKEN}"}
TICKS = os.sysconf("SC_CLK_TCK")
# Quick, and still patient enough for a machine that others use too.
HEALTH = 'kind = "http"\npath = "/health"\ninterval = "500ms"\nchanging_interval = "100ms"\ntimeout = "500ms"\nrise = 2\nfall = 2'
# Only where the binary knows them: short enough that a backend that is back is believed within this bench's time.
PASSIVE = 'ejection = "500ms"\nmax_ejection = "2s"'


class NotBuilt(Exception):
    """The binary does not know what the fault needs."""


class Subject:
    """A running Ringway with one pool."""

    def __init__(self, stage, backends, health=HEALTH, top="", keys="", tables=None, prefix=(), limits=(), has_token=False):
        self.stage, self.processes, self.network = stage, stage.processes, stage.network
        self.backends, self.health, self.top, self.keys, self.tables = backends, health, top, keys, tables or {}
        self.address, (self.port, self.admin_port) = self.network.proxy_address, free_ports(2)
        self.config = stage.folder / "ringway.toml"
        self.token_file, self.has_token = stage.folder / "token", has_token
        self.token_file.write_text(TOKEN)
        if "passive" not in self.tables and self.knows("passive", PASSIVE):
            self.tables = {**self.tables, "passive": PASSIVE}
        self.write(self.text())
        if unknown := UNKNOWN.search(self.check(self.config)):
            raise NotBuilt(f"the binary refuses `{unknown[1]}`")
        self.process = self.processes.start(
            "ringway", [*limits, *self.network.prefix, *prefix, stage.ringway, "run", "-c", self.config])
        self.pid = self.process.pid
        wait_until(self.is_ready, START_SECONDS, "ringway is ready")

    # ---- configuration ----

    def text(self, backends=None, keys=None, tables=None):
        """The configuration as text."""
        def address(backend):
            return f"{backend.host or backend.address}:{backend.port}"

        rows = [f'    {{ name = "{backend.name}", address = "{address(backend)}", weight = {backend.weight} }},'
                for backend in backends or self.backends]
        parts = [f'[[listeners]]\naddress = "{self.address}:{self.port}"', f'[admin]\naddress = "{self.address}:{self.admin_port}"',
                 f'token_file = "{self.token_file}"' if self.has_token else "", self.top,
                 '[pools.cache]\nkey = ["header:x-user-id"]', self.keys if keys is None else keys,
                 "backends = [", *rows, "]", "[pools.cache.health]", self.health]
        for name, text in (self.tables if tables is None else tables).items():
            parts += [f"[pools.cache.{name}]", text]
        return "\n".join(parts) + "\n"

    def write(self, text):
        """Puts the file in its place at once, as tools do that change configurations."""
        beside = self.config.with_suffix(".new")
        beside.write_text(text)
        beside.rename(self.config)

    def check(self, path):
        """What `ringway check` says about a file."""
        done = subprocess.run([self.stage.ringway, "check", "-c", path], capture_output=True, text=True, timeout=20, check=False)
        return done.stdout + done.stderr

    def knows(self, table, text):
        """Whether the binary takes such a table of a pool."""
        path = self.stage.folder / "knows.toml"
        path.write_text(self.text(tables={table: text}))
        return not UNKNOWN.search(self.check(path))

    # ---- what it says ----

    def ask(self, path, method="GET"):
        """One question to the admin listener: status and body."""
        connection = http.client.HTTPConnection(self.address, self.admin_port)
        connection.sock = self.network.connect(self.address, self.admin_port)
        try:
            connection.request(method, path, headers=AUTHORIZATION)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(repr(error)) from error
        finally:
            connection.close()

    def is_ready(self):
        """Whether it says that it is; fails when it has ended."""
        if self.process.poll() is not None:
            raise Failed(f"ringway ended with {self.process.returncode}:\n{self.processes.last_words('ringway')}")
        try:
            return self.ask("/readyz")[0] == 200
        except OSError:
            return False

    def standings(self):
        """Standing by backend."""
        pool, = json.loads(self.ask("/api/pools")[1])["pools"]
        return {backend["name"]: backend["standing"] for backend in pool["backends"]}

    def await_serving(self, *backends, is_so=True, seconds=60):
        """Waits until these serve; or until none of them does."""
        what = f"{', '.join(backend.name for backend in backends)}: {'' if is_so else 'not '}serving"
        wait_until(lambda: all((self.standings()[backend.name] == "serving") == is_so for backend in backends), seconds, what)

    def owners(self, keys):
        """Who owns each of these keys."""
        connection = http.client.HTTPConnection(self.address, self.admin_port)
        connection.sock = self.network.connect(self.address, self.admin_port)
        found = {}
        for key in keys:
            connection.request("GET", f"/api/lookup?pool=cache&key={key}", headers=AUTHORIZATION)
            found[key] = json.loads(connection.getresponse().read())["owners"][0]["backend"]
        connection.close()
        return found

    def metrics(self):
        return Metrics(self.ask("/metrics")[1].decode())

    def count(self, name, **labels):
        """The sum over the samples of one metric."""
        return self.metrics().sum(name, **labels)

    def off_owner(self):
        """Requests that did not go to their keys' owners, by reason; none if there is nobody to ask any more."""
        try:
            reasons = self.metrics().by("ringway_affinity_requests_total", "reason")
            reasons.pop("owner", None)
            return reasons
        except OSError:
            return {}

    def log(self):
        """All that it has written so far."""
        return self.processes.log("ringway").read_text(errors="replace")

    # ---- what the kernel says ----

    def memory(self, field="VmHWM"):
        """Bytes in memory: at most so far (VmHWM), or now (VmRSS)."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"^{field}:\s+(\d+) kB$", text, re.M)[1]) * 1024

    def cpu(self):
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def cpu_share(self, seconds):
        """The share of one core that it takes over so many seconds."""
        begun, before = time.monotonic(), self.cpu()
        # Not a wait for something: the length of a measurement.
        time.sleep(seconds)
        return (self.cpu() - before) / (time.monotonic() - begun)

    def heeds(self, number):
        """Whether the process has something to do for this signal."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return bool(int(re.search(r"^SigCgt:\s+(\w+)$", text, re.M)[1], 16) >> (number - 1) & 1)

    # ---- what is done to it ----

    def signal(self, number):
        os.kill(self.pid, number)

    def await_end(self, seconds):
        """Waits for the end of the process that was started here. Its exit code."""
        wait_until(lambda: self.process.poll() is not None, seconds, "ringway has ended")
        return self.process.returncode

    def relatives(self):
        """Processes that run with this configuration, the first one among them."""
        wanted, found = os.fsencode(self.config), []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if wanted in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return found

    def successor(self):
        """The process that has taken over, if there is one."""
        for pid in self.relatives():
            if pid != self.pid:
                return pid
        return None

    def end(self):
        """Ends also those that the first process has started: by their ids, and only they have this configuration."""
        for pid in self.relatives():
            if pid != self.process.pid:
                kill_and_await(pid)


def kill_and_await(pid):
    """Ends a process that is not a child of ours."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: has_ended(pid), 5, f"{pid} has ended")


def has_ended(pid):
    """Whether the process is gone, or waits for nothing but its parent."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def descriptors(count):
    """What comes before a command that is to have so many descriptors at most."""
    return [tool("prlimit"), f"--nofile={count}:{count}"]
