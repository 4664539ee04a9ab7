"""Network namespaces of a test's own: the proxy and its clients at one end of a cable, the backends at the other.

Owns the namespaces, the cable and its cuts. Each namespace belongs to a sleeping process and ends with it: nothing has a name that
could be left behind, and the machine's own network is not touched. Start at `Network`; `Loopback` is the place of tests without one.
"""

import ctypes
import os
import socket
import subprocess
import threading

from ground import Failed, wait_until
from processes import tool

CLONE_NEWNET = 0x40000000
NEAR = "10.0.0.1"
NOWHERE = "02:00:00:00:00:99"
ASK_SECONDS = 10


class Impossible(Exception):
    """This machine does not allow it."""


class Loopback:
    """The machine's own loopback."""

    proxy_address = "127.0.0.1"
    prefix = []
    far_prefix = []

    def backend_address(self, _number):
        return "127.0.0.1"

    def connect(self, address, port):
        return socket.create_connection((address, port), timeout=ASK_SECONDS)


class Network:
    """Two namespaces and a cable. The proxy serves its own end's loopback, where its clients are."""

    proxy_address = "127.0.0.1"

    def __init__(self, processes, backends):
        if os.geteuid() != 0:
            raise Impossible("network namespaces need root")
        own = os.readlink("/proc/self/ns/net")
        self.near, self.far = (processes.start(f"namespace-{end}", [tool("unshare"), "-n", tool("sleep"), "infinity"]).pid
                               for end in ("near", "far"))
        try:
            for pid in (self.near, self.far):
                wait_until(lambda pid=pid: os.readlink(f"/proc/{pid}/ns/net") != own, 5, "a namespace of its own")
        except (Failed, OSError):
            raise Impossible("unshare -n: " + processes.last_words("namespace-near").strip()) from None
        self.prefix, self.far_prefix = ([tool("nsenter"), "-t", str(pid), "-n"] for pid in (self.near, self.far))
        self.near_run("link", "set", "lo", "up")
        self.near_run("link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(self.far))
        self.near_run("address", "add", f"{NEAR}/24", "dev", "near")
        for number in range(backends):
            self.far_run("address", "add", f"{self.backend_address(number)}/24", "dev", "far")
        self.far_run("link", "set", "far", "up")
        self.near_run("link", "set", "near", "up")

    def near_run(self, *command):
        self.ip(self.prefix, command)

    def far_run(self, *command):
        self.ip(self.far_prefix, command)

    def ip(self, prefix, command):
        done = subprocess.run([*prefix, tool("ip"), *command], capture_output=True, text=True, timeout=10, check=False)
        if done.returncode:
            raise Impossible(f"ip {' '.join(command)}: {done.stderr.strip()}")

    def backend_address(self, number):
        return f"10.0.0.{11 + number}"

    def cut(self, number):
        """What goes to this backend goes nowhere from now on: frames leave for a card that nobody has."""
        self.near_run("neighbour", "replace", self.backend_address(number), "lladdr", NOWHERE, "dev", "near", "nud", "permanent")

    def mend(self, number):
        self.near_run("neighbour", "delete", self.backend_address(number), "dev", "near")

    def connect(self, address, port):
        """A connection from within the namespace of the proxy. A thread goes there: a socket stays where it was made."""
        made = []

        def go():
            with open(f"/proc/{self.near}/ns/net", "rb") as namespace:
                if ctypes.CDLL(None).setns(namespace.fileno(), CLONE_NEWNET) == 0:
                    made.append(socket.socket())

        thread = threading.Thread(target=go)
        thread.start()
        thread.join()
        if not made:
            raise Failed("no socket within the namespace")
        made[0].settimeout(ASK_SECONDS)
        made[0].connect((address, port))
        return made[0]
