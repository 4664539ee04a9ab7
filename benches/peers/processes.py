"""Starts the origin and the proxies, each pinned to its cores, and ends them by process id.

Whatever was started here is ended here: on success, on an error, on Ctrl-C, and (by the kernel's
parent-death signal) when the bench itself is killed. Never measures. Start at `Processes`.
"""

import http.client
import os
import random
import signal
import socket
import subprocess
import time
from pathlib import Path

CONFIG = Path(__file__).resolve().parent / "config"
BACKENDS = 4
START_SECONDS = 15
STOP_SECONDS = 5


class Failed(Exception):
    """A program did not start, or did not do what the bench relies on."""


class Processes:
    """Every child of the bench. A context manager: leaving it ends them all."""

    def __init__(self, folder):
        self.folder = folder
        self.running = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        for process in reversed(self.running[:]):
            self.stop(process)
        for number, handler in before.items():
            signal.signal(number, handler)

    def start(self, name, command, cores, stdout=None):
        """Starts a command on the given cores. It dies with the bench. Its output goes to NAME.log."""
        pinned = ["setpriv", "--pdeathsig", "TERM", "taskset", "-c", cores, *command]
        with open(self.log(name), "ab") as log:
            process = subprocess.Popen(pinned, stdin=subprocess.DEVNULL, stdout=stdout or log, stderr=log,
                                       cwd=self.folder, start_new_session=True)
        process.name = name
        self.running.append(process)
        return process

    def stop(self, process):
        """Ends one child and its children: asks first, kills by process id what is left after 5 seconds."""
        family = [(pid, birth(pid)) for pid in tree(process.pid)]
        if process.poll() is None:
            process.terminate()
        until = time.monotonic() + STOP_SECONDS
        while time.monotonic() < until and (process.poll() is None or any(alive(*one) for one in family)):
            time.sleep(0.01)
        for pid, born in family:
            if alive(pid, born):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        self.running.remove(process)

    def log(self, name):
        """The file that a program's output goes to."""
        return self.folder / f"{name}.log"

    def complaint(self, name):
        """The last lines a program wrote, for an error message."""
        texts = [path.read_text(errors="replace") for path in sorted(self.folder.glob(f"{name}.*log"))]
        return "\n".join("".join(texts).splitlines()[-15:])


class Origin:
    """One nginx with four listeners, which are the four backends."""

    def __init__(self, processes, nginx, cores):
        bodies = processes.folder / "bodies"
        bodies.mkdir()
        (bodies / "64k.bin").write_bytes(b"x" * (64 << 10))
        (bodies / "1m.bin").write_bytes(b"x" * (1 << 20))
        *self.ports, self.status = free_ports(BACKENDS + 1)
        config = fill("origin.conf", processes.folder, "origin.conf", self.ports, STATUS=self.status)
        command = [nginx, "-p", str(processes.folder), "-c", str(config)]
        self.process = processes.start("origin", command, cores)
        await_answer(processes, self.process, self.status, "/")

    @property
    def pids(self):
        """The process and all its descendants."""
        return tree(self.process.pid)

    def accepted(self):
        """Connections accepted so far, the one that asks included."""
        return int(fetch(self.status, "/")[2].split(b"requests\n")[1].split()[0])


class Proxy:
    """One of the proxies compared, running."""

    def __init__(self, processes, name, program, origin, cores):
        self.name = name
        self.port, admin = free_ports(2)
        config = fill(TEMPLATES[name], processes.folder, f"{name}.{TEMPLATES[name]}", origin.ports,
                      NAME=name, PORT=self.port, ADMIN=admin, BUFFERS=BUFFERS.get(name, ""))
        self.process = processes.start(name, command(name, program, config, processes.folder), cores)
        await_answer(processes, self.process, self.port, "/small/1")

    @property
    def pids(self):
        """The process and all its descendants."""
        return tree(self.process.pid)


TEMPLATES = {"ringway": "ringway.toml", "nginx": "nginx.conf", "haproxy": "haproxy.cfg", "envoy": "envoy.yaml",
             "nginx-buffers": "nginx.conf"}
BUFFERS = {"nginx-buffers": "proxy_buffer_size 16k; proxy_buffers 32 16k;"}


def command(name, program, config, folder):
    """How each proxy is started: in the foreground, one worker."""
    nginx = [program, "-p", str(folder), "-c", str(config)]
    return {
        "nginx": nginx,
        "nginx-buffers": nginx,
        "haproxy": [program, "-db", "-f", str(config)],
        "envoy": [program, "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "warning"],
        "ringway": [program, "run", "-c", str(config)],
    }[name]


def fill(template, folder, name, ports, **values):
    """Writes a template with its @NAMES@ replaced, and returns the file."""
    values |= {f"BACKEND{n}": port for n, port in enumerate(ports, 1)} | {"RUN": folder}
    text = (CONFIG / template).read_text()
    for key, value in values.items():
        text = text.replace(f"@{key}@", str(value))
    path = folder / name
    path.write_text(text)
    return path


def free_ports(count):
    """Free loopback ports below the range that outgoing connections take theirs from."""
    below = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    held = []
    try:
        while len(held) < count:
            listener = socket.socket()
            try:
                listener.bind(("127.0.0.1", random.randrange(min(10000, below // 2), below)))
                held.append(listener)
            except OSError:
                listener.close()
        return [listener.getsockname()[1] for listener in held]
    finally:
        for listener in held:
            listener.close()


def fetch(port, path, connection=None):
    """One GET: status, headers, body."""
    own = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        own.request("GET", path)
        answer = own.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        if connection is None:
            own.close()


def await_answer(processes, process, port, path):
    """Waits until the program answers 200; fails with the program's own words if it ends or does not."""
    until = time.monotonic() + START_SECONDS
    last = "no answer"
    while time.monotonic() < until:
        if process.poll() is not None:
            raise Failed(f"{process.name} ended at once:\n{processes.complaint(process.name)}")
        try:
            status = fetch(port, path)[0]
            if status == 200:
                return
            last = f"status {status}"
        except (OSError, http.client.HTTPException) as error:
            last = repr(error)
        time.sleep(0.02)
    raise Failed(f"{process.name} did not answer in time ({last}):\n{processes.complaint(process.name)}")


def tree(root):
    """A process id and all its descendants'."""
    children = {}
    for pid in every_pid():
        if fields := stat(pid):
            children.setdefault(int(fields[1]), []).append(pid)
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def every_pid():
    """The ids of all processes, kernel threads included."""
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def stat(pid):
    """The fields of /proc/PID/stat from the state on (index 0), or None when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def birth(pid):
    """When the process started, in clock ticks since boot: with the id it names the process for good."""
    fields = stat(pid)
    return fields and fields[19]


def alive(pid, born):
    """Whether that very process still runs."""
    fields = stat(pid)
    return bool(fields) and fields[19] == born and fields[0] != "Z"
