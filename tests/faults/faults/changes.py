"""Changes of the proxy, and of the world around it, while requests go on."""

import re
import signal
import subprocess
import time

from backends import Backend
from ground import Failed, wait_until
from network import Impossible
from processes import free_ports, tool
from stage import fault
from subject import NotBuilt

RELOAD_SECONDS = 0.2
HOSTS = 'mount --bind "$0" /etc/hosts && exec "$@"'


def hang_up(proxy, result="success"):
    """Asks for a reload, and waits until it has been tried."""
    def loads():
        if "SIGHUP is ignored" in proxy.log():
            raise NotBuilt("SIGHUP is ignored: there is no reload")
        return proxy.count("ringway_config_loads_total", result=result)

    before = loads()
    proxy.signal(signal.SIGHUP)
    wait_until(lambda: loads() > before, 10, f"a reload that is counted as {result}")


@fault("reload", "SIGHUP five times a second for a minute: a backend added, weighed and taken away, limits changed", is_short=True)
def reload(stage):
    backends = stage.backends(5)
    proxy = stage.proxy(backends[:4])
    load = stage.load()
    before, count, late = proxy.memory("VmRSS"), 0, 0
    until = time.monotonic() + (8 if stage.is_short else 60)
    while time.monotonic() < until:
        due = time.monotonic() + RELOAD_SECONDS
        # Five rounds with the fifth backend, five without it; something small changes each time.
        with_fifth = count // 5 % 2
        proxy.write(proxy.text(backends=backends[:4 + with_fifth], keys=f"attempts = {3 + count % 2}\nmax_body_bytes = {10**9 + count}"))
        hang_up(proxy)
        count += 1
        late += time.monotonic() > due
        time.sleep(max(0.0, due - time.monotonic()))
    proxy.write(proxy.text())
    hang_up(proxy)
    load.more(200)
    grown = proxy.memory("VmRSS") - before
    figures = load.stop()
    fifth = sum(record.backend == backends[4].name for record in figures.records)
    stage.note(f"{count} reloads, {late} of them later than planned; the fifth backend answered {fifth}; memory grew by {grown / 2**20:.1f} MiB")
    stage.expect(fifth > 0, f"the backend that came and went had {fifth} requests")
    stage.seamless(figures, backends[:4], also=backends[4:], methods=("GET", "POST"))


@fault("reload-broken", "SIGHUP with a broken file, and with a good one after it")
def reload_broken(stage):
    backends = stage.backends(4)
    proxy = stage.proxy(backends)
    load = stage.load()
    hang_up(proxy)
    for text in ("[[listeners", proxy.text() + "\nno_such_key = 1\n", proxy.text(keys="attempts = 0"), ""):
        proxy.write(text)
        hang_up(proxy, "failure")
        load.more(200)
    command = [stage.ringway, "reload", "--admin", f"{proxy.address}:{proxy.admin_port}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    stage.expect(done.returncode != 0, f"ringway reload says so: exit {done.returncode}, {(done.stdout + done.stderr).strip()[:120]!r}")
    located = re.search(r"ringway\.toml:\d+:\d+", proxy.log())
    stage.expect(located, f"the log says where: {located[0] if located else None}")
    proxy.write(proxy.text())
    hang_up(proxy)
    load.more(200)
    stage.seamless(load.stop(), backends, methods=("GET", "POST"))


@fault("upgrade", "SIGUSR2: the binary takes over from itself, three times", is_short=True)
def upgrade(stage):
    backends = stage.backends(4)
    proxy = stage.proxy(backends)
    load = stage.load()
    if not proxy.heeds(signal.SIGUSR2):
        raise NotBuilt("SIGUSR2 means nothing to the process: there is no upgrade")
    for _ in range(1 if stage.is_short else 3):
        old = proxy.pid
        proxy.signal(signal.SIGUSR2)
        new = wait_until(proxy.successor, 20, "a new process")
        wait_until(lambda old=old: old not in proxy.relatives(), 60, "the old process has ended")
        proxy.pid = new
        load.more(500)
        proxy.await_serving(*backends)
    stage.expect(proxy.process.returncode == 0, f"the first process ended with {proxy.process.returncode}")
    stage.seamless(load.stop(), backends, methods=("GET", "POST"))


@fault("sigterm", "SIGTERM under load: every request that was accepted is answered", is_short=True)
def sigterm(stage):
    backends = stage.backends(4)
    proxy = stage.proxy(backends)
    # Some answers take half a second, so that there is something under way.
    for backend in backends:
        backend.misbehave("drip", 0.05)
    load = stage.load(until_refused=True)
    load.more(500)
    told = time.monotonic()
    proxy.signal(signal.SIGTERM)
    code = proxy.await_end(40)
    took = time.monotonic() - told
    wait_until(load.has_ended, 40, "every client has been refused")
    figures = load.stop()
    figures.drop_refused_after(told)
    late = sum(record.ended > told for record in figures.records)
    stage.note(f"ended {took:.1f} s after the signal; {late} requests were answered in that time")
    stage.expect(code == 0, f"exit code {code}")
    stage.expect(late > 0, f"{late} requests were under way or came in time")
    stage.seamless(figures, backends, methods=("GET", "POST"))


@fault("address-change", "a name has another address from now on, and what was at the old one ends")
def address_change(stage):
    if tried := impossible_mount():
        raise Impossible(f"a file of one's own in the place of /etc/hosts: {tried}")
    backends = stage.backends(3)
    port, = free_ports(1)
    old, new = (Backend(stage, number, name="moving", address=address, port=port)
                for number, address in ((3, "127.0.0.2"), (4, "127.0.0.3")))
    for backend in (old, new):
        backend.await_start()
        backend.host = "moving.bench.test"
    hosts = stage.folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{old.address} {old.host}\n")
    stage.all_backends += [old, new]
    proxy = stage.proxy([*backends, old], keys='resolve_interval = "1s"', prefix=[tool("unshare"), "-m", "sh", "-c", HOSTS, hosts])
    load = stage.load()
    # In place: what is mounted is this very file.
    hosts.write_text(f"127.0.0.1 localhost\n{new.address} {old.host}\n")
    changed = time.monotonic()
    new.await_work(20)
    wait_until(lambda: quiet(old, load), 20, "nothing goes to the old address any more")
    took = time.monotonic() - changed
    old.kill()
    load.more(1000)
    figures = load.stop()
    processes = {record.process for record in figures.records if record.backend == "moving"}
    stage.note(f"{took:.1f} s until nothing went to the old address")
    stage.expect(len(processes) == 2, f"both processes have answered for the name: {len(processes)}")
    stage.seamless(figures, [*backends, old], methods=("GET", "POST"))


def quiet(backend, load):
    """Whether it gets nothing while others get a lot."""
    before = backend.size()
    load.more(300)
    return backend.size() == before


def impossible_mount():
    """Why there can be no mounts of one's own; empty if there can."""
    try:
        command = [tool("unshare"), "-m", "mount", "--bind", "/etc/hosts", "/etc/hosts"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stderr.strip()
    except Failed as error:
        return str(error)
