#!/usr/bin/env python3
"""What many proxies do to bounded load, by simulation: each sees only its own share of the requests.

    benches/scale.py            prints the table of README.md; half a minute, the same figures every time

Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, 2016): no backend above `factor` times the mean of the
requests in flight, the surplus goes on to the key's next owner. Here each of P proxies counts its own requests alone, and the
bound does not act below `floor` requests in flight. Requests come at random (Poisson) for keys of a Zipf distribution, to a
proxy by chance, and take an exponential time. Never talks to a network. Start at `simulate`.
"""

import bisect
import hashlib
import heapq
import random

BACKENDS = 20
REPLICAS = 512
KEYS = 20_000
ZIPF = 0.9
FACTOR = 1.25
REQUESTS = 100_000
WARM_UP = 20_000


def place(text):
    """The first 64 bits of the SHA-1."""
    return int.from_bytes(hashlib.sha1(text.encode()).digest()[:8], "big")


def owners_by_key():
    """For each key its owners in ring order."""
    nodes = sorted((place(f"backend-{b}-{r}"), b) for b in range(BACKENDS) for r in range(REPLICAS))
    places = [node for node, _ in nodes]
    result = []
    for key in range(KEYS):
        at = bisect.bisect_left(places, place(f"key-{key}")) % len(nodes)
        owners = []
        while len(owners) < BACKENDS:
            backend = nodes[at][1]
            if backend not in owners:
                owners.append(backend)
            at = (at + 1) % len(nodes)
        result.append(owners)
    return result


def simulate(proxies, in_flight, floor, owners, bounded=True):
    """Returns the greatest true load relative to the mean (the mean over time), and the share of requests away from home."""
    chance = random.Random(7)
    cumulated, total = [], 0.0
    for key in range(KEYS):
        total += 1 / (key + 1) ** ZIPF
        cumulated.append(total)
    own = [[0] * BACKENDS for _ in range(proxies)]
    sums = [0] * proxies
    load = [0] * BACKENDS
    ends, now, away, excess, looks = [], 0.0, 0, 0.0, 0
    for number in range(REQUESTS):
        now += chance.expovariate(in_flight)
        while ends and ends[0][0] <= now:
            _, proxy, backend = heapq.heappop(ends)
            own[proxy][backend] -= 1
            sums[proxy] -= 1
            load[backend] -= 1
        order = owners[bisect.bisect_left(cumulated, chance.random() * total)]
        proxy = chance.randrange(proxies)
        limit = max(floor, FACTOR * (sums[proxy] + 1) / BACKENDS)
        chosen = next((b for b in order if own[proxy][b] + 1 <= limit), order[0]) if bounded else order[0]
        own[proxy][chosen] += 1
        sums[proxy] += 1
        load[chosen] += 1
        heapq.heappush(ends, (now + chance.expovariate(1), proxy, chosen))
        if number >= WARM_UP:
            away += chosen != order[0]
            excess += max(load) / (sum(load) / BACKENDS)
            looks += 1
    return excess / looks, away / looks


def main():
    """Prints the table."""
    owners = owners_by_key()
    print("| in flight in all | proxies | floor | greatest load / mean | away from home |")
    print("|---|---|---|---|---|")
    for in_flight in (400, 4000):
        greatest, away = simulate(1, in_flight, 0, owners, bounded=False)
        print(f"| {in_flight} | any | not bounded | {greatest:.2f} | {away:.1%} |")
        for proxies in (1, 10, 100):
            for floor in (1, 16):
                greatest, away = simulate(proxies, in_flight, floor, owners)
                print(f"| {in_flight} | {proxies} | {floor} | {greatest:.2f} | {away:.1%} |")


if __name__ == "__main__":
    main()
