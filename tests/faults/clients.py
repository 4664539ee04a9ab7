"""The load: some processes of clients, told how to behave, and asked afterwards what came of it.

Owns their start and end. Judging their records is figures.py's. Start at `Load`.
"""

import json
import signal
import struct
import sys
from pathlib import Path

from figures import Figures, read_records
from ground import Failed, wait_until

PROGRAM = Path(__file__).resolve().parent / "programs" / "client.py"
PROCESSES = 3
SLOT = struct.Struct("=QQQ")
WARM_UP = 300
PAUSE_SECONDS = 0.005
THOUGHTFUL, THINKING_SECONDS = 30, 0.15
PATIENCE_SECONDS = 20
POSTS = 0.25
STOP_SECONDS = PATIENCE_SECONDS + 10


def usual(owners):
    """Three connections for the keys of each owner, so that one owner's trouble does not hide behind another's, and eight for all
    keys: half of them kept, half of them one for each request."""
    roles = []
    for owner in sorted(set(owners.values())):
        keys = [key for key in owners if owners[key] == owner]
        roles += [{"kind": kind, "keys": keys} for kind in ("kept", "kept", "fresh")]
    return roles + [{"kind": kind, "keys": list(owners)} for kind in ("kept", "fresh") * 4]


def thoughtful(keys):
    """Kept connections that are idle most of the time, and have a request under way at a moment that nobody foresees."""
    return [{"kind": "kept", "keys": keys, "pause": THINKING_SECONDS}] * THOUGHTFUL


class Load:
    """A running load."""

    def __init__(self, stage, subject, owners, extra=(), posts=POSTS, pause=PAUSE_SECONDS, until_refused=False):
        self.stage, self.owners = stage, owners
        roles = [*usual(owners), *extra]
        self.parts, self.running, self.first = [], [], f"client-{stage.loads}.0"
        for number in range(PROCESSES):
            own, name = roles[number::PROCESSES], f"{stage.loads}.{number}"
            records, counters = (stage.folder / f"client-{name}.{what}" for what in ("records", "counters"))
            counters.write_bytes(bytes(SLOT.size * len(own)))
            plan = {"name": name, "address": subject.address, "port": subject.port, "roles": own, "pause": pause, "posts": posts,
                    "patience": PATIENCE_SECONDS, "records": str(records), "counters": str(counters), "seed": stage.seed,
                    "until_refused": until_refused}
            self.parts.append((records, counters))
            self.running.append(stage.processes.start(
                f"client-{name}", [*subject.network.prefix, sys.executable, "-B", PROGRAM, json.dumps(plan)]))
        stage.loads += 1
        self.more(WARM_UP)

    def counts(self):
        """Requests begun, ended, and ended well, so far."""
        slots = [slot for _, counters in self.parts for slot in SLOT.iter_unpack(counters.read_bytes())]
        return tuple(map(sum, zip(*slots)))

    def good(self):
        return self.counts()[2]

    def more(self, count, index=2, seconds=60):
        """Waits until so many more requests have ended well; or just ended, with index 1."""
        before = self.counts()[index]
        wait_until(lambda: self.counts()[index] >= before + count, seconds, f"{count} more requests")
        if any(process.poll() for process in self.running):
            raise Failed("a client ended early")

    def has_ended(self):
        return all(process.poll() is not None for process in self.running)

    def stop(self):
        """Lets every client finish what it has begun. What came of it all."""
        for process in self.running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        wait_until(self.has_ended, STOP_SECONDS, "the clients have ended")
        if codes := [process.returncode for process in self.running if process.returncode]:
            raise Failed(f"clients ended with {codes}:\n" + self.stage.processes.last_words(self.first))
        return Figures(read_records(records for records, _ in self.parts), self.owners, self.stage.all_backends)
