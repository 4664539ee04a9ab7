"""Changes of the proxy, and of the world around it, while requests go on."""

import os
import re
import shutil
import signal
import subprocess
import time

from backends import Backend
from clients import thoughtful
from figures import Figures
from ground import Failed, wait_until
from network import Impossible
from processes import free_ports, tool
from stage import KEYS, fault
from subject import NotBuilt

RELOAD_SECONDS = 0.2
LOCATED = re.compile(r"ringway\.toml:\d+:\d+")
# Half a second, so that there is something under way.
SOME_TAKE_LONGER = ("drip", 0.05)
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
    until = time.monotonic() + (6 if stage.is_short else 60)
    while time.monotonic() < until:
        due = time.monotonic() + RELOAD_SECONDS
        # Five rounds with the fifth backend, five without it; something small changes each time.
        with_fifth = count // 5 % 2
        backends[4].weight = 0.5 + count % 2
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
    stage.note(f"{count} reloads, {late} of them later than planned; the fifth backend answered {fifth}; "
               f"memory grew by {grown / 2**20:.1f} MiB")
    stage.expect(fifth > 0, f"the backend that came and went had {fifth} requests")
    stage.seamless(figures, backends[:4], also=backends[4:], methods=("GET", "POST"))


@fault("reload-broken", "SIGHUP with a broken file, and with a good one after it")
def reload_broken(stage):
    backends = stage.backends(4)
    proxy = stage.proxy(backends, has_token=True)
    load = stage.load()
    hang_up(proxy)
    for text in ("[[listeners", proxy.text() + "\nno_such_key = 1\n", proxy.text(keys="attempts = 0"), ""):
        proxy.write(text)
        hang_up(proxy, "failure")
        load.more(200)
    proxy.write(proxy.text(keys="attempts = 0"))
    code, said = reload_command(proxy)
    stage.expect(code != 0 and LOCATED.search(said), f"ringway reload: exit {code}, {said[:150]!r}")
    located = LOCATED.search(proxy.log())
    stage.expect(located, f"the log says where: {located[0] if located else None}")
    proxy.write(proxy.text())
    code, said = reload_command(proxy)
    stage.expect(code == 0, f"with a good file again: exit {code}, {said[:150]!r}")
    load.more(200)
    stage.seamless(load.stop(), backends, methods=("GET", "POST"))


def reload_command(proxy):
    """`ringway reload`: its exit code, and what it says."""
    command = [proxy.stage.ringway, "reload", "--admin", f"{proxy.address}:{proxy.admin_port}", "--token-file", proxy.token_file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return done.returncode, (done.stdout + done.stderr).strip()


@fault("upgrade", "the binary is replaced, and SIGUSR2 has the new one take over, six times", is_short=True)
def upgrade(stage):
    proxy, backends, load = before_upgrade(stage)
    for _ in range(1 if stage.is_short else 6):
        old, number = proxy.pid, put(stage)
        proxy.signal(signal.SIGUSR2)
        new = wait_until(proxy.successor, 20, "a new process")
        wait_until(lambda old=old: old not in proxy.relatives(), 60, "the old process has ended")
        proxy.pid = new
        runs = os.stat(f"/proc/{new}/exe").st_ino
        stage.expect(runs == number, f"process {new} after {old} runs the new file: {runs} is {number}")
        load.more(500)
        proxy.await_serving(*backends)
    code = proxy.await_end(10)
    stage.expect(code == 0, f"the first process ended with {code}")
    stage.seamless(load.stop(), backends, methods=("GET", "POST"))


@fault("upgrade-broken", "SIGUSR2 when the new process cannot start: its file is broken, or its configuration")
def upgrade_broken(stage):
    proxy, backends, load = before_upgrade(stage)
    for what in ("configuration", "binary"):
        size = len(proxy.log())
        if what == "configuration":
            proxy.write("[[listeners")
        else:
            proxy.write(proxy.text())
            put(stage, b"#!/bin/sh\necho this is no proxy >&2\nexit 1\n")
        proxy.signal(signal.SIGUSR2)
        wait_until(lambda size=size: len(proxy.log()) > size and proxy.relatives() == [proxy.pid], 20, "the new process has failed")
        load.more(500)
        stage.expect(proxy.process.poll() is None, f"with a broken {what} the old process goes on")
    put(stage)
    proxy.signal(signal.SIGUSR2)
    proxy.pid = wait_until(proxy.successor, 20, "a new process once all is well again")
    wait_until(lambda: proxy.relatives() == [proxy.pid], 60, "the old process has ended")
    load.more(500)
    stage.seamless(load.stop(), backends, methods=("GET", "POST"))


def before_upgrade(stage):
    """A proxy that runs from a file of its own, its backends and its load."""
    stage.source, stage.ringway = stage.ringway, stage.folder / "ringway"
    put(stage)
    backends = stage.backends(4)
    for backend in backends:
        backend.misbehave(*SOME_TAKE_LONGER)
    proxy = stage.proxy(backends)
    load = stage.load(extra=thoughtful(KEYS))
    if not proxy.heeds(signal.SIGUSR2):
        raise NotBuilt("SIGUSR2 means nothing to the process: there is no upgrade")
    return proxy, backends, load


def put(stage, text=None):
    """Puts a new file in the place of the binary, as package managers do. The file's number."""
    beside = stage.ringway.with_suffix(".new")
    if text is None:
        shutil.copy(stage.source, beside)
    else:
        beside.write_bytes(text)
    beside.chmod(0o755)
    beside.rename(stage.ringway)
    return stage.ringway.stat().st_ino


@fault("sigterm", "SIGTERM under load: every request that was accepted is answered", is_short=True)
def sigterm(stage):
    backends = stage.backends(4)
    for backend in backends:
        backend.misbehave(*SOME_TAKE_LONGER)
    rounds = [stop_once(stage, backends) for _ in range(1 if stage.is_short else 4)]
    codes, late = {code for code, _, _ in rounds}, sum(count for _, count, _ in rounds)
    stage.expect(codes == {0}, f"exit codes {codes}")
    stage.expect(late > 0, f"{late} requests were under way or came in time")
    stage.seamless(Figures.together([figures for _, _, figures in rounds], backends), backends, methods=("GET", "POST"))


def stop_once(stage, backends):
    """One proxy, from start to end. Its exit code, the requests that were answered after the signal, and the figures."""
    proxy = stage.proxy(backends)
    load = stage.load(until_refused=True, extra=thoughtful(KEYS))
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
    return code, late, figures


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
