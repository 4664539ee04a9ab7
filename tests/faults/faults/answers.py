"""Backends that answer wrongly: one of four does so to a share of its requests, and is well as far as probes can tell."""

from ground import wait_until
from stage import KEYS, fault

SHARE = 0.2
MET, MET_SHORT = 150, 40
BODY_TIMEOUTS = {"timeouts": 'idle_body = "1s"'}


def misbehaving(stage, faults, **how):
    """One backend does these faults, one after the other, until each has been met often enough. Figures, and the other backends."""
    backends = stage.backends(4)
    stage.proxy(backends, **how)
    load = stage.load()
    victim, often = backends[0], MET_SHORT if stage.is_short else MET
    for name in faults:
        victim.misbehave(name, SHARE)
        wait_until(lambda name=name: sum(entry[2] == name for entry in victim.entries()) >= often, 60, f"{often} times {name}")
    victim.behave()
    load.more(200)
    figures = load.stop()
    stage.note(f"done to requests: {dict(figures.faults)}")
    return figures, backends[1:]


@fault("reset-before-head", "connections are reset when the request has come", is_short=True)
def reset_before_head(stage):
    figures, steady = misbehaving(stage, ("reset-before-head",))
    stage.seamless(figures, steady)


@fault("reset-in-body", "connections are reset or end in the middle of an answer's body", is_short=True)
def reset_in_body(stage):
    figures, steady = misbehaving(stage, ("reset-in-body", "end-in-body"))
    stage.honest(figures, steady, reset_in_body=0.9, end_in_body=0.9)


@fault("stall-in-body", "answers stand still in the middle")
def stall_in_body(stage):
    figures, steady = misbehaving(stage, ("stall-in-body",), tables=BODY_TIMEOUTS)
    stage.honest(figures, steady, stall_in_body=0.9)


@fault("garbage", "answers that are no HTTP, or contradict themselves")
def garbage(stage):
    figures, steady = misbehaving(stage, ("garbage",))
    stage.honest(figures, steady, garbage=0)
    bad = figures.count("502", "broken")
    stage.expect(bad >= figures.faults["garbage"] * 0.9, f"{bad} times the client was told, with 502 or by a broken answer")


@fault("wrong-length", "Content-Length says more than comes, or less", is_short=True)
def wrong_length(stage):
    figures, steady = misbehaving(stage, ("too-long", "too-short"))
    stage.honest(figures, steady, too_long=0.9, too_short=0)


@fault("drip", "answers come byte by byte")
def drip(stage):
    figures, steady = misbehaving(stage, ("drip",))
    stage.seamless(figures, steady, methods=("GET", "POST"))


@fault("endless", "answers without end, whose clients leave in the middle")
def endless(stage):
    backends = stage.backends(4)
    proxy = stage.proxy(backends)
    before = proxy.memory("VmRSS")
    load = stage.load(extra=[{"kind": "endless", "keys": KEYS[:20]}] * 4)
    load.more(1000)
    figures = load.stop()
    wait_until(lambda: not sum(backend.order()["endless"] for backend in backends), 20, "no backend is asked for an answer without end")
    wait_until(lambda: not proxy.count("ringway_requests_in_flight"), 20, "nothing is in flight any more")
    stage.seamless(figures, backends, methods=("GET", "POST"))
    grown = proxy.memory() - before
    stage.expect(figures.left > 20, f"{figures.left} clients took some of an answer without end, and left")
    stage.expect(grown < 32 << 20, f"memory grew by {grown / 2**20:.1f} MiB at most")


@fault("closed-at-reuse", "kept connections are closed by the backend at the moment of reuse", is_short=True)
def closed_at_reuse(stage):
    figures, steady = misbehaving(stage, ("end-after", "close-after", "close-on-reuse"))
    stage.seamless(figures, steady)
    stage.note(f"requests that came after the end of a connection: {figures.faults['late']}")
