"""The machine under the proxy: its clock, its disk."""

import os
import subprocess
import time
from pathlib import Path

from faults.changes import impossible_mount
from ground import wait_until
from network import Impossible
from processes import tool
from stage import fault

# Ten years ahead, and then a jump.
AHEAD_SECONDS = 10 * 365 * 86400
JUMP_SECONDS = 3
DISK = 'mount -t tmpfs -o size=64k bench "$0" && exec "$@"'


@fault("clock", "a clock that is years ahead, and jumps")
def clock(stage):
    """A time namespace moves CLOCK_MONOTONIC and CLOCK_BOOTTIME, but only before the process begins; the wall clock has none. A jump
    is made from the other side: the proxy stands still for some seconds, and all clocks have gone on when it looks again."""
    prefix = [tool("unshare"), "-T", "--monotonic", str(AHEAD_SECONDS), "--boottime", str(AHEAD_SECONDS)]
    done = subprocess.run([*prefix, "true"], capture_output=True, text=True, timeout=10, check=False)
    if done.returncode:
        raise Impossible(f"unshare -T: {done.stderr.strip()}")
    backends = stage.backends(4)
    proxy = stage.proxy(backends, prefix=prefix)
    is_ahead = os.readlink(f"/proc/{proxy.pid}/ns/time") != os.readlink("/proc/self/ns/time")
    stage.expect(is_ahead, f"its clock is {AHEAD_SECONDS // 86400} days ahead")
    load = stage.load()
    for _ in range(2):
        os.kill(proxy.pid, 19)
        try:
            # Not a wait for something: the width of the jump.
            time.sleep(JUMP_SECONDS)
        finally:
            os.kill(proxy.pid, 18)
        load.more(500)
    stage.note("the wall clock cannot be moved for one process alone, and was not")
    stage.seamless(load.stop(), backends, methods=("GET", "POST"))


@fault("disk-full", "the disk of the access log is full, and then is not")
def disk_full(stage):
    folder = stage.folder / "disk"
    folder.mkdir()
    is_own = not impossible_mount()
    prefix = [tool("unshare"), "-m", "sh", "-c", DISK, folder] if is_own else []
    file = folder / "access.log" if is_own else Path("/dev/full")
    backends = stage.backends(4)
    proxy = stage.proxy(backends, prefix=prefix, top=f'[access_log]\nformat = "json"\nfile = "{file}"')
    load = stage.load()
    wait_until(lambda: proxy.count("ringway_access_log_dropped_lines_total") > 0, 30, "lines are lost and counted")
    busy = proxy.cpu_share(2)
    load.more(500)
    if is_own:
        # The mount is the proxy's own; this is the way to it.
        log = Path(f"/proc/{proxy.pid}/root{file}")
        os.truncate(log, 0)
        wait_until(lambda: log.stat().st_size > 0, 20, "lines are written again")
        text = log.read_text().lstrip("\0")
        whole = sum(line.startswith("{") and line.endswith("}") for line in text.splitlines())
        stage.note(f"{whole} whole lines of {len(text.splitlines())} once there was room again")
    else:
        stage.note("without root the disk is /dev/full, which stays full")
    stage.note(f"{int(proxy.count('ringway_access_log_dropped_lines_total'))} lines were lost; processor {busy:.0%} of a core meanwhile")
    stage.seamless(load.stop(), backends, methods=("GET", "POST"))
