"""Draws a bench's results as SVG: processor time by case, latency by rate, memory of an idle connection.

Never measures and never prints but the files it wrote. Run by `run`, in a Python that has matplotlib:
    python plots.py RESULTS.json FOLDER
"""

import json
import re
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

OURS = "ringway"
# Colours that stay apart for colour-blind readers too.
COLOURS = {"ringway": "#0072b2", "nginx": "#009e73", "haproxy": "#e69f00", "envoy": "#cc79a7", "pingora": "#56b4e9",
           "nginx-buffers": "#66c2a5", "haproxy-splice": "#fdbf6f"}
OTHER = "#999999"
# A ratio beyond this is cut off, and its value written instead.
MOST = 5.0


def main():
    """Draws what the results have figures for."""
    results = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    # A fixed salt and no date: the same figures give the same file. Text stays text.
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "peers", "font.family": "sans-serif",
                         "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
                         "figure.facecolor": "white", "axes.facecolor": "white", "axes.axisbelow": True})
    for name, draw in (("cpu", cpu), ("latency", latency), ("memory", memory)):
        figure = draw(results)
        if figure:
            path = folder / f"{name}.svg"
            figure.savefig(path, metadata={"Date": None, "Creator": None})
            plt.close(figure)
            path.write_text(smaller(path.read_text()))
            print(path)


def smaller(text):
    """The same picture without comments and indentation."""
    return re.sub(r"\n\s+", "\n", re.sub(r"\s*<!--.*?-->", "", text, flags=re.DOTALL))


def kinds(results, kind):
    """The cases of a kind that have medians, by name."""
    return {name: case for name, case in results["cases"].items() if case["kind"] == kind and case["median"]}


def peers(cases):
    """All proxies of these cases, in the order in which they were measured."""
    return list(dict.fromkeys(name for case in cases.values() for name in case["median"]))


def machine(results):
    """The line under a plot that says what it was measured on."""
    its = results["machine"]
    return (f"{its['cores']} cores of {its['cpu']}, Linux {its['kernel'].split('-')[0]}, {its['date']}; "
            f"rounds: {results['rounds']}")


def time(microseconds):
    """A time with a unit that suits it."""
    for unit, size in (("s", 1e6), ("ms", 1e3), ("µs", 1)):
        if microseconds >= size:
            return f"{microseconds / size:.3g} {unit}"
    return f"{microseconds:.2f} µs"


def cpu(results):
    """Processor time per request in each case, as a ratio to Ringway's."""
    cases = {name: case for name, case in kinds(results, "load").items()
             if OURS in case["median"] and name != "scrape"}
    others = [name for name in peers(cases) if name != OURS]
    if not cases or not others:
        return None
    figure, axes = plt.subplots(figsize=(8, 0.28 * (len(others) + 1) * len(cases) * 0.62 + 1.4), layout="constrained")
    height = 0.8 / len(others)
    for at, name in enumerate(others):
        for row, case in enumerate(cases.values()):
            if name not in case["median"]:
                continue
            ratio = case["median"][name]["cpu_us"] / case["median"][OURS]["cpu_us"]
            y = row - 0.4 + height * (at + 0.5)
            axes.barh(y, min(ratio, MOST), height * 0.9, color=COLOURS.get(name, OTHER),
                      label=name if name not in axes.get_legend_handles_labels()[1] else None)
            axes.text(min(ratio, MOST) + 0.03, y, f"{ratio:.2f}", va="center", fontsize=6)
    axes.axvline(1, color=COLOURS[OURS], linewidth=1.2)
    axes.set_yticks(range(len(cases)), [f"{name}  ({time(case['median'][OURS]['cpu_us'])})"
                                        for name, case in cases.items()])
    axes.set_ylim(len(cases) - 0.5, -0.5)
    axes.set_xlim(0, MOST + 0.35)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_xlabel(f"processor time per request, Ringway = 1 (its own in brackets)\n{machine(results)}")
    axes.set_title("Processor time per request against Ringway: right of the line is dearer", fontsize=10)
    figure.legend(loc="outside upper right", ncols=len(others), frameon=False)
    return figure


def latency(results):
    """Percentiles of latency at each rate."""
    cases = kinds(results, "open")
    if not cases:
        return None
    figure, all_axes = plt.subplots(1, len(cases), figsize=(8, 3.6), sharey=True, layout="constrained", squeeze=False)
    marks = (("p50", "p50_us"), ("p90", "p90_us"), ("p99", "p99_us"), ("p99.9", "p999_us"))
    names = peers(cases)
    for axes, (name, case) in zip(all_axes[0], cases.items()):
        for peer, its in case["median"].items():
            axes.plot(range(len(marks)), [its[key] / 1e3 for _, key in marks], marker="o", markersize=3.5,
                      linewidth=1.4, color=COLOURS.get(peer, OTHER), label=peer)
        rate = max(its["per_second"] for its in case["median"].values())
        axes.set_xticks(range(len(marks)), [mark for mark, _ in marks])
        axes.set_title(f"{name.split('-')[1]} % of capacity: {rate:.0f} requests/s", fontsize=9)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(axis="y", color="#dddddd", linewidth=0.6, which="both")
    all_axes[0][0].set_ylabel("latency in ms, from when a request was due")
    figure.supxlabel(machine(results), fontsize=8)
    handles = dict(zip(*reversed(all_axes[0][0].get_legend_handles_labels())))
    figure.legend([handles[name] for name in names if name in handles], [name for name in names if name in handles],
                  loc="outside upper center", ncols=len(names), frameon=False)
    return figure


def memory(results):
    """Resident memory of an idle connection."""
    cases = kinds(results, "idle")
    if not cases:
        return None
    names = peers(cases)
    figure, axes = plt.subplots(figsize=(8, 0.5 * len(names) + 1.4), layout="constrained")
    height = 0.8 / len(cases)
    for at, (case, shade) in enumerate(zip(cases.values(), (1.0, 0.5))):
        for row, name in enumerate(names):
            if name not in case["median"]:
                continue
            value = max(case["median"][name]["kib_per_connection"], 0.0)
            y = row - 0.4 + height * (at + 0.5)
            axes.barh(y, max(value, 0.1), height * 0.9, left=0.0, color=COLOURS.get(name, OTHER), alpha=shade)
            axes.text(max(value, 0.1) * 1.05, y, f"{value:.2f} KiB, {case['about'].partition('connection ')[2]}",
                      va="center", fontsize=7)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlim(0.1, axes.get_xlim()[1] * 8)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_xlabel(f"resident memory per idle connection, KiB\n{machine(results)}")
    axes.set_title("Memory of an idle connection", fontsize=10)
    return figure


if __name__ == "__main__":
    main()
