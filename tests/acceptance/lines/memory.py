"""a gigabyte in each direction passes through without staying

With Content-Length and chunked. The memory of ringway is sampled all the while, and its peak is the kernel's own figure.
"""

import socket
import tempfile
import threading
import time

from ground import Failed
from origins import Origin
from proxy import Proxy, pool

GIGABYTE = 1_000_000_000
PIECE = 1 << 20
GROWTH = 20 << 20
SAMPLE_SECONDS = 0.01


def run(report, ground):
    length = 10 * GIGABYTE if ground.is_long else GIGABYTE
    origin = Origin(ground, "origin", "python")
    proxy = Proxy(ground, pool("cache", {origin.name: origin.port}))
    before = proxy.memory()
    highest = before
    report.say(f"VmRSS before: {before / 2**20:.1f} MiB")
    ways = (("down, Content-Length", download, "length"), ("down, chunked", download, "chunked"),
            ("up, Content-Length", upload, None), ("up, chunked", upload_chunked, None))
    for name, move, word in ways:
        with Samples(proxy) as samples:
            began = time.monotonic()
            moved = move(proxy.port, length, word)
            seconds = time.monotonic() - began
        highest = max(highest, *samples.seen)
        report.expect(moved == length, f"{name}: {moved} bytes, {moved / seconds / 1e6:.0f} MB/s, VmRSS at most "
                      f"{max(samples.seen) / 2**20:.1f} MiB in {len(samples.seen)} samples")
    after, peak = proxy.memory(), proxy.memory("VmHWM")
    report.say(f"VmRSS after: {after / 2**20:.1f} MiB; the kernel's peak: {peak / 2**20:.1f} MiB")
    grown = max(highest, peak, after) - before
    report.expect(grown < GROWTH, f"grew by {grown / 2**20:.1f} MiB at most; {GROWTH >> 20} are allowed")


class Samples:
    """Looks at the memory of the proxy until told to stop."""

    def __init__(self, proxy):
        self.proxy = proxy
        self.seen = [proxy.memory()]
        self.enough = threading.Event()
        self.thread = threading.Thread(target=self.look)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.enough.set()
        self.thread.join()
        self.seen.append(self.proxy.memory())

    def look(self):
        while not self.enough.wait(SAMPLE_SECONDS):
            self.seen.append(self.proxy.memory())


def connect(port):
    """A connection to the proxy."""
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def read_head(client):
    """Reads to the end of the head, not further: a byte at a time."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = client.recv(1)
        if not byte:
            raise Failed(f"the answer broke off: {head!r}")
        head += byte
    if not head.startswith(b"HTTP/1.1 200 "):
        raise Failed(f"not 200: {head!r}")


def download(port, length, word):
    """Reads an answer of zero bytes, and counts them: framing has none."""
    with connect(port) as client:
        client.sendall(f"GET /{word}/{length} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode())
        read_head(client)
        buffer = bytearray(PIECE)
        zeros = 0
        while size := client.recv_into(buffer):
            zeros += buffer.count(0, 0, size)
        return zeros


def upload(port, length, _):
    """Sends a file without content, as fast as the kernel can. The number that the backend counted."""
    with connect(port) as client, tempfile.TemporaryFile() as file:
        client.sendall(f"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n".encode())
        file.truncate(length)
        if client.sendfile(file) != length:
            raise Failed("the file was not sent as a whole")
        read_head(client)
        return int(client.recv(100))


def upload_chunked(port, length, _):
    """The same in chunks."""
    with connect(port) as client:
        client.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n")
        zeros = bytes(PIECE)
        for begin in range(0, length, PIECE):
            size = min(PIECE, length - begin)
            client.sendall(b"%x\r\n%b\r\n" % (size, zeros[:size]))
        client.sendall(b"0\r\n\r\n")
        read_head(client)
        return int(client.recv(100))
