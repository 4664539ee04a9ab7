"""Counts a proxy's system calls: how many (perf), and which (strace). Both slow it, so these runs count nothing else.

Never starts proxies. Start at `counted` and `named`.
"""

import os
import re
import signal
import subprocess
import time

from counters import threads
from processes import Failed, tree
from rounds import run_load

ATTACHED_SECONDS = 10
# How many kinds of call are named in the table.
NAMED = 6


def possible(perf):
    """Whether perf may count system calls here; a reason if not."""
    if not perf:
        return "perf is not there"
    tried = subprocess.run([perf, "stat", "-x,", "-e", "raw_syscalls:sys_enter", "true"], capture_output=True,
                           text=True)
    counts = re.findall(r"^(\d+),", tried.stderr, re.M)
    return None if tried.returncode == 0 and counts else "perf may not count system calls here"


def counted(case, proxy, processes, tools, seconds, cores, count=0):
    """System calls of all the proxy's threads per request, over one more run of the load, and its requests."""
    command = [tools["perf"], "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", ",".join(map(str, proxy.pids))]
    log = processes.log("perf")
    log.write_text("")
    watcher = processes.start("perf", command, cores)
    try:
        await_attached(processes, watcher)
        answered = run_load(case, proxy, processes, tools, seconds, cores, count)
    finally:
        interrupt(processes, watcher)
    counts = re.findall(r"^(\d+),[^,]*,raw_syscalls:sys_enter", log.read_text(), re.M)
    if not counts or not answered["requests"]:
        raise Failed(f"perf counted nothing for {proxy.name}: {log.read_text()[-500:]}")
    return int(counts[-1]) / answered["requests"], answered["requests"]


def named(case, proxy, processes, tools, cores, count):
    """What strace counts over a fixed number of requests: all calls per request, and the most frequent by name."""
    command = [tools["strace"], "-f", "-c", "-q", *(word for pid in proxy.pids for word in ("-p", str(pid)))]
    log = processes.log("strace")
    log.write_text("")
    watcher = processes.start("strace", command, cores)
    try:
        await_traced(proxy, watcher)
        answered = run_load(case, proxy, processes, tools, 0, cores, count)
    finally:
        interrupt(processes, watcher)
    calls = {name: int(its) for its, name in re.findall(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$",
                                                       log.read_text(), re.M) if name != "total"}
    if not calls or not answered["requests"]:
        raise Failed(f"strace counted nothing for {proxy.name}: {log.read_text()[-500:]}")
    ranked = sorted(calls.items(), key=lambda one: -one[1])
    return {
        "calls": sum(calls.values()) / answered["requests"],
        "requests": answered["requests"],
        "named": {name: its / answered["requests"] for name, its in ranked},
        "errors": {kind: its for kind, its in answered["errors"].items() if its},
    }


def top(its):
    """The most frequent calls of one round as text."""
    return ", ".join(f"{name} {count:.2f}" for name, count in list(its["named"].items())[:NAMED])


def await_attached(processes, watcher):
    """perf says nothing when it has attached; it has when it sleeps with its events open."""
    until = time.monotonic() + ATTACHED_SECONDS
    while time.monotonic() < until and watcher.poll() is None:
        if any("perf_event" in link for link in links(watcher.pid)):
            return
        time.sleep(0.01)
    raise Failed(f"perf did not attach:\n{processes.complaint('perf')}")


def await_traced(proxy, watcher):
    """Waits until every thread of the proxy has a tracer."""
    until = time.monotonic() + ATTACHED_SECONDS
    while time.monotonic() < until and watcher.poll() is None:
        if all("TracerPid:\t0\n" not in text for text in statuses(proxy.pids)):
            return
        time.sleep(0.01)
    raise Failed(f"strace did not attach to {proxy.name}")


def statuses(pids):
    """/proc's status text of every thread."""
    return threads(pids, "status")


def links(pid):
    """Where the open files of a process and its children point to."""
    found = []
    for one in tree(pid):
        try:
            found += [os.readlink(f"/proc/{one}/fd/{name}") for name in os.listdir(f"/proc/{one}/fd")]
        except OSError:
            continue
    return found


def interrupt(processes, watcher):
    """Both print their counts when interrupted."""
    if watcher.poll() is None:
        watcher.send_signal(signal.SIGINT)
        try:
            watcher.wait(5)
        except subprocess.TimeoutExpired:
            pass
    processes.stop(watcher)
