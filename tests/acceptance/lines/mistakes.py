"""ten mistakes give ten errors, each where it was made, exit code 78, and nothing is bound

The marks in the configuration below say where: an error must name that line and column.
"""

import re
import socket
import subprocess
from pathlib import Path

from processes import free_ports

MARK = "§"
MISTAKES = """
[server]
workers = §"two"
§drain_timout = "30s"

[client]
max_head_bytes = §"32 bananas"

[[listeners]]
address = "127.0.0.1:{port}"

[[routes]]
pool = §"cachee"

[pools.cache]
key = [§"header:x user"]
replicas = §0
on_all_down = §"panic"
backends = [
    {{ name = "cache-1", address = "127.0.0.1:9001" }},
    {{ name = §"cache-1", address = "127.0.0.1:9002" }},
]

[pools.cache.health]
interval = "1s"
timeout = §"5s"
changing_interval = §5

[admin]
address = "127.0.0.1:{admin}"
"""
NUMBER = 10
CONFIG_ERROR = 78


def run(report, ground):
    port, admin = free_ports(2)
    marked = MISTAKES.lstrip().format(port=port, admin=admin)
    config = ground.folder / "mistakes.toml"
    config.write_text(marked.replace(MARK, ""))
    expected = [(row, line.index(MARK) + 1) for row, line in enumerate(marked.splitlines(), 1) if MARK in line]
    for command in ("check", "run"):
        result, listened = watch([ground.ringway, command, "-c", config], (port, admin))
        text = result.stderr
        found = [(int(row), int(column)) for row, column in re.findall(rf"{re.escape(str(config))}:(\d+):(\d+)", text)]
        errors = len(re.findall(r"^error", text, re.M))
        report.expect(found == expected and errors == len(found) == NUMBER,
                      f"{command}: {len(expected)} mistakes, {errors} errors at {' '.join(f'{r}:{c}' for r, c in found)}")
        report.expect(result.returncode == CONFIG_ERROR, f"{command}: exit code {result.returncode}")
        report.expect(not listened, f"{command}: nothing listened while it ran")
        report.expect(all(map(is_free, (port, admin))), f"{command}: both ports are free")
    # Who would bind first and read then would fail with 75 here.
    with socket.create_server(("127.0.0.1", port)), socket.create_server(("127.0.0.1", admin)):
        code = subprocess.run([ground.ringway, "run", "-c", config], capture_output=True, timeout=30).returncode
    report.expect(code == CONFIG_ERROR, f"run with both ports taken: exit code {code}, so binding was not tried")


def watch(command, ports):
    """Runs a command to its end and looks at the kernel's table of sockets all the while."""
    listened = False
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            while process.poll() is None:
                listened = listened or bool(listening().intersection(ports))
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    return subprocess.CompletedProcess(command, process.returncode, out.decode(), err.decode()), listened


def listening():
    """Ports that somebody listens on."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A"}


def is_free(port):
    """Whether it can be bound."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
