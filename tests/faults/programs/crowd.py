"""Clients that hold connections: idle ones, and slow ones of three kinds. Usage: crowd.py ADDRESS PORT IDLE SLOW READY

The idle ones have asked once and say nothing more. A third of the slow ones send a head byte by byte, a third a body, a third take an
answer byte by byte. Makes the file READY once they are there; goes on until SIGTERM.
"""

import select
import signal
import socket
import sys
import time
from pathlib import Path

ROUND_SECONDS = 0.5
BODY = 100_000
# At a time; more would overrun what the kernel holds for the proxy.
AT_ONCE = 500


def connect(address, port, count):
    """So many connections, made in bursts."""
    made = []
    while len(made) < count:
        burst = [socket.socket() for _ in range(min(AT_ONCE, count - len(made)))]
        for client in burst:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            client.connect_ex((address, port))
        waiting = set(burst)
        while waiting:
            waiting -= ready(waiting, select.POLLOUT)
        made += burst
    return made


def ready(clients, event):
    """Those with whom this can be done."""
    poll, by_number = select.poll(), {client.fileno(): client for client in clients}
    for client in clients:
        poll.register(client, event)
    return {by_number[number] for number, _ in poll.poll(1000)}


def ask_once(clients):
    """A request each, in bursts, and the beginning of its answer."""
    for begin in range(0, len(clients), AT_ONCE):
        waiting = set(clients[begin:begin + AT_ONCE])
        for number, client in enumerate(waiting):
            client.send(f"GET /length/10 HTTP/1.1\r\nhost: bench\r\nx-user-id: idle-{number}\r\nx-bench-id: idle\r\n\r\n".encode())
        while waiting:
            answered = ready(waiting, select.POLLIN)
            for client in answered:
                client.recv(4096)
            waiting -= answered


def begin(client, number):
    """What a slow one sends at once, and what it does from then on."""
    key = f"host: bench\r\nx-user-id: slow-{number}\r\nx-bench-id: slow.{number}\r\n"
    match number % 3:
        case 0:
            client.send(b"GET /length/10 HTTP/1.1\r\n")
            return lambda: client.send(b"x")
        case 1:
            client.send(f"POST /length/10 HTTP/1.1\r\n{key}content-length: {BODY}\r\n\r\n".encode())
            return lambda: client.send(b"x")
        case _:
            client.send(f"GET /length/{BODY * 4} HTTP/1.1\r\n{key}\r\n".encode())
            return lambda: client.recv(1)


def main():
    address, port, idle, slow = sys.argv[1], *map(int, sys.argv[2:5])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    held = connect(address, port, idle)
    ask_once(held)
    acts = [begin(client, number) for number, client in enumerate(connect(address, port, slow))]
    Path(sys.argv[5]).touch()
    while True:
        due = time.monotonic() + ROUND_SECONDS
        for act in acts:
            try:
                act()
            except OSError:
                """Closed by the proxy, or nothing there yet."""
        time.sleep(max(0.0, due - time.monotonic()))
        assert held


if __name__ == "__main__":
    main()
