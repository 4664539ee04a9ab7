"""fifty tabs watch under full load: what that costs for each proxied request

Rounds with and without fifty streams of events, one after the other, on the same proxy. CPU time is the kernel's figure for the process, and
for its admin thread alone. Figures, and no verdict about them: machines differ. Long: more rounds, and a fleet of 500 backends too.
"""

import os
import select
import socket
import statistics
import threading
import time
from pathlib import Path

from ground import wait_until
from load import Wrk
from origins import Origin
from proxy import Proxy, pool

TABS = 50
TICK = os.sysconf("SC_CLK_TCK")


def run(report, ground):
    origins = [Origin(ground, f"nginx-{number}", "nginx") for number in (1, 2, 3)]
    sizes, rounds, seconds = ((3, 12, 500), 8, 6) if ground.is_long else ((3,), 3, 3)
    for size in sizes:
        measure(report, ground, origins, size, rounds, seconds)


def measure(report, ground, origins, size, rounds, seconds):
    """The same load, with and without streams, for a fleet of this size."""
    # The others are there for the rows that a sample has: without a weight, they own nothing.
    spare = [f"spare-{number}" for number in range(len(origins), size)]
    weights = [f'{{ name = "{name}", address = "127.0.0.1:9", weight = 0 }},' for name in spare]
    rows = [f'{{ name = "{origin.name}", address = "127.0.0.1:{origin.port}" }},' for origin in origins]
    text = "\n".join(["[pools.cache]", 'key = ["header:x-user-id"]', "backends = [", *rows, *weights, "]",
                      "[pools.cache.health]", 'kind = "off"', ""])
    proxy = Proxy(ground, text)
    wrk = Wrk(ground.processes, proxy.port)
    wait_until(lambda: answered(proxy) > 5000, 30, "requests are answered")
    costs = {False: [], True: []}
    admin = {False: [], True: []}
    came = []
    for number in range(2 * rounds):
        watched = number % 2 == 1
        streams = Streams(proxy.admin_port, TABS if watched else 0)
        with streams:
            before = (answered(proxy), cpu(proxy.pid), cpu(proxy.pid, "ringway-admin"))
            time.sleep(seconds)
            requests, whole, own = (now - then for now, then in
                                    zip((answered(proxy), cpu(proxy.pid), cpu(proxy.pid, "ringway-admin")), before))
        costs[watched].append(1e6 * whole / requests)
        admin[watched].append(100 * own / seconds)
        if watched:
            came.append((min(streams.samples), streams.bytes / seconds / 1e3))
    result = wrk.finish()
    ratio = statistics.median(with_streams / without for with_streams, without in zip(costs[True], costs[False]))
    report.say(f"{size} backends: {statistics.median(costs[False]):.2f} µs a request without, {statistics.median(costs[True]):.2f} µs with "
               f"{TABS} streams: ratio {ratio:.3f} (rounds {min(costs[False]):.2f}–{max(costs[False]):.2f}, "
               f"{min(costs[True]):.2f}–{max(costs[True]):.2f})")
    report.say(f"{size} backends: the admin thread takes {statistics.median(admin[False]):.2f} % of a core without, "
               f"{statistics.median(admin[True]):.2f} % with; {statistics.median(rate for _, rate in came):.0f} kB/s in all")
    report.expect(all(least >= seconds - 2 for least, _ in came), f"{size} backends: each of {TABS} streams had its samples")
    report.expect(result.other_answers == 0 and not any(result.socket_errors.values()), f"{size} backends: no request came to harm")


def answered(proxy):
    return proxy.metrics().sum("ringway_requests_total", **{"class": "2xx"})


def cpu(pid, thread=None):
    """Seconds of CPU time, of the process or of its threads of this name."""
    root = Path(f"/proc/{pid}")
    stats = [root / "stat"] if thread is None else [
        task / "stat" for task in (root / "task").iterdir() if (task / "comm").read_text().strip() == thread[:15]]
    fields = [stat.read_text().rpartition(")")[2].split() for stat in stats]
    return sum(int(field[11]) + int(field[12]) for field in fields) / TICK


class Streams:
    """So many that watch, read by a thread. A context manager."""

    def __init__(self, port, count):
        self.sockets = []
        self.samples = [0] * count
        self.bytes = 0
        self.over = threading.Event()
        for _ in range(count):
            stream = socket.create_connection(("127.0.0.1", port))
            stream.sendall(b"GET /api/events HTTP/1.1\r\nHost: a\r\n\r\n")
            self.sockets.append(stream)
        self.thread = threading.Thread(target=self.read)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        for stream in self.sockets:
            stream.close()

    def read(self):
        number = {stream.fileno(): at for at, stream in enumerate(self.sockets)}
        poll = select.poll()
        for stream in self.sockets:
            poll.register(stream, select.POLLIN)
        while not self.over.is_set():
            for at, _ in poll.poll(200):
                part = os.read(at, 1 << 18)
                self.bytes += len(part)
                self.samples[number[at]] += part.count(b"event: sample")
