"""Backends of the bench: processes that can be killed, stopped and told to misbehave, and whose journals say what they received.

Owns their start and end and the reading of journals. Start at `Backend`.
"""

import contextlib
import json
import signal
import socket
import sys
from collections import Counter
from pathlib import Path

from ground import Failed, wait_until
from processes import free_ports

PROGRAM = Path(__file__).resolve().parent / "programs" / "backend.py"
START_SECONDS = 15
WORK_SECONDS = 60


class Backend:
    """One of them."""

    def __init__(self, stage, number, name=None, address=None, port=None):
        self.processes, self.number, self.network = stage.processes, number, stage.network
        self.name = name or f"b{number}"
        self.address, self.port = address or stage.network.backend_address(number), port or free_ports(1)[0]
        tag = f"{self.name}-{self.address}"
        self.journal, self.control = stage.folder / f"{tag}.journal", stage.folder / f"{tag}.control"
        settings = {"name": self.name, "addresses": [[self.address, self.port]],
                    "journal": str(self.journal), "control": str(self.control)}
        self.tag, self.command = tag, [*self.network.far_prefix, sys.executable, "-B", PROGRAM, json.dumps(settings)]
        # How the configuration names it, if not by its address, and its share there.
        self.host, self.weight = None, 1
        self.process = None
        self.launch()

    def launch(self):
        """Starts it without waiting for it."""
        self.process = self.processes.start(self.tag, self.command)

    def await_start(self):
        wait_until(self.answers, START_SECONDS, f"{self.name} answers")

    def start(self):
        """Starts it, and waits until it is there."""
        self.launch()
        self.await_start()

    def answers(self):
        """Whether it takes orders, which it does once it listens; fails when it has ended."""
        if self.process.poll() is not None:
            raise Failed(f"{self.name} ended:\n{self.processes.last_words(self.tag)}")
        try:
            return self.order() is not None
        except OSError:
            return False

    def order(self, **what):
        """Tells it something, and gives back how it is."""
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(5)
            control.connect(str(self.control))
            control.sendall(json.dumps(what).encode() + b"\n")
            with control.makefile() as file:
                return json.loads(file.readline() or "null")

    def misbehave(self, fault, share):
        """Does this to such a share of requests from now on."""
        self.order(fault=fault, share=share)

    def behave(self):
        self.misbehave("", 0)

    def kill(self):
        self.processes.stop(self.process, signal.SIGKILL)

    @contextlib.contextmanager
    def stopped(self):
        """SIGSTOP, and SIGCONT whatever happens."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def entries(self):
        """What it received, over all its lives: method, id and what it did to it."""
        if not self.journal.exists():
            return []
        return [line.split() for line in self.journal.read_text("ascii").splitlines()]

    def size(self):
        return self.journal.stat().st_size if self.journal.exists() else 0

    def await_work(self, seconds=WORK_SECONDS, bytes_more=2000):
        """Waits until it has received some further hundred requests."""
        before = self.size()
        wait_until(lambda: self.size() > before + bytes_more, seconds, f"{self.name} has work")


def deliveries(backends):
    """How often each id reached a backend, by method; and how often each fault was done."""
    counts, faults = {}, Counter()
    for backend in backends:
        for method, ident, fault in backend.entries():
            counts.setdefault(method, Counter())[ident] += 1
            if fault != "-":
                faults[fault] += 1
    return counts, faults
