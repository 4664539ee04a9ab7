"""two hundred clients that read nothing of a long answer cost a bounded amount of memory

What is measured is the memory of ringway once nothing moves any more: every buffer on the way is full then.
"""

import array
import fcntl
import socket
import termios
import time

from ground import wait_until
from origins import Origin
from proxy import Proxy, pool

CLIENTS = 200
LENGTH = 100_000_000
# The long read buffer, two short ones and what the allocator makes of their growth.
PER_CLIENT = 256 << 10
STILL_SECONDS = 1.0


def run(report, ground):
    origin = Origin(ground, "origin", "python")
    proxy = Proxy(ground, pool("cache", {origin.name: origin.port}))
    for word in ("length", "chunked"):
        one_kind(report, proxy, word)


def one_kind(report, proxy, word):
    """All clients with one framing of the answer."""
    before = proxy.memory()
    already = proxy.metrics().sum("ringway_requests_total", **{"class": "cancelled"})
    clients = []
    try:
        for number in range(CLIENTS):
            client = socket.create_connection(("127.0.0.1", proxy.port), timeout=30)
            clients.append(client)
            client.sendall(f"GET /{word}/{LENGTH} HTTP/1.1\r\nhost: a\r\nx-user-id: {number}\r\n\r\n".encode())
        wait_until(Still(clients), 45, "nothing moves any more")
        flying = int(proxy.metrics().sum("ringway_requests_in_flight"))
        held = proxy.memory()
        waiting = sum(map(unread, clients))
    finally:
        for client in clients:
            client.close()
    grown, each = held - before, (held - before) / CLIENTS / 1024
    report.say(f"{word}: {flying} answers of {LENGTH} bytes under way, {waiting / 1e6:.1f} MB wait in the clients' sockets")
    report.expect(flying == CLIENTS and grown <= CLIENTS * PER_CLIENT,
                  f"{word}: VmRSS {before / 2**20:.1f} MiB before, {held / 2**20:.1f} MiB now: {each:.0f} KiB a client, "
                  f"{PER_CLIENT >> 10} are allowed")

    def cancelled():
        return proxy.metrics().sum("ringway_requests_total", **{"class": "cancelled"}) - already

    wait_until(lambda: cancelled() >= CLIENTS, 15, "all are counted as cancelled")
    metrics = proxy.metrics()
    report.expect(cancelled() == CLIENTS and not metrics.sum("ringway_requests_in_flight"),
                  f"{word}: the clients left: {int(cancelled())} cancelled, none in flight, "
                  f"VmRSS {proxy.memory() / 2**20:.1f} MiB")


class Still:
    """Whether the bytes that wait in the clients' sockets have been the same for a while."""

    def __init__(self, clients):
        self.clients = clients
        self.last, self.since = None, time.monotonic()

    def __call__(self):
        now = [unread(client) for client in self.clients]
        if now != self.last:
            self.last, self.since = now, time.monotonic()
        return all(now) and time.monotonic() - self.since >= STILL_SECONDS


def unread(client):
    """Bytes that have come and were not read."""
    size = array.array("i", [0])
    fcntl.ioctl(client.fileno(), termios.FIONREAD, size)
    return size[0]
