"""The rounds of one case: which proxies take part, in which order, and what is counted beside the rounds.

Never prints. Start at `run_case`.
"""

from dataclasses import dataclass, field
from statistics import median

import syscalls
from cases import CASES
from processes import Failed, Origin, Processes, Proxy
from report import by_rounds
from rounds import check_placement, growth_round, idle_round, load_round

# Whose capacity a rate is a share of. The others take part where they can keep up.
MEASURE = ("ringway", "nginx", "haproxy")
CAPACITY_SECONDS = 2


@dataclass(frozen=True)
class Cores:
    """Which cores the proxy runs on, and which the load, the origin and the bench itself; as for taskset -c."""

    proxy: str
    load: str


@dataclass
class Bench:
    """What every case needs."""

    processes: Processes
    programs: dict
    cores: Cores
    peers: list
    rounds: int
    seconds: int
    quick: bool
    # Requests per second of each proxy in small-64, as soon as it is known.
    capacity: dict = field(default_factory=dict)

    @property
    def settle(self):
        """Seconds of quiet before memory is read."""
        return 0.2 if self.quick else 3.0

    def proxy(self, name, origin, case):
        """Starts a proxy."""
        return Proxy(self.processes, name, self.programs[program(name)], origin, self.cores.proxy, case)

    def load(self, case, proxy, origin, seconds, count=0, rate=0):
        """One round of load."""
        return load_round(case, proxy, origin, self.processes, self.programs, seconds, self.cores.load, count, rate)


def run_case(bench, case):
    """Returns the rounds by proxy, system calls per request by proxy, and notes for the table."""
    notes = [f"without {name}: {why}" for name, why in case.without.items() if name in bench.peers]
    names = [name for name in case.only or bench.peers if program(name) in bench.programs and name not in case.without]
    if case.only and "ringway" not in bench.peers:
        return {}, {}, ["left out: it is about Ringway only"]
    if case.kind == "open" and not bench.capacity:
        bench.capacity = capacity(bench)
    origin = Origin(bench.processes, bench.programs["nginx"], bench.cores.load, case.backends, case.dead)
    act = {"load": load_case, "open": open_case, "idle": idle_case, "growth": growth_case,
           "syscalls": syscalls_case}[case.kind]
    rounds, calls, said = act(bench, case, names, origin)
    bench.processes.stop(origin.process)
    return rounds, calls, notes + said


def load_case(bench, case, names, origin):
    """All proxies run, freshly started; the rounds take turns, each beginning with another proxy."""
    if case.pairs:
        return paired_case(bench, case, names, origin)
    count = (case.quick_count if bench.quick else case.count) if case.count else 0
    warm = not bench.quick and not count
    rounds, calls, notes = {name: [] for name in names}, {}, []
    requests = dict.fromkeys(names, 0)
    reason = syscalls.possible(bench.programs["perf"])
    if reason:
        notes.append(f"no system calls per request: {reason}")
    # Whether it works, one case shows in a quick run.
    counted = not reason and (not bench.quick or case.name == "small-64")
    proxies = [] if case.alone else started(bench, case, names, origin)
    if warm:
        for proxy in proxies:
            requests[proxy.name] += bench.load(case, proxy, origin, 1)["requests"]
    most = min(bench.rounds, case.rounds)
    for number in range(most):
        for proxy in anew(bench, case, names, origin, number, warm) if case.alone else rotated(proxies, number):
            rounds[proxy.name].append(bench.load(case, proxy, origin, bench.seconds, count))
            if counted and number == most - 1:
                calls[proxy.name], more = syscalls.counted(case, proxy, bench.processes, bench.programs, 1,
                                                           bench.cores.load, count)
                requests[proxy.name] += more
    for proxy in proxies:
        bench.processes.stop(proxy.process)
    if case.log:
        measured = {name: sum(one["requests"] for one in its) + requests[name] for name, its in rounds.items()}
        notes += [f"{proxy.name} wrote {lines(proxy.log)} lines of access log; wrk counted {measured[proxy.name]} "
                  "answers, and the check and requests cut off at the end of a round come on top"
                  for proxy in proxies]
    return rounds, calls, notes


def paired_case(bench, case, names, origin):
    """Each round starts both anew and gives each two turns of a second, as in A B B A; the next begins with the other.

    What the machine does meanwhile meets both alike, and how one process happens to lie in memory is drawn anew.
    """
    rounds = {name: [] for name in names}
    for number in range(min(bench.rounds, case.rounds)):
        proxies = started(bench, case, rotated(names, number), origin)
        turns = {name: [] for name in names}
        for proxy in proxies if bench.quick else [*proxies, *proxies, *reversed(proxies)]:
            turns[proxy.name].append(bench.load(case, proxy, origin, 1))
        for name, its in turns.items():
            # The first turn only warms it.
            rounds[name].append(merged(its if bench.quick else its[1:]))
        for proxy in proxies:
            bench.processes.stop(proxy.process)
    return rounds, {}, by_rounds(names, rounds)


def merged(turns):
    """One round of several turns: figures weighed by requests, counts and errors summed."""
    requests = sum(one["requests"] for one in turns)
    figures = {key: sum(one[key] * one["requests"] for one in turns) / max(requests, 1)
               for key, value in turns[0].items() if isinstance(value, (int, float))}
    errors = {}
    for one in turns:
        for kind, count in one["errors"].items():
            errors[kind] = errors.get(kind, 0) + count
    return figures | {"requests": requests, "opened": sum(one["opened"] for one in turns), "errors": errors}


def anew(bench, case, names, origin, number, warm):
    """One proxy after the other, each alone and started for this round only."""
    for name in rotated(names, number):
        (proxy,) = started(bench, case, [name], origin)
        if warm:
            bench.load(case, proxy, origin, 1)
        yield proxy
        bench.processes.stop(proxy.process)


def open_case(bench, case, names, origin):
    """A share of the slowest capacity. Proxies that cannot keep up with that rate are left out."""
    slowest = min([bench.capacity[name] for name in MEASURE if name in bench.capacity] or bench.capacity.values())
    rate = case.share * slowest
    able = [name for name in names if bench.capacity.get(name, 0) > rate]
    notes = [f"{rate:.0f} requests/s: {case.share:.0%} of {slowest:.0f}, the least of " +
             ", ".join(f"{name} {its:.0f}" for name, its in bench.capacity.items() if name in MEASURE)]
    notes += [f"without {name}: its capacity of {bench.capacity.get(name, 0):.0f} requests/s is below the rate"
              for name in names if name not in able]
    rounds = {name: [] for name in able}
    proxies = started(bench, case, able, origin)
    if not bench.quick:
        for proxy in proxies:
            bench.load(case, proxy, origin, 1, rate=rate)
    for number in range(min(bench.rounds, case.rounds)):
        for proxy in rotated(proxies, number):
            rounds[proxy.name].append(bench.load(case, proxy, origin, bench.seconds * (1 if bench.quick else 2),
                                                 rate=rate))
    for proxy in proxies:
        bench.processes.stop(proxy.process)
    return rounds, {}, notes


def capacity(bench):
    """What each proxy does in small-64 at most, where that case was not run before."""
    case = CASES["small-64"]
    origin = Origin(bench.processes, bench.programs["nginx"], bench.cores.load)
    proxies = started(bench, case, bench.peers, origin)
    found = {name: [] for name in bench.peers}
    for number in range(1 if bench.quick else 3):
        for proxy in rotated(proxies, number):
            its = bench.load(case, proxy, origin, 1 if bench.quick else CAPACITY_SECONDS)
            found[proxy.name].append(its["per_second"])
    for process in [*(proxy.process for proxy in proxies), origin.process]:
        bench.processes.stop(process)
    return {name: median(its) for name, its in found.items()}


def idle_case(bench, case, names, origin):
    """Each round starts each proxy anew, alone: memory once taken is seldom given back."""
    rounds = {name: [] for name in names}
    connections = 500 if bench.quick else case.connections
    for number in range(min(bench.rounds, case.rounds)):
        for name in rotated(names, number):
            proxy = bench.proxy(name, origin, case)
            rounds[name].append(idle_round(case, proxy, connections, bench.settle))
            bench.processes.stop(proxy.process)
    return rounds, {}, []


def growth_case(bench, case, names, origin):
    """One long round for each proxy, alone."""
    rounds = {}
    for name in names:
        proxy = bench.proxy(name, origin, case)
        rounds[name] = [growth_round(case, proxy, origin, bench.processes, bench.programs, bench.cores.load,
                                     case.quick_count if bench.quick else case.count, bench.settle)]
        bench.processes.stop(proxy.process)
    return rounds, {}, []


def syscalls_case(bench, case, names, origin):
    """One round for each proxy: under strace everything is slow, but the counts do not depend on that much."""
    rounds, notes = {}, []
    for name in names:
        proxy = bench.proxy(name, origin, case)
        check_placement(proxy, origin, case)
        its = syscalls.named(case, proxy, bench.processes, bench.programs, bench.cores.load,
                             case.quick_count if bench.quick else case.count)
        rounds[name] = [its]
        notes.append(f"{name}: {syscalls.top(its)}")
        bench.processes.stop(proxy.process)
    return rounds, {}, notes


def started(bench, case, names, origin):
    """These proxies, each checked."""
    proxies = [bench.proxy(name, origin, case) for name in names]
    for proxy in proxies:
        check_placement(proxy, origin, case)
    return proxies


def lines(path):
    """How many lines a file has."""
    try:
        with open(path, "rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    except FileNotFoundError as gone:
        raise Failed(f"{path.name}: no access log was written") from gone


def program(name):
    """Which program a peer is: the same with other settings, or with something beside it."""
    return {"nginx-buffers": "nginx", "haproxy-splice": "haproxy", "ringway-scraped": "ringway",
            "ringway-plain": "ringway"}.get(name, name)


def rotated(items, by):
    """The same items, beginning further on."""
    by %= max(len(items), 1)
    return items[by:] + items[:by]
