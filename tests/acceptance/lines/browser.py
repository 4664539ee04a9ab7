"""headless Chromium loads a page with two hundred resources and opens a WebSocket, all over HTTP/2

The page itself reports what it got, and by which protocol.
"""

import json
import shutil

from certificates import Authority
from ground import Failed, wait_until
from processes import free_ports
from proxy import Proxy, pool

PYTHON = "/usr/bin/python3"
PROGRAM = __file__.rsplit("/", 2)[0] + "/programs/page.py"
COUNT = 100


def run(report, ground):
    if not shutil.which("chromium"):
        raise Failed("chromium is missing: apt-get install chromium")
    authority = Authority(ground.folder)
    file = authority.sign("a", "a.example")
    port, secured = free_ports(2)
    ground.processes.start("page", [PYTHON, "-B", PROGRAM, port])
    log = ground.processes.log("page")
    wait_until(lambda: "ready" in log.read_text(), 15, "the page is ready")
    proxy = Proxy(ground, pool("pages", {"page": port}, 'kind = "tcp"'),
                  f'[[listeners]]\naddress = "127.0.0.1:{secured}"\n[listeners.tls]\ncertificates = ["{file}"]\n')
    ground.processes.start("chromium", [
        "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--ignore-certificate-errors",
        f"--user-data-dir={ground.folder}/profile", "--host-resolver-rules=MAP a.example 127.0.0.1",
        f"https://a.example:{secured}/"])
    lines = wait_until(lambda: log.read_text().splitlines()[1:], 60, "the browser reports")
    came = json.loads(lines[0])
    wanted = {"fetched": COUNT, "images": COUNT, "protocols": ["h2"], "page": "h2", "echoed": "hello"}
    report.expect(came == wanted, f"the page reports {came}")
    metrics = proxy.metrics()
    connections = int(metrics.sum("ringway_http2_connections_total"))
    # Chromium sometimes opens one ahead that it does not need.
    report.expect(connections in (1, 2), f"connections of HTTP/2: {connections}")
    report.expect(metrics.sum("ringway_upgrades_total") == 1, "the WebSocket is a stream of it")
    bad = {kind: count for kind, count in metrics.by("ringway_requests_total", "class").items() if count and kind not in ("2xx", "1xx")}
    report.expect(not bad, f"no request came to a bad end {bad or ''}")
