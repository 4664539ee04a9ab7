"""a real Prometheus reads the metrics, and the counters are exact

promtool's lints, good, cancelled and malformed requests against ringway_requests_total, and a rate as Prometheus sees it.
"""

import http.client
import json
import socket
import struct
import subprocess
import threading
import time
import urllib.parse

from ground import wait_until
from origins import Origin
from processes import free_ports, tool
from proxy import Proxy, get, pool, route

GOOD, CANCELLED, MALFORMED = 3000, 60, 42
RATE = 200
RATE_TOLERANCE = 0.1
RATE_SECONDS = 60

CONFIG = """
global: {{ scrape_interval: 1s }}
scrape_configs:
  - job_name: ringway
    static_configs: [{{ targets: ["127.0.0.1:{port}"] }}]
"""

# Each is answered with 400 before it has a pool.
BAD_HEADS = (
    b"GET\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\nx y: 1\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\n folded: 1\r\n\r\n",
)

# One client goes before the answer's head, one in the middle of its body, one in the middle of its own.
LEAVING = (
    b"GET /never HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET /half HTTP/1.1\r\nhost: a\r\n\r\n",
    b"POST /never HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nhalf of it",
)


def run(report, ground):
    fast, slow = Origin(ground, "nginx", "nginx"), Origin(ground, "slow", "python")
    proxy = Proxy(ground, route("/", "fast"), *(route(path, "slow") for path in ("/never", "/half")),
                  pool("fast", {fast.name: fast.port}), pool("slow", {slow.name: slow.port}))
    lint(report, proxy)
    server = Prometheus(ground, proxy)
    send_good(proxy)
    send_malformed(report, proxy)
    leave(report, proxy)
    expected = {"2xx": GOOD, "4xx": MALFORMED, "cancelled": CANCELLED}
    wait_until(lambda: total(proxy) >= sum(expected.values()), 10, "all requests are counted")
    compare(report, proxy, expected, "good, malformed and cancelled")
    expected["2xx"] += rate(report, proxy, server)
    compare(report, proxy, expected, "after the load for the rate")

    def seen():
        return server.query("sum by (class) (ringway_requests_total) > 0")

    exact = {frozenset({("class", name)}): float(count) for name, count in expected.items()}
    wait_until(lambda: seen() == exact, 10, f"Prometheus has the same counts, not {seen()}")
    report.expect(True, f"Prometheus has the same counts: {expected}")
    lint(report, proxy)


def lint(report, proxy):
    """promtool's opinion of the page."""
    status, page = proxy.admin("/metrics")
    result = subprocess.run([tool("promtool"), "check", "metrics"], input=page, capture_output=True, timeout=30)
    words = (result.stdout + result.stderr).decode().strip()
    report.expect(status == 200 and result.returncode == 0 and not words,
                  f"promtool check metrics: exit code {result.returncode}, {len(page)} bytes {words}")


def total(proxy):
    """All requests that were counted."""
    return proxy.metrics().sum("ringway_requests_total")


def compare(report, proxy, expected, what):
    """The counters, by class, against what was sent."""
    metrics = proxy.metrics()
    counted = metrics.by("ringway_requests_total", "class")
    report.expect(counted == expected, f"{what}: counted {counted}, sent {expected}")
    malformed, flying = metrics.by("ringway_refusals_total", "reason"), int(metrics.sum("ringway_requests_in_flight"))
    report.expect(malformed == {"malformed": MALFORMED} and not flying, f"refusals {malformed}, in flight {flying}")


def send_good(proxy):
    """Requests that are answered."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
    for number in range(GOOD):
        connection.request("GET", "/", headers={"x-user-id": str(number)})
        connection.getresponse().read()
    connection.close()


def send_malformed(report, proxy):
    """Heads that are none, each on a connection of its own."""
    answers = {}
    for number in range(MALFORMED):
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as client:
            client.sendall(BAD_HEADS[number % len(BAD_HEADS)])
            status = client.makefile("rb").readline().decode().strip()
            answers[status] = answers.get(status, 0) + 1
    report.expect(list(answers) == ["HTTP/1.1 400 Bad Request"], f"malformed ones are refused: {answers}")


def leave(report, proxy):
    """Clients that go when their requests are at the backend, half of them with a reset."""
    clients = []
    for number in range(CANCELLED):
        client = socket.create_connection(("127.0.0.1", proxy.port), timeout=30)
        client.sendall(LEAVING[number % len(LEAVING)])
        if number % len(LEAVING) == 1:
            client.recv(1)
        clients.append(client)
    wait_until(lambda: proxy.metrics().sum("ringway_requests_in_flight") == CANCELLED, 10, "all are at the backend")
    for number, client in enumerate(clients):
        if number % 2:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    report.say(f"{CANCELLED} clients left while their requests were at the backend")


def rate(report, proxy, server):
    """Steady traffic until Prometheus tells its rate. How many requests that were."""
    wanted = threading.Event()
    wanted.set()
    sent = []

    def send():
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
        begin = time.monotonic()
        while wanted.is_set() and len(sent) < RATE * RATE_SECONDS * 2:
            # The rhythm of this client, not a wait for something.
            time.sleep(max(0.0, begin + len(sent) / RATE - time.monotonic()))
            connection.request("GET", "/", headers={"x-user-id": str(len(sent))})
            connection.getresponse().read()
            sent.append(time.monotonic())
        connection.close()

    last = []

    def is_seen():
        last[:] = server.query("sum(rate(ringway_requests_total[10s]))").values()
        return last and abs(last[0] - RATE) <= RATE * RATE_TOLERANCE

    sender = threading.Thread(target=send)
    sender.start()
    try:
        # The good ones from before must be out of the window, or they would be taken for the rate.
        wait_until(lambda: len(sent) > 12 * RATE, RATE_SECONDS, "the window holds nothing else")
        wait_until(is_seen, RATE_SECONDS, f"Prometheus sees about {RATE}/s")
        actual = (len(sent) - 1) / (sent[-1] - sent[0])
    finally:
        wanted.clear()
        sender.join()
    report.expect(True, f"sum(rate(ringway_requests_total[10s])) is {last[0]:.1f}/s, sent were {actual:.1f}/s")
    return len(sent)


class Prometheus:
    """A real one, which scrapes this proxy every second."""

    def __init__(self, ground, proxy):
        self.port, = free_ports(1)
        config = ground.folder / "prometheus.yml"
        config.write_text(CONFIG.format(port=proxy.admin_port))
        self.process = ground.processes.start("prometheus", [
            tool("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={ground.folder / 'tsdb'}",
            "--storage.tsdb.retention.time=1h", f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"])
        wait_until(self.has_scraped, 30, "Prometheus has scraped")

    def has_scraped(self):
        """Whether it has reached the proxy."""
        try:
            return list(self.query("up").values()) == [1.0]
        except OSError:
            return False

    def query(self, expression):
        """An instant query: values by labels."""
        status, body = get(self.port, "/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
        if status != 200:
            return {}
        rows = json.loads(body)["data"]["result"]
        return {frozenset((name, value) for name, value in row["metric"].items() if name == "class"):
                float(row["value"][1]) for row in rows}
