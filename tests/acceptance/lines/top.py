"""a proxy in a terminal: what happens is seen, orders are obeyed, and the terminal is given back

`ringway top` runs in a pseudo-terminal whose screen is read like a person would. Backends are stopped, drained and restored
under it; the proxy itself is stopped and started again.
"""

import re
import signal

from ground import wait_until
from origins import Origin
from proxy import Proxy, get, pool
from terminal import Terminal

COLOUR = re.compile(rb"\x1b\[(?:\d+;)*(?:3[0-7]|38|9[0-7]|4[0-7])(?:;\d+)*m")


def run(report, ground):
    origins = [Origin(ground, f"cache-{number}", "python") for number in (1, 2, 3)]
    token = ground.folder / "token"
    token.write_text("s3cret\n")
    # The first part goes on with the table [admin].
    admin = f'token_file = "{token}"\nallow_unauthenticated_reads = true\n'
    backends = {origin.name: origin.port for origin in origins}
    proxy = Proxy(ground, admin, pool("cache", backends), pool("other", {"cache-1": origins[0].port}),
                  '[[routes]]\npath_prefix = "/"\npool = "cache"\n')
    command = [ground.ringway, "top", "--admin", f"http://127.0.0.1:{proxy.admin_port}", "--token-file", token]
    top = Terminal(ground.processes, command)
    top.shows("revision .* ready", r"^> cache .*3/3", r"^> cache-1 +serving", r"^  cache-3 +serving", "q quit")
    report.expect(True, "80x24: pools and backends are shown")

    look_around(report, top, proxy, origins)
    give_orders(report, top)
    survive(report, ground, top, proxy)

    top.press("q")
    code = top.ends()
    report.expect(code == 0 and top.is_as_before(), f"q: exit code {code}, the terminal is as before")
    report.expect(COLOUR.search(top.written), "it had colours")
    end_otherwise(report, ground, command)


def look_around(report, top, proxy, origins):
    """What happens is seen, and can be asked about."""
    def is_busy():
        for number in range(20):
            get(proxy.port, "/", {"x-user-id": str(number)})
        return re.search(r"^req/s [1-9]", top.text(), re.M)
    wait_until(is_busy, 15, "requests are counted on the screen")
    report.expect(True, "requests per second are counted")
    origins[1].stop()
    top.shows(r"^  cache-2 +(down|ejected)", r"cache/cache-2: serving → (down|ejected)", r"^> cache .* 2/3")
    report.expect(True, "a backend that stops is seen, in its row and as an event")
    top.press("/cache-2\r")
    top.shows("1 with .cache-2", r"^> cache-2 ")
    top.shows(r"^cache-2: down for")
    report.expect(True, "a filter leaves one, and its reason is told")
    top.press("\x1b")
    top.shows(r"cache-1 +serving")
    top.press("luser-42\r")
    top.shows("owns the key", "CHOSEN", "passed over|next")
    top.press("x")
    report.expect(True, "who owns a key is answered")
    origins[1].start()
    top.shows(r"^[> ] cache-2 +serving", r"cache/cache-2: \w+ → serving")
    report.expect(True, "it comes back, and that is seen")
    top.press("\t")
    top.shows("pool other: 1 backends")
    top.press("\t")
    top.shows("pool cache: 3 backends")
    top.resize(120, 40)
    top.shows(r"REASON$", "^  cache-3 +serving")
    report.expect(top.text().splitlines()[39].startswith("q quit"), "120x40: the view fills the terminal, and reasons have a column")


def give_orders(report, top):
    """A drain needs a yes, and can be taken back."""
    top.press("jd")
    top.shows("Drain cache-[23] of cache")
    top.press("n")
    top.shows("nothing was changed")
    top.press("d")
    top.shows("y: yes")
    top.press("y")
    top.shows("drain: done; .* of the pool's keys move", r"^> cache-\d +drained +0.0%")
    report.expect(True, "a backend is drained once that was confirmed")
    top.press("ry")
    top.shows(r"restore: done", r"^> cache-\d +serving")
    report.expect(True, "and restored")


def survive(report, ground, top, proxy):
    """A proxy that goes away is told, and asked again until it is back."""
    ground.processes.stop(proxy.process)
    top.shows("NO ANSWER, again in", "does not answer any more")
    proxy.process = ground.processes.start("ringway", [ground.ringway, "run", "-c", proxy.config])
    wait_until(proxy.is_ready, 15, "ringway is ready")
    # What the new process has to say may have moved the word about its coming back out of sight.
    top.shows("^Ringway .* ready", seconds=30)
    report.expect(True, "a proxy that goes is missed, and found when it is back")


def end_otherwise(report, ground, command):
    """A signal, and a proxy that is not there."""
    top = Terminal(ground.processes, command, NO_COLOR="1")
    top.shows("revision .* ready")
    top.process.send_signal(signal.SIGTERM)
    code = top.ends()
    report.expect(code == 0 and top.is_as_before(), f"SIGTERM: exit code {code}, the terminal is as before")
    colours = COLOUR.findall(top.written)
    report.expect(not colours, f"NO_COLOR: {len(colours)} colours")
    nobody = Terminal(ground.processes, [*command[:3], "127.0.0.1:1"])
    code = nobody.ends()
    report.expect(code == 1 and b"1049h" not in nobody.written, f"nobody there: exit code {code}, the screen is left alone")
