#!/usr/bin/env python3
"""Writes Ringway's Grafana dashboard, from the list of panels below.

    config/grafana/dashboard.py          # writes ringway.json beside this file
    config/grafana/dashboard.py --check  # exit code 1 if that would change it

Owns what is shown. Needs Python 3 alone. Start at `ROWS`; a panel is a title, what it says, a unit and its queries.
"""

import json
import sys
from pathlib import Path

WIDTH = 24
PROCESS = 'job=~"$job",instance=~"$instance"'
POOL = PROCESS + ',pool=~"$pool"'
BACKEND = POOL + ',backend=~"$backend"'
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def rate(metric, labels, by):
    """The rate of a counter, by some labels."""
    return f"sum by ({by}) (rate({metric}{{{labels}}}[$__rate_interval]))"


def quantile(q, metric, by=""):
    """A quantile of a histogram of a pool."""
    return f"histogram_quantile({q}, {rate(metric + '_bucket', POOL, 'le' + by)})"


def panel(title, says, unit, *queries, kind="timeseries", width=8, height=8, **more):
    """One panel. A query is an expression and the legend of its series."""
    return {"title": title, "says": says, "unit": unit, "queries": queries, "kind": kind, "width": width, "height": height, **more}


def stat(title, says, unit, query, *worse, **more):
    """A panel of one figure, with the values from which on it is yellow and red."""
    steps = [(None, "green"), *zip(worse, ("yellow", "red"))]
    return panel(title, says, unit, (query, ""), kind="stat", width=4, height=4, steps=steps, **more)


def percentiles(metric):
    """The usual three, over the chosen pools."""
    return [(quantile(q, metric), f"p{round(100 * q)}") for q in (0.5, 0.9, 0.99)]


DAY = 86400
# Of something that should be 1, and of a time that should be long.
WHOLE = [(None, "red"), (0.001, "yellow"), (1, "green")]
LONG = [(None, "red"), (3 * DAY, "yellow"), (14 * DAY, "green")]
REQUESTS, AFFINITY = "ringway_requests_total", "ringway_affinity_requests_total"
UNPLANNED = 'reason!~"owner|owner_drained|ramp|no_key"'

ROWS = [
    ("At a glance", [
        stat("Requests", "Requests a second that ended.", "reqps", f"sum(rate({REQUESTS}{{{POOL}}}[$__rate_interval]))"),
        stat("Errors", "The part of them that ended with 5xx or broke off.", "percentunit",
             f'sum(rate({REQUESTS}{{{POOL},class=~"5xx|truncated"}}[$__rate_interval]))'
             f" / sum(rate({REQUESTS}{{{POOL}}}[$__rate_interval]))", 0.01, 0.05),
        stat("p99", "Ninety-nine of a hundred requests took no longer, to the last byte.", "s",
             quantile(0.99, "ringway_request_duration_seconds")),
        stat("Away from the owner", "The part of requests that nobody planned to be elsewhere: not by an order, not in a ramp.", "percentunit",
             f"sum(rate({AFFINITY}{{{POOL},{UNPLANNED}}}[$__rate_interval])) / sum(rate({AFFINITY}{{{POOL}}}[$__rate_interval]))",
             0.05, 0.2),
        stat("Backends away", "Backends that take no requests, and are not drained; the most that one proxy sees.", "short",
             f"max(sum by (instance) (1 - ringway_backend_serving{{{POOL}}} - ringway_backend_drained{{{POOL}}}))", 1, 3),
        stat("Rings", "Different rings of one pool among proxies. More than 1: they disagree. Choose one job.", "short",
             f'max(count by (pool) (count_values by (pool) ("fingerprint", ringway_ring_fingerprint{{{POOL}}})))', 2, 2),
    ]),
    ("Traffic", [
        panel("Requests by class", "How requests ended for their clients.", "reqps",
              (rate(REQUESTS, POOL, "class"), "{{class}}"), stack=True),
        panel("Requests by pool", "", "reqps", (rate(REQUESTS, POOL, "pool"), "{{pool}}")),
        panel("Refusals", "Answers of Ringway's own, by the reason; those before a pool was found, too.", "reqps",
              (rate("ringway_refusals_total", PROCESS, "reason") + " > 0", "{{reason}}")),
        panel("Body bytes", "Up: to clients. Down: from clients.", "Bps",
              (f"sum(rate(ringway_sent_body_bytes_total{{{POOL}}}[$__rate_interval]))", "to clients"),
              (f"-sum(rate(ringway_received_body_bytes_total{{{POOL}}}[$__rate_interval]))", "from clients")),
        panel("Client connections", "Open now, and those that came.", "short",
              (f"sum by (listener) (ringway_client_connections_open{{{PROCESS}}})", "open: {{listener}}"),
              (rate("ringway_client_connections_accepted_total", PROCESS, "listener"), "new a second: {{listener}}")),
        panel("Protocols and upgrades", "Connections of HTTP/2, and such as have changed to another protocol.", "short",
              (f"sum(rate(ringway_http2_connections_total{{{PROCESS}}}[$__rate_interval]))", "HTTP/2 connections a second"),
              (f"sum(rate(ringway_upgrades_total{{{POOL}}}[$__rate_interval]))", "upgrades a second"),
              (f"sum(ringway_upgraded_connections{{{POOL}}})", "upgraded, open")),
    ]),
    ("Latency", [
        panel("Whole requests", "From the request's head to the last byte of the answer.", "s",
              *percentiles("ringway_request_duration_seconds")),
        panel("To the answer's head", "What backends take, and what waiting for them does.", "s",
              *percentiles("ringway_request_first_byte_seconds")),
        panel("p99 by pool", "Whole requests.", "s", (quantile(0.99, "ringway_request_duration_seconds", ", pool"), "{{pool}}")),
        panel("Spread", "How many requests took how long.", "s",
              (rate("ringway_request_duration_seconds_bucket", POOL, "le"), "{{le}}"), kind="heatmap", width=12),
        panel("Connecting to backends", "Time to open a connection, and how many are opened and used again.", "s",
              (quantile(0.99, "ringway_upstream_connect_duration_seconds"), "p99"),
              (quantile(0.5, "ringway_upstream_connect_duration_seconds"), "p50"), width=12),
    ]),
    ("Errors", [
        panel("Part of requests that failed", "5xx and answers that broke off, by pool.", "percentunit",
              (f'sum by (pool) (rate({REQUESTS}{{{POOL},class=~"5xx|truncated"}}[$__rate_interval]))'
               f" / sum by (pool) (rate({REQUESTS}{{{POOL}}}[$__rate_interval]))", "{{pool}}")),
        panel("Attempts that came to nothing", "By how they ended; one request can have several.", "reqps",
              (rate("ringway_attempts_total", BACKEND + ',result!="answered"', "result") + " > 0", "{{result}}")),
        panel("Failures by backend", "Attempts that counted against it.", "reqps",
              (rate("ringway_backend_failures_total", BACKEND, "backend"), "{{backend}}")),
        panel("Repeats", "Sent again, by why; and what the budget did not allow.", "reqps",
              (rate("ringway_repeats_total", POOL, "reason") + " > 0", "{{reason}}"),
              (f"sum(rate(ringway_repeats_denied_total{{{POOL}}}[$__rate_interval]))", "denied")),
        panel("Clients turned away", "Connections, by the reason.", "short",
              (rate("ringway_client_connections_rejected_total", PROCESS, "reason"), "{{reason}}")),
        panel("Faults of clients", "Handshakes that failed, and connections of HTTP/2 that were ended.", "short",
              (rate("ringway_tls_handshakes_total", PROCESS + ',result!="done"', "result"), "TLS: {{result}}"),
              (rate("ringway_http2_connections_ended_total", PROCESS, "reason") + " > 0", "HTTP/2: {{reason}}"),
              (f"sum(rate(ringway_http2_streams_reset_total{{{PROCESS}}}[$__rate_interval]))", "HTTP/2 streams reset")),
    ]),
    ("Backends", [
        panel("Who serves", "1: every chosen proxy has it serve. Between: they do not see the same. 0: it is away.", "short",
              (f"avg by (pool, backend) (ringway_backend_serving{{{BACKEND}}})", "{{pool}}/{{backend}}"), kind="state-timeline", steps=WHOLE, width=12),
        panel("Why not", "Drained, or ejected by what requests say.", "short",
              (f"max by (pool, backend) (ringway_backend_drained{{{BACKEND}}}) > 0", "{{pool}}/{{backend}} drained"),
              (f"max by (pool, backend) (ringway_backend_ejected{{{BACKEND}}}) > 0", "{{pool}}/{{backend}} ejected"), width=12),
        panel("Requests by backend", "", "reqps", (rate(REQUESTS, BACKEND, "backend"), "{{backend}}")),
        panel("In flight", "Requests under way.", "short",
              (f"sum by (backend) (ringway_requests_in_flight{{{BACKEND}}})", "{{backend}}")),
        panel("Waiting", "Requests that wait until a backend has a place.", "short",
              (f"sum by (backend) (ringway_requests_waiting{{{BACKEND}}})", "{{backend}}")),
        panel("Connections used again", "The part of attempts that needed no new connection.", "percentunit",
              (f"{rate('ringway_upstream_connections_reused_total', BACKEND, 'backend')}"
               f" / {rate('ringway_attempts_total', BACKEND, 'backend')}", "{{backend}}")),
        panel("Connections to backends", "Opened, and closed by the reason.", "short",
              (f"sum(rate(ringway_upstream_connections_opened_total{{{BACKEND}}}[$__rate_interval]))", "opened"),
              (rate("ringway_upstream_connections_closed_total", BACKEND, "reason") + " > 0", "closed: {{reason}}")),
        panel("Health checks", "Failed ones, changes of standing, and how long they take.", "short",
              (rate("ringway_probes_total", BACKEND + ',result="failed"', "backend") + " > 0", "failed: {{backend}}"),
              (f"sum by (backend) (increase(ringway_backend_transitions_total{{{BACKEND}}}[$__rate_interval])) > 0", "changes: {{backend}}"),
              (f"histogram_quantile(0.99, {rate('ringway_probe_duration_seconds_bucket', BACKEND, 'le')})", "p99, seconds")),
    ]),
    ("Ring", [
        panel("Why requests went where they went", "owner is home; all else says why not.", "reqps",
              (rate(AFFINITY, POOL, "reason") + " > 0", "{{reason}}"), stack=True, width=12),
        panel("Away from the owner", "The same without owner, as a part of all.", "percentunit",
              (f'sum by (reason) (rate({AFFINITY}{{{POOL},reason!="owner"}}[$__rate_interval]))'
               f" / on () group_left () sum(rate({AFFINITY}{{{POOL}}}[$__rate_interval])) > 0", "{{reason}}"), stack=True, width=12),
        panel("Keyspace away", "The part of the keys that are not at the owner which the configuration gives them.", "percentunit",
              (f"max by (pool) (ringway_keyspace_away_ratio{{{POOL}}})", "{{pool}}")),
        panel("Keyspace moved", "By each change, and what made it.", "percentunit",
              (f"max by (pool, cause) (increase(ringway_keyspace_moved_ratio_total{{{POOL}}}[$__rate_interval])) > 0", "{{pool}}: {{cause}}")),
        panel("Ramps", "How much of what is to move has moved.", "percentunit",
              (f"min by (pool) (ringway_ramp_progress{{{POOL}}})", "{{pool}}")),
        panel("Shares", "What each backend owns of the keys.", "percentunit",
              (f"avg by (pool, backend) (ringway_ring_share_ratio{{{BACKEND}}})", "{{pool}}/{{backend}}"), kind="bargauge"),
        panel("Imbalance", "The largest share, relative to what its weight asks for; and what is to be expected.", "short",
              (f"max by (pool) (ringway_ring_imbalance_ratio{{{POOL}}})", "{{pool}}"),
              (f"max by (pool) (ringway_ring_expected_imbalance_ratio{{{POOL}}})", "{{pool}}, expected")),
        panel("Agreement", "Different rings, and different views of who serves, among proxies. 1: they agree.", "short",
              (f'count by (job, pool) (count_values by (job, pool) ("fingerprint", ringway_ring_fingerprint{{{POOL}}}))',
               "{{pool}}: rings"),
              (f'count by (job, pool) (count_values by (job, pool) ("fingerprint", ringway_ring_serving_fingerprint{{{POOL}}}))',
               "{{pool}}: who serves")),
    ]),
    ("Runtime", [
        panel("Processor", "Cores in use.", "short", (f"rate(process_cpu_seconds_total{{{PROCESS}}}[$__rate_interval])", "{{instance}}")),
        panel("Memory", "Resident.", "bytes", (f"process_resident_memory_bytes{{{PROCESS}}}", "{{instance}}")),
        panel("Descriptors", "The part in use of those that are allowed.", "percentunit",
              (f"process_open_fds{{{PROCESS}}} / process_max_fds{{{PROCESS}}}", "{{instance}}")),
        panel("Ready", "1: ready for traffic.", "short", (f"ringway_ready{{{PROCESS}}}", "{{instance}}"), kind="state-timeline", steps=WHOLE),
        panel("Configuration", "Refused configurations and certificates, takeovers, access lines lost.", "short",
              (f"1 - ringway_config_last_load_successful{{{PROCESS}}}", "{{instance}}: configuration refused"),
              (f"sum by (instance, result) (increase(ringway_config_loads_total{{{PROCESS}}}[$__rate_interval])) > 0",
               "{{instance}}: configuration read, {{result}}"),
              (f'sum by (instance) (increase(ringway_tls_reloads_total{{{PROCESS},result="refused"}}[$__rate_interval])) > 0',
               "{{instance}}: certificates refused"),
              (f"sum by (instance, result) (increase(ringway_takeovers_total{{{PROCESS}}}[$__rate_interval])) > 0",
               "{{instance}}: takeover, {{result}}"),
              (f"sum by (instance) (rate(ringway_access_log_dropped_lines_total{{{PROCESS}}}[$__rate_interval])) > 0",
               "{{instance}}: lines lost a second")),
        panel("Certificates", "Time until each ends.", "s",
              (f"min by (certificate) (ringway_tls_certificate_expiry_timestamp_seconds{{{PROCESS}}}) - time()", "{{certificate}}"),
              kind="bargauge", steps=LONG),
        panel("Processes", "Version, time since the start, configuration and view.", "short",
              (f"ringway_build_info{{{PROCESS}}}", "{{instance}}: {{version}}"),
              (f"time() - process_start_time_seconds{{{PROCESS}}}", "{{instance}}: seconds since the start"),
              (f"time() - ringway_config_last_load_success_timestamp_seconds{{{PROCESS}}}", "{{instance}}: seconds since the configuration was read"),
              (f"ringway_view_revision{{{PROCESS}}}", "{{instance}}: revision of the view"),
              (f"sum by (instance) (ringway_ring_virtual_nodes{{{POOL}}})", "{{instance}}: virtual nodes"),
              kind="bargauge", width=24, height=6),
    ]),
]

# Name, label, what has the label.
VARIABLES = [
    ("job", "Job", "label_values(ringway_build_info, job)"),
    ("instance", "Proxy", 'label_values(ringway_build_info{job=~"$job"}, instance)'),
    ("pool", "Pool", "label_values(ringway_ring_virtual_nodes{" + PROCESS + "}, pool)"),
    ("backend", "Backend", "label_values(ringway_backend_serving{" + POOL + "}, backend)"),
]


def drawn(number, spec, at):
    """A panel as Grafana has it."""
    is_graph = spec["kind"] == "timeseries"
    steps = [{"color": colour, "value": value} for value, colour in spec.get("steps", [(None, "green")])]
    custom = {}
    if is_graph:
        custom = {"fillOpacity": 30 if spec.get("stack") else 8, "showPoints": "never",
                  "stacking": {"mode": "normal" if spec.get("stack") else "none", "group": "A"}}
    options = {
        "timeseries": {"legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
                       "tooltip": {"mode": "multi", "sort": "desc"}},
        "stat": {"graphMode": "area", "colorMode": "value", "reduceOptions": {"calcs": ["lastNotNull"]}},
        "bargauge": {"orientation": "horizontal", "displayMode": "basic", "reduceOptions": {"calcs": ["lastNotNull"]}},
        "state-timeline": {"mergeValues": True, "showValue": "never"},
        "heatmap": {"calculate": False, "yAxis": {"unit": "s"}},
    }[spec["kind"]]
    targets = [{"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": expression, "legendFormat": legend,
                **({"format": "heatmap"} if spec["kind"] == "heatmap" else {})}
               for index, (expression, legend) in enumerate(spec["queries"])]
    return {
        "id": number, "type": spec["kind"], "title": spec["title"], "description": spec["says"], "datasource": SOURCE,
        "gridPos": at, "targets": targets, "options": options,
        "fieldConfig": {"defaults": {"unit": spec["unit"], "custom": custom, "color": {"mode": "thresholds" if "steps" in spec else "palette-classic"},
                                     "thresholds": {"mode": "absolute", "steps": steps}}, "overrides": []},
    }


def panels():
    """All rows and their panels, laid out from left to right."""
    found, top = [], 0
    for title, specs in ROWS:
        found.append({"id": len(found) + 1, "type": "row", "title": title, "collapsed": False, "panels": [],
                      "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1}})
        top, left, tallest = top + 1, 0, 0
        for spec in specs:
            if left + spec["width"] > WIDTH:
                top, left, tallest = top + tallest, 0, 0
            at = {"x": left, "y": top, "w": spec["width"], "h": spec["height"]}
            found.append(drawn(len(found) + 1, spec, at))
            left, tallest = left + spec["width"], max(tallest, spec["height"])
        top += tallest
    return found


def variables():
    """The data source, and what narrows all panels down."""
    source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}}
    return [source] + [
        {"name": name, "label": label, "type": "query", "datasource": SOURCE, "query": {"query": query, "refId": name},
         "definition": query, "refresh": 2, "sort": 1, "multi": True, "includeAll": True,
         "current": {"text": ["All"], "value": ["$__all"]}}
        for name, label, query in VARIABLES]


def dashboard():
    """The whole."""
    return {
        "uid": "ringway", "title": "Ringway", "tags": ["ringway", "proxy"], "schemaVersion": 39, "version": 1, "editable": True,
        "graphTooltip": 1, "refresh": "30s", "time": {"from": "now-3h", "to": "now"}, "timezone": "browser",
        "description": "A consistent-hash reverse proxy: traffic, and where the keys are.",
        "templating": {"list": variables()}, "panels": panels(), "annotations": {"list": []}, "links": [],
    }


def main():
    """Returns the exit code."""
    file = Path(__file__).with_name("ringway.json")
    text = json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"
    if "--check" in sys.argv[1:]:
        if file.read_text() != text:
            print(f"{file} is not what dashboard.py writes: run it", file=sys.stderr)
            return 1
        return 0
    file.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
