"""Starts the origin and the proxies, each pinned to its cores, and ends them by process id.

Whatever was started here is ended here: on success, on an error, on Ctrl-C, and (by the kernel's
parent-death signal) when the bench itself is killed. Never measures. Start at `Processes`.
"""

import http.client
import os
import signal
import ssl
import subprocess
import time
from pathlib import Path

from setups import addresses, configure, fill, free_ports, log_file

# The largest body is a file with a hole: it takes no memory.
BODIES = {"64k.bin": 64 << 10, "1m.bin": 1 << 20, "1g.bin": 1 << 30}
MOST_WRITTEN = 1 << 20
DEAD = ("127.0.101.", "127.0.102.", "127.0.103.", "127.0.104.")
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

    def start(self, name, command, cores, stdin=subprocess.DEVNULL, stdout=None):
        """Starts a command on the given cores. It dies with the bench. Its output goes to NAME.log."""
        pinned = ["setpriv", "--pdeathsig", "TERM", "taskset", "-c", cores, *command]
        with open(self.log(name), "ab") as log:
            process = subprocess.Popen(pinned, stdin=stdin, stdout=stdout or log, stderr=log,
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
    """One nginx with a listener for each living backend."""

    def __init__(self, processes, nginx, cores, count=4, dead=0):
        bodies = processes.folder / "bodies"
        bodies.mkdir(exist_ok=True)
        for name, size in BODIES.items():
            with open(bodies / name, "wb") as file:
                file.write(b"x" * min(size, MOST_WRITTEN))
                file.truncate(size)
        port, self.status = free_ports(2)
        self.backends = addresses(count, dead, port)
        self.living = count - dead
        listening = [(host, port) for host, port in self.backends if not host.startswith(DEAD)]
        config = fill("origin.conf", processes.folder, "origin.conf", listening, STATUS=self.status)
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

    def __init__(self, processes, name, program, origin, cores, case):
        self.name = name
        self.port, self.admin = free_ports(2)
        self.log = log_file(name, processes.folder)
        words = configure(name, case, processes.folder, origin.backends, self.port, self.admin)
        self.process = processes.start(name, [program, *words], cores)
        await_answer(processes, self.process, self.port, "/small/1", case.tls)

    @property
    def pids(self):
        """The process and all its descendants."""
        return tree(self.process.pid)


def connect(port, tls, timeout):
    """A connection to a proxy, whoever it is."""
    if not tls:
        return http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=timeout, context=anyone)


def fetch(port, path, connection=None, tls=False):
    """One GET: status, headers, body."""
    own = connection or connect(port, tls, 5)
    try:
        own.request("GET", path)
        answer = own.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        if connection is None:
            own.close()


def await_answer(processes, process, port, path, tls=False):
    """Waits until the program answers 200; fails with the program's own words if it ends or does not."""
    until = time.monotonic() + START_SECONDS
    last = "no answer"
    while time.monotonic() < until:
        if process.poll() is not None:
            raise Failed(f"{process.name} ended at once:\n{processes.complaint(process.name)}")
        try:
            status = fetch(port, path, tls=tls)[0]
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
