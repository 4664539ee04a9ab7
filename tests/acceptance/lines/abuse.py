"""clients that ask too much: memory stays below a bound, others are served meanwhile, and each kind is counted

Floods over HTTP/2 (rapid reset, CONTINUATION, SETTINGS, PING, empty DATA, compressed heads that unfold), windows that are never
opened, ten thousand connections that say nothing; slowhttptest's slow heads, bodies and reading.
"""

import re
import resource
import socket
import subprocess
import sys
import threading
import time

from ground import wait_until
from origins import Origin
from processes import free_ports, tool
from proxy import Proxy, get, pool

PROGRAM = __file__.rsplit("/", 2)[0] + "/programs/frames.py"
# 12 MiB for the process, and for each of 2000 streams whose client takes nothing a buffer of 16 KiB and at most 12 KiB around it. An origin
# that is quick enough to fill all of them brings it to 66 MiB.
BOUND = 72 << 20
SILENT = 10_000
SLOW_SECONDS = 6
# kind: what counts it.
FLOODS = {"rapid-reset": "resets", "continuation": "field_section", "settings": "settings", "ping": "pings",
          "empty-data": "empty_frames", "header-bomb": None}


class Others(threading.Thread):
    """Somebody who asks for a page all the time, and remembers what he got."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.wants_end, self.counts, self.slowest = port, threading.Event(), {}, 0.0

    def run(self):
        while not self.wants_end.wait(0.005):
            began = time.monotonic()
            try:
                status = get(self.port, "/")[0]
            except OSError as error:
                status = type(error).__name__
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.counts[status] = self.counts.get(status, 0) + 1

    def end(self):
        """Stops asking. What came of it."""
        self.wants_end.set()
        self.join()
        return self.counts


def run(report, ground):
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    origin = Origin(ground, "origin", "nginx")
    python = Origin(ground, "python", "python")
    clear, = free_ports(1)
    proxy = Proxy(ground, "[client]\nmax_connections = 20000\nrequest_head_timeout = \"4s\"\nidle_body_timeout = \"4s\"\n",
                  pool("cache", {origin.name: origin.port}), pool("long", {python.name: python.port}),
                  '[[routes]]\npath_prefix = "/length"\npool = "long"\n[[routes]]\npool = "cache"\n',
                  f'[[listeners]]\naddress = "127.0.0.1:{clear}"\nhttp2 = "prior-knowledge"\n')
    report.say(f"VmRSS before: {proxy.memory() / 2**20:.1f} MiB")

    def besides(what, act):
        """Does something while others ask."""
        others = Others(proxy.port)
        others.start()
        came = act()
        counts = others.end()
        peak = proxy.memory("VmHWM")
        report.expect(set(counts) == {200} and peak <= BOUND,
                      f"{what}: {came}; others {counts}, slowest {others.slowest * 1000:.0f} ms; "
                      f"VmHWM {peak / 2**20:.1f} MiB, {BOUND >> 20} are allowed")

    for kind, counter in FLOODS.items():
        def flood(kind=kind):
            done = subprocess.run([sys.executable, "-B", PROGRAM, str(clear), kind], capture_output=True, text=True, timeout=120,
                                  check=False)
            return done.stdout.strip() or done.stderr[-200:]
        besides(kind, flood)
        if counter:
            ended = proxy.metrics().sum("ringway_http2_connections_ended_total", reason=counter)
            report.expect(ended >= 1, f"{kind}: counted as {counter}: {int(ended)}")
    refused = proxy.metrics().sum("ringway_refusals_total", reason="head_too_large")
    report.expect(refused > 0, f"header-bomb: counted as head_too_large: {int(refused)}")
    besides("windows that are never opened", lambda: stall(proxy, clear))
    besides(f"{SILENT} connections that say nothing", lambda: silence(proxy))
    for flag, what in (("-H", "slow heads"), ("-B", "slow bodies"), ("-X", "slow reading")):
        besides(f"slowhttptest {flag}, {what}", lambda flag=flag: slow(ground, proxy, flag))
    wait_until(lambda: not proxy.metrics().sum("ringway_requests_in_flight"), 20, "nothing is in flight any more")


def stall(proxy, port):
    """Twenty connections of a hundred streams each ask for 10 MB and take nothing."""
    sys.path.insert(0, PROGRAM.rsplit("/", 1)[0])
    import frames
    connections = []
    for _ in range(20):
        connection = socket.create_connection(("127.0.0.1", port), timeout=30)
        fields = [*frames.GOOD[:2], (":path", "/length/10000000"), *frames.GOOD[3:]]
        head = frames.section(fields)
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frames.frame(frames.SETTINGS, 0, 0)
                           + b"".join(frames.frame(frames.HEADERS, 5, 2 * i + 1, head) for i in range(100)))
        connections.append(connection)
    flying = int(proxy.metrics().sum("ringway_requests_in_flight"))
    # Until the time that a client has for taking is over.
    wait_until(lambda: not proxy.metrics().sum("ringway_requests_in_flight"), 30, "all are given up")
    got = 0
    for connection in connections:
        connection.setblocking(False)
        try:
            while some := connection.recv(1 << 20):
                got += len(some)
        except OSError:
            pass
        connection.close()
    return f"2000 streams, {flying} under way at the end of asking, {got / 1e6:.1f} MB came"


def silence(proxy):
    """As many connections as it takes."""
    connections = [socket.create_connection(("127.0.0.1", proxy.port), timeout=30) for _ in range(SILENT)]
    held = proxy.metrics().sum("ringway_client_connections_open")
    left = wait_until(lambda: (now := proxy.metrics().sum("ringway_client_connections_open")) < SILENT / 100 and now + 1, 30,
                      "they are closed after the time for a head") - 1
    for connection in connections:
        connection.close()
    return f"{int(held)} open, {int(left)} after the time for a head"


def slow(ground, proxy, flag):
    """What slowhttptest says at its end."""
    uri = f"http://127.0.0.1:{proxy.port}/" + ("length/10000000" if flag == "-X" else "")
    command = [tool("slowhttptest"), flag, "-c", "500", "-r", "500", "-i", "1", "-l", str(SLOW_SECONDS), "-u", uri, "-p", "3"]
    if flag == "-X":
        command += ["-w", "10", "-y", "20", "-n", "1", "-z", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ground.folder, check=False)
    said = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", done.stdout)
    states = dict(re.findall(r"(service available|connected|closed|error):\s+(\S+)", said))
    return f"{states}"
