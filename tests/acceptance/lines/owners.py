"""every key has one owner, the one that was foretold, and only the keys that must move do

Three backends that are not ours, 10 000 keys, each sent twice. What `ringway check` and /api/lookup say is held against
what the backends answer: with all of them, with one of them stopped, and with it back.
"""

import http.client
import json
import math
import random
import re
import subprocess

from ground import Failed
from origins import three_kinds
from proxy import Proxy, pool

KEYS = [f"user-{number:05}" for number in range(10_000)]
DEVIATIONS = 4


def run(report, ground):
    origins = three_kinds(ground)
    names = [origin.name for origin in origins]
    proxy = Proxy(ground, pool("cache", {origin.name: origin.port for origin in origins}))
    report.say(f"backends {', '.join(names)}; {len(KEYS)} keys, each sent twice")

    at_first = ask_all(report, proxy, "all serving")
    compare_shares(report, ground, proxy, at_first)
    walks = look_up_all(report, proxy, at_first, "all serving")

    stopped = origins[-1]
    stopped.stop()
    proxy.await_standing(stopped.name, "down")
    report.say(f"{stopped.name} is stopped and down")
    meanwhile = ask_all(report, proxy, f"without {stopped.name}")
    look_up_all(report, proxy, meanwhile, f"without {stopped.name}")
    owned = {key for key in KEYS if at_first[key] == stopped.name}
    moved = {key for key in KEYS if meanwhile[key] != at_first[key]}
    report.expect(moved == owned, f"its {len(owned)} keys moved, all of them and no other ({len(moved)} moved)")
    to_next = sum(meanwhile[key] == walks[key][1] for key in owned)
    report.expect(to_next == len(owned), f"each to the next owner that /api/lookup had named ({to_next})")

    stopped.start()
    proxy.await_standing(stopped.name, "serving")
    report.say(f"{stopped.name} is back and serving")
    at_last = ask_all(report, proxy, f"with {stopped.name} back")
    look_up_all(report, proxy, at_last, f"with {stopped.name} back")
    back = {key for key in KEYS if at_last[key] != meanwhile[key]}
    report.expect(back == owned and at_last == at_first, f"exactly those {len(back)} keys came back")
    classes = proxy.metrics().by("ringway_requests_total", "class")
    report.expect(classes == {"2xx": 6 * len(KEYS)}, f"ringway counted {classes}")


def ask_all(report, proxy, when):
    """Sends every key twice, the second time in another order on another connection. Who answered, by key."""
    answered, changed, bad = {}, 0, 0
    for time in (1, 2):
        keys = KEYS if time == 1 else random.sample(KEYS, len(KEYS))
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
        for key in keys:
            connection.request("GET", "/", headers={"x-user-id": key})
            answer = connection.getresponse()
            name = answer.read().decode()
            bad += answer.status != 200
            changed += answered.setdefault(key, name) != name
        connection.close()
    report.expect(not bad and not changed,
                  f"{when}: {2 * len(KEYS)} requests, {bad} not answered 200, {changed} keys with two backends")
    return answered


def compare_shares(report, ground, proxy, answered):
    """Counts by backend against the shares that `ringway check` prints."""
    command = [ground.ringway, "check", "-c", proxy.config]
    text = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    shares = {name: float(percent) / 100 for name, percent in re.findall(r"^ +(\S+) +([\d.]+) % of all keys", text, re.M)}
    imbalance = re.search(r"imbalance ([\d.]+)", text)
    if not shares or not imbalance:
        raise Failed(f"ringway check printed no shares:\n{text}")
    total, counts = len(KEYS), {name: list(answered.values()).count(name) for name in shares}
    report.expect(sum(counts.values()) == total, f"all {total} keys went to the backends that ringway check names")
    for name, share in shares.items():
        # What is printed is rounded to a hundredth of a percent.
        allowed = DEVIATIONS * math.sqrt(total * share * (1 - share)) + total * 0.00005
        off = counts[name] - total * share
        report.expect(abs(off) <= allowed, f"{name}: {counts[name]} keys, foretold {total * share:.0f} ± {allowed:.0f}")
    foretold, busiest = float(imbalance[1]), max(counts.values()) * len(shares) / total
    allowed = DEVIATIONS * math.sqrt((len(shares) - 1) / total) + 0.0005
    report.expect(busiest <= foretold + allowed,
                  f"imbalance {busiest:.3f}, foretold {foretold:.3f}, sampling allows {allowed:.3f} more")


def look_up_all(report, proxy, answered, when):
    """Asks /api/lookup about every key. The owners in order, by key."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.admin_port, timeout=30)
    walks, wrong = {}, 0
    for key in KEYS:
        connection.request("GET", f"/api/lookup?pool=cache&key={key}")
        found = json.loads(connection.getresponse().read())
        walks[key] = [owner["backend"] for owner in found["owners"]]
        wrong += not found["chosen"] or found["chosen"]["backend"] != answered[key]
    connection.close()
    report.expect(not wrong, f"{when}: /api/lookup agrees with what happened for {len(KEYS) - wrong} of {len(KEYS)} keys")
    return walks
