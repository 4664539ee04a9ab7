#!/usr/bin/env python3
"""Prints the tables of the project's README from the results of one run, so that nobody copies figures by hand.

    benches/peers/figures.py [RESULTS]        default: target/peers/results.json

Never measures. Start at `main`.
"""

import json
import sys
from pathlib import Path

PEERS = ("ringway", "nginx", "haproxy", "envoy", "pingora")
DEFAULT = Path(__file__).resolve().parent.parent.parent / "target" / "peers" / "results.json"
# Case, words, key, factor, decimals.
CPU = (
    ("small-1", "100-byte answers, 1 connection"),
    ("small-64", "100-byte answers, 64 connections"),
    ("small-512", "100-byte answers, 512 connections"),
    ("small-4096", "100-byte answers, 4096 connections"),
    ("new-connection", "a new connection for each request"),
    ("headers-30", "30 more headers in each direction"),
    ("backend-closes", "backends close after each answer"),
    ("one-key", "all requests for one key"),
    ("half-down", "4 of 8 backends down"),
    ("backends-100", "100 backends"),
    ("backends-1000", "1000 backends"),
    ("access-log", "with an access log"),
    ("tls-64", "TLS 1.3, 64 connections"),
    ("tls-new", "TLS 1.3, a new connection for each request"),
    ("body-64k", "64 KiB answers"),
    ("body-1m", "1 MiB answers"),
    ("upload-64k", "64 KiB uploads"),
    ("upload-1m", "1 MiB uploads"),
)
MEMORY = (
    ("small-64", "resident memory at 64 connections, peak, MiB", "peak_mib", 1),
    ("small-512", "at 512 connections, peak, MiB", "peak_mib", 1),
    ("idle", "an idle keep-alive connection (9000 of them), KiB", "kib_per_connection", 2),
    ("idle-silent", "one that never sent a byte, KiB", "kib_per_connection", 2),
)


def main():
    """Prints all tables for which there are cases."""
    results = json.loads(Path(sys.argv[1] if len(sys.argv) > 1 else DEFAULT).read_text())
    cases = results["cases"]
    head("CPU time of the proxy per request, us (beside it: relative to Ringway)")
    for name, words in CPU:
        if name in cases:
            print(row(words, cases[name]["median"], "cpu_us"))
    if "body-1g" in cases:
        print(row("1 GiB answers, ms for each", cases["body-1g"]["median"], "cpu_us", factor=1e-3))
    print()
    head("p50 / p99 / p99.9 at a fixed rate, ms")
    for share in (30, 60, 90):
        if f"open-{share}" in cases:
            print(latency(f"{share} % of the slowest one's capacity", cases[f"open-{share}"]["median"]))
    print()
    head("memory")
    for name, words, key, decimals in MEMORY:
        if name in cases:
            print(row(words, cases[name]["median"], key, decimals=decimals))


def head(title):
    """A table's first two lines."""
    print("| " + " | ".join((title, "Ringway", "nginx", "HAProxy", "Envoy", "Pingora")) + " |")
    print("|---" * (len(PEERS) + 1) + "|")


def row(words, medians, key, factor=1.0, decimals=1):
    """One figure for each proxy; `-` where it can't do the case."""
    ours = medians["ringway"][key]
    cells = []
    for peer in PEERS:
        value = medians.get(peer, {}).get(key)
        if value is None:
            cells.append("-")
        elif peer == "ringway":
            cells.append(f"**{value * factor:.{decimals}f}**")
        else:
            cells.append(f"{value * factor:.{decimals}f} ({value / ours:.2f})")
    return "| " + " | ".join((words, *cells)) + " |"


def latency(words, medians):
    """Three percentiles for each proxy."""
    cells = []
    for peer in PEERS:
        its = medians.get(peer)
        cells.append(" / ".join(f"{its[key] / 1e3:.2f}" for key in ("p50_us", "p99_us", "p999_us")) if its else "-")
    return "| " + " | ".join((words, *cells)) + " |"


if __name__ == "__main__":
    main()
