"""alert rules and the dashboard hold against a live scrape

promtool's opinion of the rules and their unit tests; then Debian's Prometheus loads them beside two live proxies, and every expression of rules and
dashboard is asked.
"""

import json
import re
import subprocess
import sys
import urllib.parse
from pathlib import Path

from certificates import Authority
from ground import wait_until
from origins import Origin
from processes import free_ports, tool
from proxy import Proxy, get, pool

CONFIG = Path(__file__).resolve().parents[3] / "config"
RULES = CONFIG / "prometheus" / "ringway.rules.yml"
UNIT_TESTS = CONFIG / "prometheus" / "ringway.test.yml"
DASHBOARD = CONFIG / "grafana" / "ringway.json"

PROMETHEUS = """
global: {{ scrape_interval: 1s, evaluation_interval: 1s }}
rule_files: [{rules}]
scrape_configs:
  - job_name: ringway
    static_configs: [{{ targets: [{targets}] }}]
"""

# Long enough for two scrapes.
INTERVAL = "10s"
NAME = re.compile(r"\b(?:ringway|process)_\w+|\b\w+:ringway_[\w:]+")
KEYS = 8


def run(report, ground):
    promtool(report, "rules are well-formed", "check", "rules", RULES)
    promtool(report, "each alert fires, and does not fire, as its unit test says", "test", "rules", UNIT_TESTS)
    written = subprocess.run([sys.executable, "-B", CONFIG / "grafana" / "dashboard.py", "--check"], capture_output=True, timeout=30)
    report.expect(written.returncode == 0, f"the dashboard is what dashboard.py writes {written.stderr.decode().strip()}")
    proxies = two_proxies(ground)
    server = Prometheus(ground, proxies)
    wait_until(lambda: send(proxies) and server.is_loaded(), 30, "Prometheus has scraped both proxies and evaluated every rule")
    rules(report, server)
    dashboard(report, server)


def promtool(report, what, *arguments):
    """promtool's opinion, which is its exit code."""
    done = subprocess.run([tool("promtool"), *map(str, arguments)], capture_output=True, text=True, timeout=60, cwd=RULES.parent)
    report.expect(done.returncode == 0, what if done.returncode == 0 else f"{what}: {done.stdout}{done.stderr}")


def two_proxies(ground):
    """Two proxies for the same backends, written in different orders, one of which speaks TLS too."""
    origins = [Origin(ground, name, "nginx") for name in ("one", "two")]
    backends = {origin.name: origin.port for origin in origins}
    port, = free_ports(1)
    certificate = Authority(ground.folder).sign("a", "a.example")
    secure = f'[[listeners]]\naddress = "127.0.0.1:{port}"\n[listeners.tls]\ncertificates = ["{certificate}"]\n'
    return [Proxy(ground, secure, pool("cache", backends)), Proxy(ground, pool("cache", dict(reversed(backends.items()))))]


def send(proxies):
    """A few requests for each, as rates are of what comes between scrapes."""
    for proxy in proxies:
        for number in range(KEYS):
            get(proxy.port, "/", {"x-user-id": str(number)})
    return True


def rules(report, server):
    """Every rule as Prometheus has taken it, and what it is made of."""
    groups = server.ask("rules", {})["groups"]
    found = [rule for group in groups for rule in group["rules"]]
    sick = [f"{rule['name']}: {rule['health']} {rule.get('lastError', '')}" for rule in found if rule["health"] != "ok"]
    report.expect(not sick, f"Prometheus evaluates {len(found)} rules {sick or ''}")
    missing = {(rule["name"], name) for rule in found for name in NAME.findall(rule["query"]) if name not in server.names()}
    report.expect(len(found) > 20 and not missing, f"every metric in them is there {sorted(missing) or ''}")
    firing = sorted(rule["name"] for rule in found if rule.get("state") == "firing" and rule["name"] != "RingwayCertificateEnding")
    report.expect(not firing, f"nothing is wrong, and no alert fires {firing or ''}")


def dashboard(report, server):
    """Every expression of the dashboard with its variables filled in."""
    board = json.loads(DASHBOARD.read_text())
    asked, silent, wrong = 0, [], []
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            asked += 1
            expression = filled_in(target["expr"])
            try:
                series = server.ask("query", {"query": expression})["result"]
            except ValueError as error:
                wrong.append(f"{panel['title']}: {error}: {expression}")
                continue
            missing = [name for name in NAME.findall(expression) if name not in server.names()]
            if missing:
                wrong.append(f"{panel['title']}: there is no {', '.join(missing)}")
            elif not series:
                silent.append(panel["title"])
                if not target["expr"].rstrip().endswith("> 0"):
                    wrong.append(f"{panel['title']} shows nothing: {expression}")
    report.expect(asked > 60 and not wrong, f"{asked} expressions of the dashboard resolve {wrong or ''}")
    report.say(f"rightly empty, and made of metrics that are there: {', '.join(dict.fromkeys(silent))}")
    variables = board["templating"]["list"]
    values = {}
    for variable in variables:
        if match := re.fullmatch(r"label_values\((.+), (\w+)\)", variable.get("definition", "")):
            series = server.ask("series", {"match[]": filled_in(match[1])})
            values[variable["name"]] = sorted({row[match[2]] for row in series})
    report.expect(len(values) == 4 and all(values.values()), f"every variable has values: {values}")


def filled_in(expression):
    """As Grafana would ask with everything chosen."""
    expression = expression.replace("$__rate_interval", INTERVAL)
    expression = re.sub(r"\$(job|instance|pool|backend)\b", ".+", expression)
    assert "$" not in expression, expression
    return expression


class Prometheus:
    """A real one, with the rules, which scrapes these proxies every second."""

    def __init__(self, ground, proxies):
        self.port, = free_ports(1)
        self.proxies = len(proxies)
        config = ground.folder / "prometheus.yml"
        targets = ", ".join(f'"127.0.0.1:{proxy.admin_port}"' for proxy in proxies)
        config.write_text(PROMETHEUS.format(rules=RULES, targets=targets))
        ground.processes.start("prometheus", [
            tool("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={ground.folder / 'tsdb'}",
            "--storage.tsdb.retention.time=1h", f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"])
        self.known = None

    def ask(self, what, parameters):
        """One question to the HTTP API: the data of its answer."""
        status, body = get(self.port, f"/api/v1/{what}?" + urllib.parse.urlencode(parameters))
        answer = json.loads(body)
        if status != 200 or answer["status"] != "success":
            raise ValueError(answer.get("error", status))
        return answer["data"]

    def is_loaded(self):
        """Whether each proxy has been scraped twice and each rule been evaluated since."""
        try:
            rows = self.ask("query", {"query": "count_over_time(ringway_ready[1m]) >= 3"})["result"]
            groups = self.ask("rules", {})["groups"]
            recorded = self.ask("query", {"query": "instance_pool:ringway_requests:rate5m > 0"})["result"]
        except (OSError, ValueError):
            return False
        evaluated = all(rule["health"] != "unknown" for group in groups for rule in group["rules"])
        return len(rows) == self.proxies and evaluated and len(recorded) == self.proxies

    def names(self):
        """The names of all metrics that it has."""
        if self.known is None:
            self.known = set(self.ask("label/__name__/values", {}))
        return self.known
