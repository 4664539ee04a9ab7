"""SIGTERM under load loses no request, and ringway ends with 0

Clients of several kinds go on until they are refused. Lost is a request that was written on a connection that had been
made, and got no complete answer. wrk runs beside them.
"""

import asyncio
import functools
import itertools
import random
import signal
from collections import Counter

from ground import wait_until
from load import Wrk
from origins import Origin
from proxy import Proxy, pool, route

ROUNDS, LONG_ROUNDS = 4, 20
ENOUGH = 2000
ROUND_SECONDS = 60
# Longer than ringway leaves idle connections alone while it drains, so that some of these answers come after that.
SLOW_MILLISECONDS = (1200, 3000)
# The longest that a client here thinks between an answer and its next request.
PATIENCE_SECONDS = 0.3
BODY = bytes(100_000)
KINDS = ("steady", "thoughtful", "slow", "dripping", "upload", "new connections")


def run(report, ground):
    fast = [Origin(ground, f"nginx-{number}", "nginx") for number in (1, 2)]
    slow = Origin(ground, "slow", "python")
    parts = (route("/", "fast"), *(route(path, "slow") for path in ("/wait", "/drip", "/upload")),
             pool("fast", {origin.name: origin.port for origin in fast}), pool("slow", {slow.name: slow.port}))
    counts, codes, wrks = Counter(), Counter(), Counter()
    rounds = LONG_ROUNDS if ground.is_long else ROUNDS
    for _ in range(rounds):
        proxy = Proxy(ground, *parts)
        wrk = Wrk(ground.processes, proxy.port)
        counts += asyncio.run(asyncio.wait_for(load(proxy), ROUND_SECONDS))
        wait_until(lambda: proxy.process.poll() is not None, 40, "ringway has ended")
        codes[proxy.process.returncode] += 1
        result = wrk.finish()
        wrks += Counter(requests=result.requests, others=result.other_answers, **result.socket_errors)
    report.say(f"{rounds} stops; after SIGTERM {counts['late']} requests were answered, {counts['closing']} of them with "
               f"Connection: close, and {counts['refused']} connections refused")
    for kind in KINDS:
        lost, bad, cut = counts[kind, "lost"], counts[kind, "bad"], counts[kind, "cut"]
        report.expect(not lost and not bad and counts[kind, "answered"],
                      f"{kind}: {counts[kind, 'answered']} answered, {lost} lost, {bad} not 200")
        report.expect(not cut, f"{kind}: {cut} connections closed within {PATIENCE_SECONDS} s after an answer that did "
                      "not say close")
    report.expect(not counts["refused early"], f"{counts['refused early']} connections refused before SIGTERM")
    report.expect(counts["late"] > 0, "requests were under way when the signal came")
    report.expect(codes == {0: rounds}, f"exit codes: {dict(codes)}")
    # wrk goes on after the end: that its new connections are refused is as it should be, and it calls those writes.
    report.expect(not wrks["others"] and not wrks["read"] and not wrks["timeout"],
                  f"wrk: {wrks['requests']} requests, {wrks['others']} not 2xx, {wrks['read']} cut off, "
                  f"{wrks['timeout']} not answered")


class Load:
    """What the clients share: where to, the counts, and whether the signal was sent."""

    def __init__(self, port):
        self.port = port
        self.counts = Counter()
        self.is_stopping = False
        self.numbers = itertools.count()


async def load(proxy):
    """All clients until they are refused; SIGTERM when enough was answered. The counts."""
    shared = Load(proxy.port)
    async with asyncio.TaskGroup() as clients:
        for _ in range(16):
            clients.create_task(client(shared, "steady", lambda: get("/")))
        for _ in range(16):
            clients.create_task(client(shared, "thoughtful", lambda: get("/"), pause=PATIENCE_SECONDS))
        for number in range(32):
            kind, word = (("slow", "wait"), ("dripping", "drip"))[number % 2]
            make = functools.partial(slowly, word)
            # Half of them ask again at once, half of them a little later.
            clients.create_task(client(shared, kind, make, pause=number // 2 % 2 * PATIENCE_SECONDS))
        for _ in range(4):
            clients.create_task(client(shared, "upload", post))
        for _ in range(8):
            clients.create_task(client(shared, "new connections", lambda: get("/"), keeps=False))
        while shared.counts["steady", "answered"] < ENOUGH:
            await asyncio.sleep(0.01)
        proxy.process.send_signal(signal.SIGTERM)
        shared.is_stopping = True
    return shared.counts


def get(path):
    """A request's bytes without a key."""
    return f"GET {path} HTTP/1.1\r\nhost: a\r\n", b""


def slowly(word):
    """The same, for an answer whose head (wait) or second half (drip) takes its time."""
    return get(f"/{word}/{random.randint(*SLOW_MILLISECONDS)}")


def post():
    """The same with a body."""
    return f"POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: {len(BODY)}\r\n", BODY


async def client(shared, kind, make, pause=0.0, keeps=True):
    """One client: connection after connection until one is refused."""
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", shared.port)
        except ConnectionError:
            shared.counts["refused" if shared.is_stopping else "refused early"] += 1
            return
        try:
            while await one_request(shared, kind, make, reader, writer) and keeps:
                # The pause is this client's nature, not a wait for something.
                await asyncio.sleep(random.uniform(0, pause))
                if reader.at_eof():
                    shared.counts[kind, "cut"] += 1
                    break
        finally:
            writer.transport.abort()


async def one_request(shared, kind, make, reader, writer):
    """Sends one request and reads its answer. Whether another may follow on the connection."""
    head, body = make()
    writer.write(f"{head}x-user-id: {next(shared.numbers)}\r\n\r\n".encode() + body)
    try:
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        fields = head.decode().lower().split("\r\n")
        length, = (int(field.split(":")[1]) for field in fields if field.startswith("content-length:"))
        await reader.readexactly(length)
    except (ConnectionError, asyncio.IncompleteReadError):
        shared.counts[kind, "lost"] += 1
        return False
    shared.counts[kind, "answered"] += 1
    shared.counts[kind, "bad"] += fields[0].split(" ")[1] != "200"
    shared.counts["late"] += shared.is_stopping
    closes = "connection: close" in fields
    shared.counts["closing"] += closes and shared.is_stopping
    return not closes
