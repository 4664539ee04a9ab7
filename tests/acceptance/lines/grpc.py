"""calls of all four kinds, deadlines and errors through it, by Python's grpcio, in the clear and through TLS

Each caller is another user, so both backends are called; each user's calls all go to one.
"""

import json
import subprocess

from certificates import Authority
from ground import Failed, wait_until
from processes import free_ports
from proxy import Proxy, pool, route

# Debian's own, which has Debian's packages.
PYTHON = "/usr/bin/python3"
PROGRAM = __file__.rsplit("/", 2)[0] + "/programs/calls.py"
HEALTH = 'kind = "grpc"\ninterval = "200ms"'
USERS = 8


def run(report, ground):
    if subprocess.run([PYTHON, "-c", "import grpc"], capture_output=True, check=False).returncode:
        raise Failed("python3-grpcio is missing: apt-get install python3-grpcio")
    authority = Authority(ground.folder)
    file = authority.sign("a", "a.example")
    ports = free_ports(2)
    for port in ports:
        ground.processes.start(f"calls-{port}", [PYTHON, "-B", PROGRAM, "serve", port])
    for port in ports:
        wait_until(lambda: "ready" in ground.processes.log(f"calls-{port}").read_text(), 15, "the service is ready")
    secured, clear = free_ports(2)
    backends = {f"calls-{port}": port for port in ports}
    proxy = Proxy(ground, pool("calls", backends, HEALTH, protocol="h2c", on_missing_key="refuse"),
                  f'[[listeners]]\naddress = "127.0.0.1:{secured}"\n[listeners.tls]\ncertificates = ["{file}"]\n',
                  f'[[listeners]]\naddress = "127.0.0.1:{clear}"\nhttp2 = "prior-knowledge"\n', route("/test.Echo/", "calls"))
    wanted = {
        "unary": "hello", "large": 3 << 20, "down": 1000, "up": str(sum(range(1000))), "both": [0, 199, 200],
        "error": "FAILED_PRECONDITION: as you wished: 100 % \u00e4", "deadline": "DEADLINE_EXCEEDED: Deadline Exceeded",
        "deadline took": True,
    }
    for word, port, trust in (("in the clear", clear, "-"), ("through TLS", secured, authority.certificate)):
        asked = [subprocess.Popen([PYTHON, "-B", PROGRAM, "ask", f"127.0.0.1:{port}", str(trust), f"user-{user}"],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for user in range(USERS)]
        served = set()
        for user, caller in enumerate(asked):
            out, err = caller.communicate(timeout=120)
            came = {line["kind"]: line["what"] for line in map(json.loads, out.splitlines())}
            served.add(came.get("trailers"))
            off = {kind: came.get(kind) for kind, what in wanted.items() if came.get(kind) != what}
            report.expect(not off, f"{word}, user {user}: calls of four kinds, 3 MiB, error, deadline {off or ''}{err[-200:] if off else ''}")
            refused = (came.get("unknown", ""), came.get("no key", ""))
            is_right = refused[0].startswith("UNIMPLEMENTED: Not Found") and refused[1].startswith("INVALID_ARGUMENT: Bad Request")
            if user == 0:
                report.expect(is_right, f"{word}: refusals as gRPC has them: {refused}")
        report.expect(served == {str(port) for port in ports}, f"{word}: served by {sorted(map(str, served))}")
    for port in ports:
        log = ground.processes.log(f"calls-{port}").read_text()
        report.expect("Traceback" not in log, f"the service at {port} raised nothing{log[-300:] if 'Traceback' in log else ''}")
    opened = proxy.metrics().by("ringway_upstream_connections_opened_total", "backend")
    report.say(f"connections to backends: {opened}")
