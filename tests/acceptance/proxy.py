"""Ringway as its operator sees it: a configuration file, a process, an admin listener.

Owns the writing of configurations and the reading of metrics. Never sends traffic. Start at `Proxy`.
"""

import http.client
import json
import re
from pathlib import Path

from ground import Failed, wait_until
from processes import free_ports

START_SECONDS = 15
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

# Faster than the defaults, so that a change of health takes a second instead of several.
QUICK_HEALTH = 'interval = "200ms"\nchanging_interval = "100ms"\ntimeout = "200ms"\nrise = 2\nfall = 2'


def pool(name, backends, health=QUICK_HEALTH, **keys):
    """A pool's part of the configuration. `backends` is name: port."""
    lines = [f"[pools.{name}]", 'key = ["header:x-user-id"]']
    lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    rows = [f'    {{ name = "{backend}", address = "127.0.0.1:{port}" }},' for backend, port in backends.items()]
    # Backends are killed again and again here, faster than in a year: who did that in earnest would be kept out for longer each time.
    patience = [f"[pools.{name}.passive]", "flaps = 0", 'ejection = "500ms"', 'max_ejection = "500ms"', "trial = 0"]
    return "\n".join([*lines, "backends = [", *rows, "]", f"[pools.{name}.health]", health, *patience, ""])


def route(prefix, to):
    """A route by path."""
    return f'[[routes]]\npath_prefix = "{prefix}"\npool = "{to}"\n'


class Proxy:
    """A running Ringway."""

    def __init__(self, ground, *parts):
        self.processes = ground.processes
        self.port, self.admin_port = free_ports(2)
        self.config = ground.folder / f"ringway-{self.port}.toml"
        head = f'[[listeners]]\naddress = "127.0.0.1:{self.port}"\n[admin]\naddress = "127.0.0.1:{self.admin_port}"\n'
        self.config.write_text("\n".join([head, *parts]))
        self.process = self.processes.start("ringway", [ground.ringway, "run", "-c", self.config])
        self.pid = self.process.pid
        wait_until(self.is_ready, START_SECONDS, "ringway is ready")

    def is_ready(self):
        """Whether it says that it is; fails when it has ended."""
        if self.process.poll() is not None:
            words = self.processes.last_words("ringway")
            raise Failed(f"ringway ended with {self.process.returncode}:\n{words}")
        try:
            return self.admin("/readyz")[0] == 200
        except OSError:
            return False

    def admin(self, path):
        """One question to the admin listener: status and body."""
        return get(self.admin_port, path)

    def standings(self):
        """Standing by backend, over all pools."""
        pools = json.loads(self.admin("/api/pools")[1])["pools"]
        return {backend["name"]: backend["standing"] for pool in pools for backend in pool["backends"]}

    def await_standing(self, backend, standing, seconds=15):
        """Waits until a backend stands so."""
        wait_until(lambda: self.standings()[backend] == standing, seconds, f"{backend} is {standing}")

    def metrics(self):
        """What /metrics says now."""
        return Metrics(self.admin("/metrics")[1].decode())

    def memory(self, field="VmRSS"):
        """Bytes that the kernel says it has in memory: now, or at most so far (VmHWM)."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"^{field}:\s+(\d+) kB$", text, re.M)[1]) * 1024


class Metrics:
    """One scrape."""

    def __init__(self, text):
        self.samples = []
        for line in text.splitlines():
            if match := SAMPLE.match(line):
                self.samples.append((match[1], dict(LABEL.findall(match[2] or "")), float(match[3])))

    def sum(self, name, **labels):
        """The sum over all samples of this name that have these labels."""
        return sum(value for other, has, value in self.samples if other == name and labels.items() <= has.items())

    def by(self, name, label):
        """Sums by one label; those that are zero are left out."""
        totals = {}
        for other, has, value in self.samples:
            if other == name and value:
                totals[has[label]] = totals.get(has[label], 0) + value
        return {key: int(value) for key, value in sorted(totals.items())}


def get(port, path, headers={}, timeout=10):
    """One GET on a connection of its own: status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except http.client.HTTPException as error:
        raise ConnectionError(repr(error)) from error
    finally:
        connection.close()
