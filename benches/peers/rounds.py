"""One round of a case against one running proxy, and the check before it.

Never starts proxies and never prints. Start at `load_round`.
"""

import contextlib
import http.client
import json
import re
import select
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

from counters import Usage, memory_kib
from processes import Failed, connect, fetch

LOAD = Path(__file__).resolve().parent / "load.lua"
WRK_TIMEOUT_SECONDS = 10
# How long the slowest run of a fixed number of requests may take, and how long backends may take to be judged.
COUNT_SECONDS = 320
JUDGED_SECONDS = 20


def check_placement(proxy, origin, case):
    """Before a case: answers are whole, one path always meets one backend, and all living backends are used.

    With dead backends the proxies need a moment to find out, so the check is repeated until it holds.
    """
    until = time.monotonic() + (JUDGED_SECONDS if case.dead else 0)
    while True:
        try:
            return place(proxy, origin, case)
        except (Failed, OSError, http.client.HTTPException):
            if time.monotonic() >= until:
                raise
            time.sleep(0.1)


def place(proxy, origin, case):
    """Asks for each of some paths twice and compares. Bodies of 1 GiB are asked for once."""
    places = {}
    paths = [1] if case.body > 1 << 20 else [*range(1, 1025 if case.backends >= 100 else 65)] * 2
    connection = connect(proxy.port, case.tls, 10)
    try:
        for n in paths:
            if case.upload:
                connection.request("POST", f"{case.prefix}{n}?q={n}", body=b"x" * case.upload)
                answer = connection.getresponse()
                status, headers, body = answer.status, answer.headers, answer.read()
            else:
                status, headers, body = fetch(proxy.port, f"{case.prefix}{n}?q={n}", connection)
            if status != 200 or len(body) != case.body:
                raise Failed(f"{proxy.name} answered {status} with {len(body)} bytes, not 200 with {case.body}")
            if places.setdefault(n, headers["x-backend"]) != headers["x-backend"]:
                raise Failed(f"{proxy.name} sent one path to two backends")
    finally:
        connection.close()
    used = len(set(places.values()))
    if used < wanted(origin, case, paths):
        raise Failed(f"{proxy.name} used {used} backends, not {wanted(origin, case, paths)}")


def wanted(origin, case, paths):
    """How many backends these paths must have met at least."""
    if len(paths) == 1:
        return 1
    # Of many backends some have a small share, and 1024 paths can miss them.
    return origin.living * 3 // 4 if case.backends == 100 else min(origin.living, 200)


def load_round(case, proxy, origin, processes, tools, seconds, cores, count=0, rate=0):
    """Runs the load on these cores against one proxy for some seconds and returns what it took."""
    pids, its = proxy.pids, origin.pids
    accepted, before = [], []

    def begins():
        accepted.append(origin.accepted())
        before.append(Usage.read(pids, its))

    with scraped(proxy):
        answered = run_load(case, proxy, processes, tools, seconds, cores, count, rate, begins)
    used = Usage.read(pids, its).since(before[0], answered["requests"])
    opened = origin.accepted() - accepted[0] - 1
    errors = {kind: count for kind, count in answered["errors"].items() if count}
    if answered["bytes"] < answered["requests"] * case.body:
        errors["short"] = 1
    if proxy.process.poll() is not None:
        errors["proxy ended"] = 1
    memory = memory_kib(pids)
    latency = {key: value for key, value in answered.items() if key.startswith(("p", "max", "late"))}
    return used | latency | {
        "requests": answered["requests"],
        "per_second": answered["requests"] / (answered["duration_us"] / 1e6),
        "opened": opened,
        "peak_mib": memory["peak"] / 1024,
        "resident_mib": memory["resident"] / 1024,
        "errors": errors,
    }


def run_load(case, proxy, processes, tools, seconds, cores, count=0, rate=0, begins=lambda: None):
    """One run of wrk or of the bench's own generator; both print the result as JSON on the last line.

    `begins` is called when the load begins: the bench's own generator has its connections open by then.
    """
    if case.streams:
        begins()
        return h2load(case, proxy, processes, seconds, cores)
    if case.wrk:
        begins()
        process = processes.start("wrk", wrk_command(case, proxy, tools, seconds), cores, stdout=subprocess.PIPE)
        return result(process, proxy, processes, seconds + 3 * WRK_TIMEOUT_SECONDS)
    command = [tools["load"], f"127.0.0.1:{proxy.port}", case.prefix, str(case.paths), str(case.connections),
               "close" if case.new_connections else "keep",
               *(["rate", str(round(rate))] if rate else ["as-fast"]),
               *(["count", str(count)] if count else ["seconds", str(seconds)])]
    process = processes.start("load", command, cores, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        # An end without that line is reported below. The generator bounds its own time.
        if process.stdout.readline() == b"ready\n":
            begins()
    except BaseException:
        processes.stop(process)
        raise
    return result(process, proxy, processes, COUNT_SECONDS if count else seconds + 3 * WRK_TIMEOUT_SECONDS)


def h2load(case, proxy, processes, seconds, cores):
    """A run of h2load, in the form of the other generators' results."""
    uris = processes.folder / "uris"
    base = f"https://127.0.0.1:{proxy.port}{case.prefix}"
    uris.write_text("\n".join(f"{base}{n}?q={n}" for n in range(case.paths)) + "\n")
    command = [shutil.which("h2load"), "-D", str(seconds), "-c", str(case.connections), "-m", str(case.streams), "-i", str(uris)]
    process = processes.start("h2load", command, cores, stdout=subprocess.PIPE)
    try:
        output, _ = process.communicate(timeout=seconds + 3 * WRK_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired as late:
        raise Failed(f"h2load against {proxy.name} did not end") from late
    finally:
        processes.stop(process)
    text = output.decode() if isinstance(output, bytes) else output
    done = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", text)
    taken = re.search(r"\((\d+)\) data", text)
    if not done or not taken:
        raise Failed(f"h2load against {proxy.name} failed:\n{text[-500:]}")
    succeeded, failed, errored, late = map(int, done.groups())
    return {"requests": succeeded, "duration_us": seconds * 1e6, "bytes": int(taken[1]),
            "errors": {"failed": failed, "errored": errored, "timeout": late}}


def wrk_command(case, proxy, tools, seconds):
    """How wrk is called."""
    return [tools["wrk"], "-t1", f"-c{case.connections}", f"-d{seconds}s", f"--timeout={WRK_TIMEOUT_SECONDS}s",
            "--latency", "-s", str(LOAD), f"{'https' if case.tls else 'http'}://127.0.0.1:{proxy.port}", "--", case.prefix, str(case.paths),
            str(case.upload), str(case.headers), "close" if case.new_connections else "keep"]


def result(process, proxy, processes, limit):
    """What a load generator printed, once it has ended."""
    try:
        output, _ = process.communicate(input=b"\n" if process.stdin else None, timeout=limit)
    except subprocess.TimeoutExpired as late:
        raise Failed(f"{process.name} against {proxy.name} did not end") from late
    finally:
        processes.stop(process)
    if process.returncode != 0:
        raise Failed(f"{process.name} against {proxy.name} failed:\n{processes.complaint(process.name)}")
    return json.loads(output.splitlines()[-1])


@contextlib.contextmanager
def scraped(proxy):
    """For the proxy of that name: fetches its metrics once a second, beginning after half a second."""
    if proxy.name != "ringway-scraped":
        yield
        return
    ended, failed = threading.Event(), []

    def scrape():
        pause = 0.5
        while not ended.wait(pause):
            began = time.monotonic()
            try:
                if fetch(proxy.admin, "/metrics")[0] != 200:
                    failed.append("status")
            except (OSError, http.client.HTTPException) as error:
                failed.append(repr(error))
            pause = max(0.0, 1.0 - (time.monotonic() - began))

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if failed:
        raise Failed(f"{proxy.name}: metrics could not be fetched: {failed[0]}")


def idle_round(case, proxy, connections, settle):
    """Opens connections that do one request each, or none, and compares memory before and after."""
    for n in range(200):
        with dial(proxy) as warm:
            ask(warm, f"{case.prefix}{n}")
    time.sleep(settle)
    before = memory_kib(proxy.pids)
    opened = []
    try:
        for n in range(connections):
            opened.append(dial(proxy))
            if not case.silent:
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


def growth_round(case, proxy, origin, processes, tools, cores, count, settle):
    """Resident memory after a tenth of the requests, and after all of them."""
    run_load(case, proxy, processes, tools, 0, cores, count=count // 10)
    time.sleep(settle)
    before = memory_kib(proxy.pids)
    answered = run_load(case, proxy, processes, tools, 0, cores, count=count)
    time.sleep(settle)
    after = memory_kib(proxy.pids)
    return {
        "growth_mib": (after["resident"] - before["resident"]) / 1024,
        "before_mib": before["resident"] / 1024,
        "after_mib": after["resident"] / 1024,
        "peak_mib": after["peak"] / 1024,
        "requests": answered["requests"],
        "errors": {kind: its for kind, its in answered["errors"].items() if its},
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
