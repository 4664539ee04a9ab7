"""Backends that are dead, hang, cannot be reached, or come and go."""

import random
import time

from ground import wait_until
from network import Network
from stage import fault

# All timeouts well below what clients would wait.
PER_TRY = {"repeats": 'per_try = "500ms"', "timeouts": 'connect = "300ms"\nresponse_head = "3s"\nidle_body = "2s"'}
# An answer that had begun when its backend went is rightly broken.
BEGUN = ("broken",)
PROBES_OFF = 'kind = "off"'


def caught_are_released(proxy, victim):
    """Waits until what was under way at a backend that does not answer has been given up, while it still does not."""
    wait_until(lambda: not proxy.count("ringway_requests_in_flight", backend=victim.name), 20, f"nothing waits for {victim.name}")


@fault("killed", "SIGKILL and restart of a backend", is_short=True)
def killed(stage):
    backends = stage.backends(4)
    proxy = stage.proxy(backends)
    load = stage.load()
    for number in range(2 if stage.is_short else 6):
        victim = backends[number % 2]
        victim.kill()
        proxy.await_serving(victim, is_so=False)
        load.more(200)
        victim.start()
        proxy.await_serving(victim)
        victim.await_work()
    repeats = proxy.count("ringway_repeats_total")
    stage.seamless(load.stop(), steady=backends[2:], allowed=BEGUN)
    stage.expect(repeats > 0, f"kills met requests under way: {int(repeats)} repeats")


@fault("stopped", "SIGSTOP and SIGCONT of a backend, with a per-try timeout", is_short=True)
def stopped(stage):
    backends = stage.backends(4)
    proxy = stage.proxy(backends, tables=PER_TRY)
    load = stage.load()
    for number in range(1 if stage.is_short else 3):
        victim = backends[number % 2]
        with victim.stopped():
            proxy.await_serving(victim, is_so=False)
            caught_are_released(proxy, victim)
            load.more(300)
        proxy.await_serving(victim)
        victim.await_work()
    repeats = proxy.metrics().by("ringway_repeats_total", "reason")
    stage.seamless(load.stop(), steady=backends[2:], allowed=BEGUN)
    stage.expect(sum(repeats.values()) > 0, f"requests were under way: repeats {repeats}")


@fault("stopped-unseen", "the same without probes: requests alone tell that a backend hangs")
def stopped_unseen(stage):
    backends = stage.backends(4)
    proxy = stage.proxy(backends, tables=PER_TRY, health=PROBES_OFF)
    load = stage.load()
    with backends[0].stopped():
        wait_until(lambda: proxy.count("ringway_repeats_total") >= 5, 20, "five repeats")
        load.more(1000)
    backends[0].await_work()
    stage.seamless(load.stop(), steady=backends[1:], allowed=BEGUN)


@fault("refused", "connections to a backend are refused, and no probe says so", is_short=True)
def refused(stage):
    backends = stage.backends(4)
    stage.proxy(backends, health=PROBES_OFF)
    load = stage.load()
    # Deaf first: what is under way then meets a reset, and is over when the count begins.
    backends[0].kill()
    load.more(500)
    load.stop()
    # From here on, no byte of a request can have left for it: whatever the method, another backend may have it.
    load = stage.load()
    load.more(300 if stage.is_short else 3000)
    backends[0].start()
    backends[0].await_work()
    stage.seamless(load.stop(), steady=backends[1:], methods=("GET", "POST"))


@fault("black-holed", "what is sent to a backend vanishes: no refusal, no reset, nothing", is_short=True)
def black_holed(stage):
    stage.network = Network(stage.processes, 4)
    backends = stage.backends(4)
    proxy = stage.proxy(backends, tables=PER_TRY)
    load = stage.load()
    for number in range(1 if stage.is_short else 3):
        victim = backends[number % 2]
        stage.network.cut(victim.number)
        proxy.await_serving(victim, is_so=False)
        caught_are_released(proxy, victim)
        load.more(500)
        stage.network.mend(victim.number)
        proxy.await_serving(victim)
        victim.await_work()
    stage.seamless(load.stop(), steady=backends[2:], allowed=BEGUN)


@fault("all-down", "all backends down and back", is_short=True)
def all_down(stage):
    backends = stage.backends(4)
    proxy = stage.proxy(backends)
    load = stage.load()
    before = proxy.cpu_share(1)
    for backend in backends:
        backend.kill()
    proxy.await_serving(*backends, is_so=False)
    load.more(200, index=1)
    during = proxy.cpu_share(1)
    for backend in backends:
        backend.launch()
    for backend in backends:
        backend.await_start()
    back = time.monotonic()
    proxy.await_serving(*backends)
    load.more(500)
    figures = load.stop()
    stage.always(figures, steady=())
    kinds = {kind.split()[1] for kind in figures.other()}
    stage.expect(kinds <= {"502", "503", "504"}, f"what was not 2xx: {figures.other()}")
    stage.expect(during <= before + 0.05, f"processor time: {before:.0%} of a core before, {during:.0%} with all down")
    after = figures.first_success_after(back)
    stage.expect(after is not None and after < 1.5, f"first success {(after or 0) * 1000:.0f} ms after all were back")


@fault("flapping", "half of twelve backends come and go, each for some tenths of a second")
def flapping(stage):
    backends = stage.backends(12)
    proxy = stage.proxy(backends, keys="attempts = 12")
    load = stage.load()
    flaps, dice, until = 0, random.Random(stage.seed), time.monotonic() + 12
    due = {backend: 0.0 for backend in backends[:6]}
    deaf = dict.fromkeys(due, False)
    while time.monotonic() < until:
        for backend, when in due.items():
            if time.monotonic() >= when:
                deaf[backend] = not deaf[backend]
                backend.order(deaf=deaf[backend])
                flaps += deaf[backend]
                due[backend] = time.monotonic() + dice.uniform(0.1, 0.8)
        time.sleep(max(0.0, min(due.values()) - time.monotonic()))
    for backend in backends[:6]:
        if deaf[backend]:
            backend.order(deaf=False)
    proxy.await_serving(*backends)
    load.more(500)
    stage.note(f"{flaps} times a backend went away; changes of standing: {int(proxy.count('ringway_backend_transitions_total'))}")
    stage.seamless(load.stop(), steady=backends[6:], allowed=BEGUN)
