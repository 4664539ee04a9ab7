"""The cases, and one round of each against one running proxy.

Never starts proxies and never prints. Start at `CASES`.
"""

import http.client
import json
import select
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from counters import Usage, memory_kib
from processes import BACKENDS, Failed, fetch

LOAD = Path(__file__).resolve().parent / "load.lua"
PATHS = 10_000
WRK_TIMEOUT_SECONDS = 10


@dataclass(frozen=True)
class Case:
    """One kind of traffic. `connections` are open at once; `body` is an answer's length in bytes."""

    name: str
    prefix: str
    connections: int
    body: int
    about: str


CASES = {case.name: case for case in (
    Case("small-64", "/small/", 64, 100, "GET, 100-byte answers, 64 connections"),
    Case("small-512", "/small/", 512, 100, "GET, 100-byte answers, 512 connections"),
    Case("body-64k", "/64k/", 64, 64 << 10, "GET, 64 KiB answers, 64 connections"),
    Case("body-1m", "/1m/", 16, 1 << 20, "GET, 1 MiB answers, 16 connections"),
    Case("idle", "/small/", 2000, 100, "memory per idle keep-alive connection after one request"),
)}


def check_placement(proxy, case):
    """Before a case: answers are whole, one path always meets one backend, and all backends are used."""
    places = {}
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
    try:
        for n in [*range(1, 65), *range(1, 65)]:
            status, headers, body = fetch(proxy.port, f"{case.prefix}{n}?q={n}", connection)
            if status != 200 or len(body) != case.body:
                raise Failed(f"{proxy.name} answered {status} with {len(body)} bytes, not 200 with {case.body}")
            if places.setdefault(n, headers["x-backend"]) != headers["x-backend"]:
                raise Failed(f"{proxy.name} sent one path to two backends")
    finally:
        connection.close()
    if len(set(places.values())) != BACKENDS:
        raise Failed(f"{proxy.name} used {len(set(places.values()))} of {BACKENDS} backends")


def load_round(case, proxy, origin, processes, wrk, seconds, cores):
    """Runs wrk on these cores against one proxy for some seconds and returns what it took."""
    pids, its = proxy.pids, origin.pids
    accepted = origin.accepted()
    before = Usage.read(pids, its)
    result = run_wrk(case, proxy, processes, wrk, seconds, cores)
    used = Usage.read(pids, its).since(before, result["requests"])
    opened = origin.accepted() - accepted - 1
    errors = {kind: count for kind, count in result["errors"].items() if count}
    if result["bytes"] < result["requests"] * case.body:
        errors["short"] = 1
    if proxy.process.poll() is not None:
        errors["proxy ended"] = 1
    return used | {
        "requests": result["requests"],
        "per_second": result["requests"] / (result["duration_us"] / 1e6),
        "p50_us": result["p50_us"],
        "p99_us": result["p99_us"],
        "opened": opened,
        "peak_mib": memory_kib(pids)["peak"] / 1024,
        "resident_mib": memory_kib(pids)["resident"] / 1024,
        "errors": errors,
    }


def run_wrk(case, proxy, processes, wrk, seconds, cores):
    """One wrk run; its Lua script prints the result as JSON on the last line."""
    command = [wrk, "-t1", f"-c{case.connections}", f"-d{seconds}s", f"--timeout={WRK_TIMEOUT_SECONDS}s",
               "--latency", "-s", str(LOAD), f"http://127.0.0.1:{proxy.port}", "--", case.prefix, str(PATHS)]
    process = processes.start("wrk", command, cores, stdout=subprocess.PIPE)
    try:
        output, _ = process.communicate(timeout=seconds + 3 * WRK_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired as late:
        raise Failed(f"wrk against {proxy.name} did not end") from late
    finally:
        processes.stop(process)
    if process.returncode != 0:
        raise Failed(f"wrk against {proxy.name} failed:\n{processes.complaint('wrk')}")
    return json.loads(output.splitlines()[-1])


def idle_round(case, proxy, connections, settle):
    """Opens connections that do one request each, one after the other, and compares memory before and after."""
    for n in range(200):
        with dial(proxy) as warm:
            ask(warm, f"{case.prefix}{n}")
    time.sleep(settle)
    before = memory_kib(proxy.pids)
    opened = []
    try:
        for n in range(connections):
            opened.append(dial(proxy))
            ask(opened[-1], f"{case.prefix}{n}")
        time.sleep(settle)
        after = memory_kib(proxy.pids)
        lost = closed(opened)
    finally:
        for connection in opened:
            connection.close()
    return {
        "kib_per_connection": (after["resident"] - before["resident"]) / connections,
        "anonymous_kib_per_connection": (after["anonymous"] - before["anonymous"]) / connections,
        "before_mib": before["resident"] / 1024,
        "after_mib": after["resident"] / 1024,
        "errors": {"closed": lost} if lost else {},
    }


def dial(proxy):
    """A new connection to the proxy."""
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def ask(connection, path):
    """One request on a kept connection; reads the whole answer."""
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    answer.read()
    if answer.status != 200 or answer.will_close:
        raise Failed(f"idle: status {answer.status}, connection {'closes' if answer.will_close else 'stays'}")


def closed(connections):
    """How many of the connections have something to read, which here can only be the end."""
    poll = select.poll()
    for connection in connections:
        poll.register(connection, select.POLLIN)
    return len(poll.poll(0))
