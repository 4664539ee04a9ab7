"""Reads what a process tree has used: processor time, context switches and memory.

Never starts or ends anything. Start at `Usage`.
"""

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path

from processes import every_pid, stat

TICKS = os.sysconf("SC_CLK_TCK")
CPUCLOCK_SCHED = 2


@dataclass
class Usage:
    """Processor time used so far by a proxy, by the load (wrk and the origin), and by everything else."""

    proxy: int
    load: int
    others: dict
    waited: int
    switches: int
    user_ticks: int
    system_ticks: int
    stolen_ticks: int
    at: float

    @staticmethod
    def read(proxy, origin):
        """The usage now; `proxy` and `origin` are lists of process ids. wrk counts as a child that ended."""
        fields = [one for one in map(stat, proxy) if one]
        ours = {*proxy, *origin, os.getpid()}
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return Usage(
            proxy=sum(map(cpu_nanoseconds, proxy)),
            load=sum(map(cpu_nanoseconds, origin)) + round((ended.ru_utime + ended.ru_stime) * 1e9),
            others={pid: cpu_nanoseconds(pid) for pid in every_pid() if pid not in ours},
            waited=sum(map(waited_nanoseconds, proxy)),
            switches=context_switches(proxy),
            user_ticks=sum(int(one[11]) for one in fields),
            system_ticks=sum(int(one[12]) for one in fields),
            stolen_ticks=stolen_ticks(),
            at=time.monotonic(),
        )

    def since(self, before, requests):
        """What was used from `before` to now: per request for the proxy, as shares of one core for the rest.

        The total comes from the scheduler's nanosecond clock. The kernel divides it into user and
        system by clock ticks, so only the shares are taken from there.
        """
        total = (self.proxy - before.proxy) / 1e3
        user = self.user_ticks - before.user_ticks
        system = self.system_ticks - before.system_ticks
        share = user / (user + system) if user + system else 0.0
        wall = (self.at - before.at) * 1e9
        per_request = total / requests if requests else 0.0
        others = sum(now - before.others.get(pid, 0) for pid, now in self.others.items())
        return {
            "cpu_us": per_request,
            "user_us": per_request * share,
            "system_us": per_request * (1 - share),
            "switches": (self.switches - before.switches) / requests if requests else 0.0,
            "busy": (self.proxy - before.proxy) / wall,
            "load": (self.load - before.load) / wall,
            "others": others / wall,
            "waited": (self.waited - before.waited) / wall,
            "stolen": (self.stolen_ticks - before.stolen_ticks) / TICKS * 1e9 / wall,
        }


def cpu_nanoseconds(pid):
    """Processor time of all the process's threads, ended ones too: its POSIX CPU clock, in nanoseconds."""
    try:
        return time.clock_gettime_ns((~pid << 3) | CPUCLOCK_SCHED)
    except OSError:
        return 0


def waited_nanoseconds(pid):
    """How long the process's threads were ready to run while something else had the core."""
    return sum(int(text.split()[1]) for text in threads([pid], "schedstat"))


def context_switches(pids):
    """How often the processes' threads gave up the core or lost it. Ended threads are missing."""
    lines = [line for text in threads(pids, "status") for line in text.splitlines() if "ctxt_switches" in line]
    return sum(int(line.split()[1]) for line in lines)


def threads(pids, name):
    """The text of that file of /proc for every thread of the processes."""
    texts = []
    for file in (file for pid in pids for file in Path(f"/proc/{pid}/task").glob(f"*/{name}")):
        try:
            texts.append(file.read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return texts


def stolen_ticks():
    """Clock ticks that the hypervisor says it took from this machine, all cores together."""
    return int(Path("/proc/stat").read_text().split("\n", 1)[0].split()[8])


def memory_kib(pids):
    """Resident, anonymous (heap, without the program's file) and peak resident memory in KiB, summed."""
    names = {"VmRSS": "resident", "RssAnon": "anonymous", "VmHWM": "peak"}
    sums = dict.fromkeys(names.values(), 0)
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for line in text.splitlines():
            key, _, value = line.partition(":")
            if key in names:
                sums[names[key]] += int(value.split()[0])
    return sums
