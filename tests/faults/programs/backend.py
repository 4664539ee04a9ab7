"""A backend that writes down every request before it answers, and misbehaves when it is told to. Usage: backend.py JSON

The JSON names it: name, addresses (pairs of address and port), journal and control (paths).

    /length/N    N bytes, with Content-Length      /chunked/N   N bytes, chunked
    /endless     chunks until the other side goes  /health      well, whatever else is wrong

Each request makes a line "METHOD ID FAULT" in the journal when its head has come, so that also what SIGKILL cuts off is known. The
control is a Unix socket, which is reached from other network namespaces too: one line of JSON in, one out.

    {"fault": NAME, "share": 0.3}   do this to such a share of the requests ("" is none)
    {"deaf": true}                  close the listeners and reset every connection; false: listen again
"""

import contextlib
import itertools
import json
import os
import random
import re
import socket
import struct
import sys
import threading
import time
import zlib

from content import chunked, content

PIECE = 1 << 16
HEALTHY = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
RESET = struct.pack("ii", 1, 0)
ID = re.compile(rb"\r\nx-bench-id: *(\S+)", re.I)
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.I)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.I)
BACKLOG = 1024
# How long what comes after an end is still listened to.
LATE_SECONDS = 0.5
# The longest pause between an answer and the end of its connection: as long as clients think between requests.
CLOSE_SECONDS = 0.01
GARBAGE = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
    b"HELLO\r\n\r\n",
    b"HTTP/1.1 two hundred\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/3.14 200 OK\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nno colon in here\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
    b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nx-long: " + bytes(200_000).replace(b"\0", b"x") + b"\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: nothing\r\nconnection: upgrade\r\n\r\n",
)


class Gone(Exception):
    """The other side closed."""


class Request:
    """A request's head."""

    def __init__(self, head):
        self.method, self.path, _ = head.split(b"\r\n", 1)[0].split(b" ", 2)
        ident, length = ID.search(head), LENGTH.search(head)
        self.ident = ident[1] if ident else b"-"
        self.length = int(length[1]) if length else 0
        self.is_chunked = bool(CHUNKED.search(head))


class Stream:
    """A connection that is read in parts."""

    def __init__(self, connection):
        self.connection, self.buffer = connection, b""

    def more(self):
        """Reads on."""
        piece = self.connection.recv(PIECE)
        if not piece:
            raise Gone
        self.buffer += piece

    def until(self, end):
        """All before `end`, which is passed over."""
        while (at := self.buffer.find(end)) < 0:
            self.more()
        found, self.buffer = self.buffer[:at], self.buffer[at + len(end):]
        return found

    def exactly(self, length):
        """So many bytes."""
        while len(self.buffer) < length:
            self.more()
        found, self.buffer = self.buffer[:length], self.buffer[length:]
        return found

    def body(self, request):
        """A request's body."""
        if not request.is_chunked:
            return self.exactly(request.length)
        pieces = []
        while size := int(self.until(b"\r\n").split(b";")[0], 16):
            pieces.append(self.exactly(size))
            self.until(b"\r\n")
        while self.until(b"\r\n"):
            pass
        return b"".join(pieces)


class Backend:
    """The whole of it."""

    def __init__(self, name, addresses, journal, control):
        self.name, self.addresses = name.encode(), addresses
        self.journal = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.fault, self.share = "", 0.0
        self.doors, self.connections, self.endless = [], set(), 0
        self.garbages = itertools.cycle(GARBAGE)
        self.listen()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(control)
        self.control = socket.socket(socket.AF_UNIX)
        self.control.bind(control)
        self.control.listen()

    # ---- control ----

    def obey(self):
        """Does what it is told, one connection for each order."""
        while True:
            with self.control.accept()[0] as caller, caller.makefile("rw") as file:
                order = json.loads(file.readline())
                if "fault" in order:
                    self.fault, self.share = order["fault"], order["share"]
                if "deaf" in order:
                    (self.close if order["deaf"] else self.listen)()
                print(json.dumps({"endless": self.endless, "connections": len(self.connections)}), file=file)

    def listen(self):
        for address, port in self.addresses:
            door = socket.create_server((address, port), backlog=BACKLOG)
            self.doors.append(door)
            start(self.accept, door)

    def close(self):
        for door in self.doors:
            door.shutdown(socket.SHUT_RDWR)
            door.close()
        self.doors.clear()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                connection.shutdown(socket.SHUT_RDWR)

    def accept(self, door):
        while True:
            try:
                connection = door.accept()[0]
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections.add(connection)
            start(self.serve, connection)

    # ---- requests ----

    def serve(self, connection):
        """One connection, request after request."""
        try:
            self.requests(connection)
        except (OSError, Gone):
            """The other side had enough."""
        finally:
            self.connections.discard(connection)
            connection.close()

    def requests(self, connection):
        stream, served = Stream(connection), 0
        while True:
            request = Request(stream.until(b"\r\n\r\n"))
            if request.path == b"/health":
                connection.sendall(HEALTHY)
                continue
            served += 1
            fault = self.fault if self.fault and random.random() < self.share else ""
            if fault == "close-on-reuse" and served == 1:
                fault = ""
            self.note(request, fault)
            body = stream.body(request)
            if request.path == b"/endless":
                return self.without_end(connection)
            if not fault:
                connection.sendall(b"".join(self.answer(request, body)))
            elif not getattr(self, fault.replace("-", "_"))(connection, stream, *self.answer(request, body)):
                return None

    def note(self, request, fault):
        os.write(self.journal, b"%b %b %b\n" % (request.method, request.ident, fault.encode() or b"-"))

    def answer(self, request, received):
        """Head and body as they should be."""
        form, _, length = request.path.lstrip(b"/").partition(b"/")
        body = content(request.ident, int(length or b"0"))
        head = b"HTTP/1.1 200 OK\r\nx-backend: %b\r\nx-process: %d\r\nx-bench-id: %b\r\nx-received: %d:%d\r\n" % (
            self.name, os.getpid(), request.ident, len(received), zlib.crc32(received))
        if form == b"chunked":
            return head + b"transfer-encoding: chunked\r\n\r\n", chunked(body)
        return head + b"content-length: %d\r\n\r\n" % len(body), body

    def without_end(self, connection):
        """Chunks for as long as they are taken."""
        self.endless += 1
        try:
            connection.sendall(b"HTTP/1.1 200 OK\r\nx-backend: %b\r\ntransfer-encoding: chunked\r\n\r\n" % self.name)
            chunk = b"%x\r\n%b\r\n" % (PIECE, content(b"endless", PIECE))
            while True:
                connection.sendall(chunk)
        finally:
            self.endless -= 1

    # ---- faults: what is done in the place of an answer; whether the connection stays ----

    def reset_before_head(self, connection, _stream, _head, _body):
        reset(connection)

    def reset_in_body(self, connection, _stream, head, body):
        connection.sendall(head + body[:len(body) // 2])
        # The half is on its way before the reset overtakes it.
        time.sleep(0.02)
        reset(connection)

    def end_in_body(self, connection, _stream, head, body):
        connection.sendall(head + body[:len(body) // 2])

    def stall_in_body(self, connection, stream, head, body):
        connection.sendall(head + body[:len(body) // 2])
        stream.until(b"never")

    def garbage(self, connection, _stream, _head, _body):
        connection.sendall(next(self.garbages))

    def too_long(self, connection, _stream, head, body):
        """Declares more than comes."""
        head, body = with_length(head, body)
        connection.sendall(relength(head, len(body) + 100) + body)

    def too_short(self, connection, _stream, head, body):
        """Declares less than comes; what is too much looks like an answer to the next request."""
        head, body = with_length(head, body)
        half = len(body) // 2
        other = b"HTTP/1.1 200 OK\r\nx-backend: %b\r\nx-bench-id: nobody\r\ncontent-length: 6\r\n\r\nspoilt" % self.name
        connection.sendall(relength(head, half) + body[:half] + other)
        return True

    def drip(self, connection, _stream, head, body):
        """Byte after byte, the end of the head and the beginning of the body among them."""
        answer = head + body
        slow = min(len(answer), len(head) + 40)
        for at in range(len(head) - 40, slow):
            connection.sendall(answer[0 if at == len(head) - 40 else at:at + 1])
            time.sleep(0.01)
        connection.sendall(answer[slow:])
        return True

    def end_after(self, connection, stream, head, body):
        """Ends its side a moment after the answer, and writes down what still comes."""
        connection.sendall(head + body)
        time.sleep(random.uniform(0, CLOSE_SECONDS))
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(LATE_SECONDS)
        while True:
            request = Request(stream.until(b"\r\n\r\n"))
            self.note(request, "late")
            stream.body(request)

    def close_after(self, connection, _stream, head, body):
        """Closes a moment after the answer: what still comes is answered with a reset."""
        connection.sendall(head + body)
        time.sleep(random.uniform(0, CLOSE_SECONDS))

    def close_on_reuse(self, _connection, _stream, _head, _body):
        """Takes a further request on a connection, and closes."""


def with_length(head, body):
    """The same answer with Content-Length, if it is chunked."""
    if b"transfer-encoding" not in head:
        return head, body
    stream, pieces = Stream(None), []
    stream.buffer = body
    while size := int(stream.until(b"\r\n"), 16):
        pieces.append(stream.exactly(size))
        stream.until(b"\r\n")
    whole = b"".join(pieces)
    return head.partition(b"transfer-encoding")[0] + b"content-length: %d\r\n\r\n" % len(whole), whole


def relength(head, declared):
    """The head with this Content-Length, and a word of its own to say that this is what a whole answer has."""
    return head.partition(b"content-length")[0] + b"x-declared: %d\r\ncontent-length: %d\r\n\r\n" % (declared, declared)


def reset(connection):
    """Closes with a reset in the place of an orderly end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()


def start(target, *arguments):
    threading.Thread(target=target, args=arguments, daemon=True).start()


if __name__ == "__main__":
    threading.stack_size(256 * 1024)
    Backend(**json.loads(sys.argv[1])).obey()
