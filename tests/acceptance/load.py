"""wrk, with a report that can be asked questions.

Runs until it is told to stop, within a bound. Start at `Wrk`.
"""

import re
import signal

from ground import Failed
from processes import tool
from origins import PROGRAMS

CONNECTIONS = 64
THREADS = 2
BOUND_SECONDS = 600
SOCKET = re.compile(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)")


class Wrk:
    """A running wrk: GETs with many keys on 64 connections."""

    def __init__(self, processes, port):
        self.processes = processes
        self.path = processes.folder / f"wrk-{port}.txt"
        command = [tool("wrk"), f"-c{CONNECTIONS}", f"-t{THREADS}", f"-d{BOUND_SECONDS}", "-s", PROGRAMS / "keys.lua",
                   f"http://127.0.0.1:{port}/"]
        with open(self.path, "wb") as out:
            self.process = processes.start("wrk", command, stdout=out)

    def is_running(self):
        """Whether it still is."""
        return self.process.poll() is None

    def finish(self):
        """Ends it as Ctrl-C would, and reads its report."""
        was_running = self.is_running()
        self.processes.stop(self.process, signal.SIGINT)
        return WrkReport(self.path.read_text(), was_running)


class WrkReport:
    """The figures that wrk prints at its end."""

    def __init__(self, text, was_running):
        total = re.search(r"(\d+) requests in ([\d.]+\w+)", text)
        if not total:
            raise Failed(f"wrk gave no report:\n{text}")
        self.was_running = was_running
        self.requests, self.time = int(total[1]), total[2]
        rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
        self.rate = float(rate[1]) if rate else 0.0
        errors = SOCKET.search(text)
        self.socket_errors = dict(zip(("connect", "read", "write", "timeout"),
                                      map(int, errors.groups()) if errors else (0, 0, 0, 0)))
        other = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
        self.other_answers = int(other[1]) if other else 0
