"""a backend is killed and started again ten times under load, and no client notices

Three nginx of one process each; SIGKILL to one after the other. Each time the proxy must see it down, and then serving.
"""

import signal

from ground import wait_until
from load import Wrk
from origins import Origin
from proxy import Proxy, pool

KILLS = 10
WARM_UP = 5000


def run(report, ground):
    origins = [Origin(ground, f"nginx-{number}", "nginx") for number in (1, 2, 3)]
    proxy = Proxy(ground, pool("cache", {origin.name: origin.port for origin in origins}))
    wrk = Wrk(ground.processes, proxy.port)

    def answered():
        return proxy.metrics().sum("ringway_requests_total", **{"class": "2xx"})

    wait_until(lambda: answered() > WARM_UP, 30, f"{WARM_UP} requests are answered")
    for number in range(KILLS):
        victim = origins[number % len(origins)]
        busy = proxy.metrics().sum("ringway_requests_total", backend=victim.name)
        victim.stop(signal.SIGKILL)
        proxy.await_standing(victim.name, "down")
        victim.start()
        proxy.await_standing(victim.name, "serving")
        # The next one is not killed before this one has work again: else it might have been killed idle.
        wait_until(lambda: proxy.metrics().sum("ringway_requests_total", backend=victim.name) > busy + WARM_UP / 10, 30,
                   f"{victim.name} has work again")
    metrics = proxy.metrics()
    result = wrk.finish()
    report.say(f"{KILLS} kills, {result.requests} requests in {result.time}, {result.rate:.0f}/s")
    report.say(f"attempts: {metrics.by('ringway_attempts_total', 'result')}")
    report.say(f"repeats: {metrics.by('ringway_repeats_total', 'reason')}")
    report.say(f"why requests went where they went: {metrics.by('ringway_affinity_requests_total', 'reason')}")
    classes = metrics.by("ringway_requests_total", "class")
    report.expect(result.was_running, "wrk ran the whole time")
    report.expect(result.other_answers == 0 and set(classes) == {"2xx"},
                  f"no answer but 200: wrk counted {result.other_answers} others, ringway {classes}")
    report.expect(not any(result.socket_errors.values()), f"no socket error: {result.socket_errors}")
    transitions = int(metrics.sum("ringway_backend_transitions_total"))
    # Where requests find out before the probes, it is ejected before it is down.
    report.expect(2 * KILLS <= transitions - len(origins) <= 3 * KILLS,
                  f"{transitions} changes of standing: first, mostly ejected, down, up")
    report.expect(metrics.sum("ringway_repeats_total") > 0, "kills met requests under way, which were repeated")
