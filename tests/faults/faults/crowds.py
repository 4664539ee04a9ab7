"""Clients that are too many, too slow, or gone."""

import contextlib
import signal
import socket
import sys
import time
from pathlib import Path

from ground import wait_until
from stage import KEYS, fault
from subject import descriptors

CROWD = Path(__file__).resolve().parents[1] / "programs" / "crowd.py"
IDLE, SLOW = 10_000, 2_000
MEMORY_MOST = 256 << 20
FEW = 120
HOGS = 300


@fault("idle-and-slow", "10 000 idle and 2 000 slow clients, while others are served")
def idle_and_slow(stage):
    backends = stage.backends(4)
    proxy = stage.proxy(backends, top='[client]\nrequest_head_timeout = "5s"')
    load = stage.load()
    before, rss = proxy.cpu_share(1), proxy.memory("VmRSS")
    is_there = stage.folder / "crowd-is-there"
    crowd = stage.processes.start("crowd", [sys.executable, "-B", CROWD, proxy.address, proxy.port, IDLE, SLOW, is_there])
    wait_until(is_there.exists, 60, "the crowd is there")
    held = int(proxy.count("ringway_client_connections_open"))
    during = proxy.cpu_share(1)
    # Those whose heads do not come are told so in time, while all others stay.
    wait_until(lambda: proxy.count("ringway_client_connections_open") < held - SLOW / 4, 20, "those without a head have been closed")
    left = int(proxy.count("ringway_client_connections_open"))
    load.more(1000)
    stage.processes.stop(crowd, signal.SIGTERM)
    load.more(200)
    figures = load.stop()
    stage.note(f"{held} connections were open; memory {rss / 2**20:.0f} MiB before, {proxy.memory() / 2**20:.0f} MiB at most; "
               f"processor {before:.0%} of a core before, {during:.0%} with them")
    stage.expect(held > (IDLE + SLOW) * 0.9, f"{held} connections open at one time")
    stage.expect(left > IDLE, f"{left} of them stay when the time for a head is over")
    stage.expect(proxy.memory() < MEMORY_MOST, f"memory at most {proxy.memory() / 2**20:.0f} MiB")
    stage.seamless(figures, backends, methods=("GET", "POST"))
    wait_until(lambda: proxy.count("ringway_client_connections_open") < 10, 20, "their connections are gone")


@fault("descriptors", "no descriptor is left, and then there are some again", is_short=True)
def out_of_descriptors(stage):
    backends = stage.backends(4)
    proxy = stage.proxy(backends, limits=descriptors(FEW))
    load = stage.load()
    before = proxy.cpu_share(1)
    changes = proxy.count("ringway_backend_transitions_total")
    with contextlib.ExitStack() as hogs:
        for _ in range(HOGS):
            hogs.enter_context(socket.create_connection((proxy.address, proxy.port), timeout=10))
        wait_until(lambda: len(list(Path(f"/proc/{proxy.pid}/fd").iterdir())) >= FEW - 4, 20, "no descriptor is left")
        during = proxy.cpu_share(3)
        held = len(list(Path(f"/proc/{proxy.pid}/fd").iterdir()))
    released = time.monotonic()
    load.more(500)
    changes = proxy.count("ringway_backend_transitions_total") - changes
    figures = load.stop()
    stage.note(f"{held} of {FEW} descriptors in use; what was not 2xx: {figures.other()}")
    # Where a connection is kept, an answer is better than none: that is a need.
    stage.note(f"keys that went to a backend with a kept connection meanwhile: {len({record.key for record in figures.moved(backends)})}")
    stage.expect(not changes, f"no backend is blamed: {int(changes)} changes of standing")
    stage.expect(during <= before + 0.1, f"processor time: {before:.0%} of a core before, {during:.0%} without descriptors")
    after = figures.first_success_after(released)
    stage.expect(after is not None and after < 2, f"first success {(after or 0) * 1000:.0f} ms after there were some again")
    stage.always(figures, steady=())


@fault("gone-mid-upload", "clients go in the middle of an upload", is_short=True)
def gone_mid_upload(stage):
    backends = stage.backends(4)
    proxy = stage.proxy(backends)
    load = stage.load(extra=[{"kind": "quitter", "keys": KEYS}] * 6)
    load.more(500 if stage.is_short else 3000)
    standings = set(proxy.standings().values())
    figures = load.stop()
    stage.expect(figures.left > 50, f"{figures.left} clients left in the middle")
    stage.expect(standings == {"serving"}, f"that is not taken for a fault of backends: {standings}")
    stage.seamless(figures, backends, methods=("GET", "POST"))
    wait_until(lambda: not proxy.count("ringway_requests_in_flight"), 20, "nothing is in flight any more")
