"""A backend on Python's http.server with keep-alive: answers its name. Usage: origin.py NAME PORT

    GET /never       answers nothing until the other side closes
    GET /half        begins an answer, and then the same
    GET /wait/MS     answers its name after so many milliseconds
    GET /drip/MS     begins its answer at once, and ends it then
    GET /length/N    N zero bytes, with Content-Length
    GET /chunked/N   N zero bytes, chunked
    POST /           reads the body, of zero bytes, and answers their number
"""

import os
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PIECE = 1 << 20
ZEROS = bytes(PIECE)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        word, _, number = self.path.lstrip("/").partition("/")
        match word:
            case "never":
                self.hold()
            case "half":
                self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf of it")
                self.hold()
            case "wait":
                time.sleep(int(number) / 1000)
                self.answer(NAME)
            case "drip":
                self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (len(NAME) + 10))
                self.wfile.write(b"half of it")
                time.sleep(int(number) / 1000)
                self.wfile.write(NAME)
            case "length":
                self.send_length(int(number))
            case "chunked":
                self.send_chunked(int(number))
            case _:
                self.answer(NAME)

    def do_POST(self):
        self.answer(str(self.count_zeros()).encode())

    def answer(self, body):
        """Head and body in one piece, so that nobody waits for the second."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    def hold(self):
        """Until the other side closes."""
        self.close_connection = True
        try:
            while self.connection.recv(PIECE):
                pass
        except OSError:
            pass

    def send_length(self, length):
        self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % length)
        with tempfile.TemporaryFile() as file:
            file.truncate(length)
            sent = 0
            while sent < length:
                sent += os.sendfile(self.connection.fileno(), file.fileno(), sent, min(length - sent, 1 << 30))

    def send_chunked(self, length):
        self.wfile.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for begin in range(0, length, PIECE):
            size = min(PIECE, length - begin)
            self.wfile.write(b"%x\r\n%b\r\n" % (size, ZEROS[:size]))
        self.wfile.write(b"0\r\n\r\n")

    def count_zeros(self):
        """Zero bytes in the body. With chunks, the framing is what is not zero, and its end is the body's."""
        length, read, zeros, tail = self.headers["content-length"], 0, 0, b""
        while read < int(length) if length else tail != b"0\r\n\r\n":
            piece = self.rfile.read1(min(PIECE, int(length) - read) if length else PIECE)
            if not piece:
                raise ConnectionError("the body broke off")
            read += len(piece)
            zeros += piece.count(0)
            tail = (tail + piece[-5:])[-5:]
        return zeros

    def log_message(self, *_):
        """Nothing: thousands of requests come."""

    def handle(self):
        try:
            super().handle()
        except ConnectionError:
            """The other side had enough."""


class Server(ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True


if __name__ == "__main__":
    NAME = sys.argv[1].encode()
    Server(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
