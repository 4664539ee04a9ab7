"""Starts programs and ends them, by process id and nothing else.

Whatever was started here is ended here: on success, on an error, on Ctrl-C, and (by the kernel's parent-death signal)
when the run itself is killed. That signal comes when the starting *thread* ends: start from the main thread only.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path

from ground import Failed

STOP_SECONDS = 5
LAST_LINES = 12
PACKAGES = {"nginx": "nginx-light", "promtool": "prometheus", "setpriv": "util-linux", "node": "nodejs"}


class Processes:
    """Every program that a line has started. A context manager: leaving it ends them all."""

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

    def start(self, name, command, stdout=None):
        """Starts a command, in a session of its own so that a Ctrl-C reaches us alone. Its output goes to NAME.log."""
        assert threading.current_thread() is threading.main_thread(), "the program would die with this thread"
        with open(self.log(name), "ab") as log:
            process = subprocess.Popen([tool("setpriv"), "--pdeathsig", "KILL", *map(str, command)],
                                       stdin=subprocess.DEVNULL, stdout=stdout or log, stderr=log,
                                       cwd=self.folder, start_new_session=True)
        process.name = name
        self.running.append(process)
        return process

    def stop(self, process, number=signal.SIGTERM):
        """Ends one program: asks with this signal, kills after 5 seconds. Returns its exit code."""
        if process.poll() is None:
            process.send_signal(number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self.running.remove(process)
        return process.returncode

    def log(self, name):
        """The file that a program's output goes to."""
        return self.folder / f"{name}.log"

    def last_words(self, name):
        """The last lines that a program wrote."""
        log = self.log(name)
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return "\n".join("    " + line for line in lines[-LAST_LINES:])


def tool(name):
    """A program's path. nginx lives in /usr/sbin, which is not on everyone's path."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not found:
        raise Failed(f"{name} is missing: apt-get install {PACKAGES.get(name, name)}")
    return found


def has_tool(name):
    """Whether there is such a program."""
    try:
        return bool(tool(name))
    except Failed:
        return False


def free_ports(count):
    """Free loopback ports below the range that outgoing connections take theirs from."""
    below = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    held = []
    try:
        for _ in range(count * 100):
            listener = socket.socket()
            try:
                listener.bind(("127.0.0.1", random.randrange(min(10000, below // 2), below)))
                held.append(listener)
            except OSError:
                listener.close()
            if len(held) == count:
                return [listener.getsockname()[1] for listener in held]
        raise Failed(f"no {count} free ports below {below}")
    finally:
        for listener in held:
            listener.close()
