#!/usr/bin/env python3
"""What an exchange costs by the number of sockets that take turns, with no proxy at all.

One process sends a small request over each of its sockets in turn and reads the answer, 64 exchanges under way at a
time, whatever their number; another process, on another core, answers. All that grows with the number of sockets is what
the kernel and the caches do: the program does the same. It is the floor under the case `backends-1000` of peers/run, where 64
clients keep some 1400 connections to backends busy.
"""

import os
import selectors
import socket
import statistics
import time

COUNTS = (64, 256, 700, 1400)
ROUNDS = 9
EXCHANGES = 30_000
UNDER_WAY = 64
REQUEST = b"GET /small/1 HTTP/1.1\r\nhost: a\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n" + b"x" * 100


def main():
    """Measures in interleaved rounds and prints the medians."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    answerer = os.fork()
    if answerer == 0:
        # Ends when the last socket does, which is when the parent ends.
        answer(listener)
        os._exit(0)
    pin(0)
    address = listener.getsockname()
    sets = {count: connect(address, count) for count in COUNTS}
    listener.close()
    took = {count: [] for count in COUNTS}
    for _ in range(ROUNDS):
        for count, sockets in sets.items():
            took[count].append(exchange(sockets))
    print("| sockets in turn | CPU us per exchange, median | least |\n|---|---|---|")
    for count, values in took.items():
        print(f"| {count} | {statistics.median(values):.2f} | {min(values):.2f} |")
    for sockets in sets.values():
        for one in sockets:
            one.close()
    os.waitpid(answerer, 0)


def pin(core):
    """To one core, as far as there are several."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[core % len(cores)]})


def connect(address, count):
    """Opens the sockets."""
    return [socket.create_connection(address) for _ in range(count)]


def exchange(sockets):
    """CPU microseconds for each of many exchanges over these sockets in turn."""
    begun, at = time.process_time(), 0
    while at < EXCHANGES:
        batch = [sockets[(at + i) % len(sockets)] for i in range(UNDER_WAY)]
        at += UNDER_WAY
        for one in batch:
            one.send(REQUEST)
        for one in batch:
            one.recv(4096)
    return (time.process_time() - begun) / at * 1e6


def answer(listener):
    """Accepts all connections and answers each request, until all are closed."""
    pin(1)
    selector = selectors.DefaultSelector()
    for _ in range(sum(COUNTS)):
        one, _ = listener.accept()
        selector.register(one, selectors.EVENT_READ)
    listener.close()
    while selector.get_map():
        for key, _ in selector.select():
            if key.fileobj.recv(4096):
                key.fileobj.send(ANSWER)
            else:
                selector.unregister(key.fileobj)
                key.fileobj.close()


if __name__ == "__main__":
    main()
