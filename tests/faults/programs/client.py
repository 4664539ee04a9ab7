"""Clients in one process, a thread for each connection; every answer is judged and written down. Usage: client.py JSON

The JSON: name (the beginning of all ids), address, port, roles (a list of {"kind", "keys"} and perhaps "pause"), pause (mean seconds
between an answer and the next request), posts (their share), patience (seconds without a byte), records and counters (paths), seed,
until_refused. SIGTERM: what is under way is finished, then the end.

    kept       request after request on one connection, as long as that is open
    fresh      a connection for each request
    quitter    begins an upload and leaves in the middle of it
    endless    asks for an answer without end, takes some of it and leaves

A record is a line "BEGIN END KIND METHOD KEY BACKEND PROCESS ID", and KIND one of:

    2xx        the whole answer to this very request, byte for byte
    404, 503   another answer, whole
    lost       the connection ended before the first byte of an answer     silent     no byte of an answer in time
    broken     the answer ended before its end, and that could be seen      false      whole by its form, wrong in fact
    refused    no connection                                               left       the client's own doing
"""

import json
import mmap
import random
import select
import signal
import socket
import struct
import sys
import threading
import time
import zlib

from content import chunked, content

PIECE = 1 << 16
RESET = struct.pack("ii", 1, 0)
SLOT = 3
ENDLESS_BYTES = 2_000_000


class Verdict(Exception):
    """How an exchange ended that did not end well."""


class Connection:
    """To the proxy."""

    def __init__(self, plan):
        try:
            self.socket = socket.create_connection((plan["address"], plan["port"]), timeout=plan["patience"])
        except OSError:
            raise Verdict("refused") from None
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer, self.is_reused = b"", False

    def close(self):
        self.socket.close()

    def reset(self):
        """Closes without a goodbye."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.socket.close()

    def is_over(self):
        """Whether the other side has closed it. Bytes that nobody asked for are worse."""
        if self.buffer:
            raise Verdict("false")
        if not select.select([self.socket], [], [], 0)[0]:
            return False
        try:
            if self.socket.recv(1):
                raise Verdict("false")
        except OSError:
            """Reset while it was idle: closed all the same."""
        return True

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError:
            """Perhaps there is an answer all the same."""

    def more(self, otherwise):
        """Reads on; at the end, that verdict."""
        try:
            piece = self.socket.recv(PIECE)
        except TimeoutError:
            raise Verdict("silent" if otherwise == "lost" else "broken") from None
        except OSError:
            raise Verdict(otherwise) from None
        if not piece:
            raise Verdict(otherwise)
        self.buffer += piece

    def until(self, end):
        while (at := self.buffer.find(end)) < 0:
            self.more("broken" if self.buffer else "lost")
        found, self.buffer = self.buffer[:at], self.buffer[at + len(end):]
        return found

    def line(self):
        """A line within a body: its absence is a break, not a loss."""
        while (at := self.buffer.find(b"\r\n")) < 0:
            self.more("broken")
        found, self.buffer = self.buffer[:at], self.buffer[at + 2:]
        return found

    def exactly(self, length):
        while len(self.buffer) < length:
            self.more("broken")
        found, self.buffer = self.buffer[:length], self.buffer[length:]
        return found

    def head(self):
        """The final answer's status and fields."""
        while True:
            first, *lines = self.until(b"\r\n\r\n").split(b"\r\n")
            version, status, *_ = first.split(b" ")
            if not version.startswith(b"HTTP/1."):
                raise Verdict("false")
            if not status.startswith(b"1"):
                break
        pairs = (line.partition(b":") for line in lines)
        return int(status), {name.lower(): value.strip() for name, _, value in pairs}

    def chunks(self):
        """The chunks of a body, one by one."""
        while size := int(self.line().split(b";")[0], 16):
            yield self.exactly(size)
            self.line()
        while self.line():
            pass

    def body(self, fields):
        if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
            return b"".join(self.chunks())
        if b"content-length" in fields:
            return self.exactly(int(fields[b"content-length"]))
        # Nothing says where it ends but its end: a clean one counts as such.
        while True:
            try:
                piece = self.socket.recv(PIECE)
            except OSError:
                raise Verdict("broken") from None
            if not piece:
                found, self.buffer = self.buffer, b""
                return found
            self.buffer += piece


class Client(threading.Thread):
    """One of them."""

    def __init__(self, plan, slot, role, counters, wants_end):
        super().__init__()
        self.plan, self.role, self.wants_end, self.records = plan, role, wants_end, []
        self.prefix = f"{plan['name']}.{slot}"
        self.random = random.Random(f"{plan['seed']}.{self.prefix}")
        self.counters, self.base = counters, slot * SLOT
        self.connection, self.count = None, 0
        self.backend = self.process = b"-"
        self.act = {"kept": self.ordinary, "fresh": self.ordinary, "quitter": self.quitter, "endless": self.endless}[role["kind"]]

    def run(self):
        while not self.wants_end.is_set():
            self.count += 1
            ident = f"{self.prefix}.{self.count}"
            key = self.random.choice(self.role["keys"])
            self.backend = self.process = b"-"
            self.counters[self.base] += 1
            begun = time.monotonic()
            method, kind = self.one(key, ident)
            ended = time.monotonic()
            self.records.append(
                f"{begun:.5f} {ended:.5f} {kind} {method} {key} {self.backend.decode()} {self.process.decode()} {ident}\n")
            self.counters[self.base + 1] += 1
            self.counters[self.base + 2] += kind == "2xx"
            if kind == "refused" and self.plan["until_refused"]:
                return
            # The pause is this client's nature, not a wait for something.
            self.wants_end.wait(self.random.uniform(0, 2 * self.role.get("pause", self.plan["pause"])))

    def one(self, key, ident):
        """One exchange: its method, and how it ended."""
        method = "POST" if self.role["kind"] == "quitter" or self.random.random() < self.plan["posts"] else "GET"
        if self.role["kind"] == "endless":
            method = "GET"
        try:
            if self.connection and self.connection.is_over():
                self.drop()
            if not self.connection:
                self.connection = Connection(self.plan)
            kind = self.act(method, key, ident)
        except Verdict as verdict:
            kind = str(verdict)
        except ValueError:
            # Lines that are no HTTP.
            kind = "false"
        if not kind[0].isdigit() or self.role["kind"] != "kept":
            self.drop()
        return method, kind

    def drop(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def size(self):
        """Most bodies are short; some are passed on in ways of their own."""
        dice = self.random.random()
        return self.random.randint(*((10, 2000) if dice < 0.8 else (2000, 30_000) if dice < 0.97 else (40_000, 200_000)))

    def ordinary(self, method, key, ident):
        """A GET or POST, and its answer judged."""
        form, length = self.random.choice(("length", "chunked")), self.size()
        sent = content(ident.encode(), self.size()) if method == "POST" else b""
        fields = f"host: bench\r\nx-user-id: {key}\r\nx-bench-id: {ident}\r\n"
        if sent and self.random.random() < 0.2:
            fields, body = fields + "transfer-encoding: chunked\r\n", chunked(sent)
        else:
            fields, body = fields + (f"content-length: {len(sent)}\r\n" if sent else ""), sent
        if self.role["kind"] == "fresh":
            fields += "connection: close\r\n"
        self.connection.send(f"{method} /{form}/{length} HTTP/1.1\r\n{fields}\r\n".encode() + body)
        status, fields = self.connection.head()
        self.backend, self.process = fields.get(b"x-backend", b"-"), fields.get(b"x-process", b"-")
        body = self.connection.body(fields)
        if fields.get(b"connection", b"").lower() == b"close":
            self.drop()
        if not 200 <= status < 300:
            return str(status)
        length = int(fields.get(b"x-declared", length))
        is_own = fields.get(b"x-bench-id") == ident.encode()
        was_heard = fields.get(b"x-received") == b"%d:%d" % (len(sent), zlib.crc32(sent))
        return "2xx" if is_own and was_heard and body == content(ident.encode(), length) else "false"

    def quitter(self, method, key, ident):
        """Half of an upload."""
        length = self.random.randint(2, 200_000)
        fields = f"host: bench\r\nx-user-id: {key}\r\nx-bench-id: {ident}\r\ncontent-length: {length}\r\n"
        half = content(ident.encode(), self.random.randint(0, length - 1))
        self.connection.send(f"{method} /length/10 HTTP/1.1\r\n{fields}\r\n".encode() + half)
        if self.random.random() < 0.5:
            self.connection.reset()
        return "left"

    def endless(self, _method, key, ident):
        """Some of what does not end."""
        self.connection.send(f"GET /endless HTTP/1.1\r\nhost: bench\r\nx-user-id: {key}\r\nx-bench-id: {ident}\r\n\r\n".encode())
        status, fields = self.connection.head()
        self.backend = fields.get(b"x-backend", b"-")
        if status != 200:
            self.connection.body(fields)
            return str(status)
        got = b""
        for piece in self.connection.chunks():
            got += piece
            if len(got) > ENDLESS_BYTES:
                expected = content(b"endless", PIECE) * (len(got) // PIECE + 1)
                return "left" if got == expected[:len(got)] else "false"
        return "false"


def main():
    plan = json.loads(sys.argv[1])
    wants_end = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: wants_end.set())
    threading.stack_size(256 * 1024)
    size = len(plan["roles"]) * SLOT * 8
    with open(plan["counters"], "r+b") as file, open(plan["records"], "w", encoding="ascii") as records:
        file.truncate(size)
        with mmap.mmap(file.fileno(), size) as shared, memoryview(shared).cast("Q") as counters:
            clients = [Client(plan, slot, role, counters, wants_end) for slot, role in enumerate(plan["roles"])]
            for client in clients:
                client.start()
            for client in clients:
                client.join()
                records.writelines(client.records)


if __name__ == "__main__":
    main()
