"""a thousand WebSockets at once, and messages of 10 MiB, in the clear and through TLS, by Python's websockets

Each connection is that of another user, so both backends have some; each stays with its user's owner.
"""

import subprocess

from certificates import Authority
from ground import Failed, wait_until
from processes import free_ports
from proxy import Proxy, pool

# Debian's own, which has Debian's packages.
PYTHON = "/usr/bin/python3"
PROGRAM = __file__.rsplit("/", 2)[0] + "/programs/sockets.py"
HEALTH = 'kind = "tcp"'
CASES = ((1000, 1000), (5, 10 << 20))


def run(report, ground):
    if subprocess.run([PYTHON, "-c", "import websockets"], capture_output=True, check=False).returncode:
        raise Failed("python3-websockets is missing: apt-get install python3-websockets")
    authority = Authority(ground.folder)
    file = authority.sign("a", "a.example")
    ports = free_ports(2)
    for port in ports:
        ground.processes.start(f"echo-{port}", [PYTHON, "-B", PROGRAM, "serve", port])
    for port in ports:
        wait_until(lambda: "ready" in ground.processes.log(f"echo-{port}").read_text(), 15, "the echo is ready")
    secured, = free_ports(1)
    proxy = Proxy(ground, pool("rooms", {f"echo-{port}": port for port in ports}, HEALTH),
                  f'[[listeners]]\naddress = "127.0.0.1:{secured}"\n[listeners.tls]\ncertificates = ["{file}"]\n')
    for scheme, port, trust in (("ws", proxy.port, "-"), ("wss", secured, authority.certificate)):
        for count, size in CASES:
            before = proxy.metrics().by("ringway_upgrades_total", "backend")
            command = [PYTHON, "-B", PROGRAM, "ask", f"{scheme}://127.0.0.1:{port}/", trust, count, size]
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, check=False)
            echoed = done.stdout.strip() or done.stderr.strip()[-300:]
            after = proxy.metrics().by("ringway_upgrades_total", "backend")
            split = [after.get(name, 0) - before.get(name, 0) for name in sorted(after)]
            report.expect(echoed == str(count) and sum(split) == count,
                          f"{scheme}: {count} connections, {size} bytes each way: {echoed} echoed; by backend {split}")
    wait_until(lambda: proxy.metrics().sum("ringway_upgraded_connections") == 0, 15, "all are closed")
    lost = proxy.metrics().by("ringway_requests_total", "class")
    report.expect(set(lost) == {"1xx"}, f"requests by class: {lost}")
