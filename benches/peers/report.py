"""Medians, ratios and tables from the rounds. Pure: text and numbers in, text and numbers out.

Start at `summary` and `table`.
"""

from statistics import median, quantiles

OURS = "ringway"
DISTURBED = 0.05

# By kind of case: key, heading, decimals, factor; the first is what proxies are ranked by. Then the keys compared.
COLUMNS = {
    "load": (
        ("cpu_us", "cpu us/req", 1, 1), ("least", "least", 1, 1), ("user_us", "user", 1, 1),
        ("system_us", "system", 1, 1), ("spread", "spread %", 0, 100), ("syscalls", "calls/req", 2, 1),
        ("switches", "switches/req", 2, 1), ("per_second", "req/s", 0, 1), ("p50_us", "p50 ms", 2, 1e-3),
        ("p99_us", "p99 ms", 2, 1e-3), ("p999_us", "p99.9 ms", 2, 1e-3), ("peak_mib", "peak MiB", 1, 1),
        ("busy", "busy %", 0, 100), ("load", "load %", 0, 100), ("waited", "waited %", 0, 100),
        ("others", "others %", 0, 100), ("opened", "opened", 0, 1),
    ),
    "open": (
        ("p99_us", "p99 ms", 2, 1e-3), ("least", "least", 2, 1e-3), ("spread", "spread %", 0, 100),
        ("p50_us", "p50 ms", 2, 1e-3), ("p90_us", "p90 ms", 2, 1e-3), ("p999_us", "p99.9 ms", 2, 1e-3),
        ("max_us", "max ms", 1, 1e-3), ("per_second", "req/s", 0, 1), ("cpu_us", "cpu us/req", 1, 1),
        ("switches", "switches/req", 2, 1), ("late_p50_us", "late p50 ms", 2, 1e-3),
        ("late_p99_us", "late p99 ms", 2, 1e-3), ("busy", "busy %", 0, 100), ("load", "load %", 0, 100),
        ("waited", "waited %", 0, 100), ("others", "others %", 0, 100),
    ),
    "idle": (
        ("kib_per_connection", "KiB/conn", 2, 1), ("least", "least", 2, 1),
        ("anonymous_kib_per_connection", "anonymous", 2, 1), ("spread", "spread %", 0, 100),
        ("before_mib", "before MiB", 1, 1), ("after_mib", "after MiB", 1, 1),
    ),
    "growth": (
        ("growth_mib", "growth MiB", 2, 1), ("before_mib", "before MiB", 1, 1), ("after_mib", "after MiB", 1, 1),
        ("peak_mib", "peak MiB", 1, 1), ("requests", "requests", 0, 1),
    ),
    "syscalls": (("calls", "calls/req", 2, 1),),
}
RATIOS = {
    "load": ("cpu_us", "least", "syscalls", "switches", "per_second", "p50_us", "p99_us", "p999_us", "peak_mib"),
    "open": ("p50_us", "p90_us", "p99_us", "p999_us", "cpu_us"),
    "idle": ("kib_per_connection", "anonymous_kib_per_connection", "before_mib"),
    "growth": ("before_mib", "after_mib"),
    "syscalls": ("calls",),
}


def summary(case, rounds, calls=None):
    """Per proxy: the median of every figure; of the first one also the least and how far its rounds lie apart.

    `calls` are the system calls per request, from a run of their own.
    """
    first = COLUMNS[case.kind][0][0]
    result = {}
    for name, its in rounds.items():
        figures = [key for key, value in its[0].items() if isinstance(value, (int, float))]
        medians = {key: median(one[key] for one in its) for key in figures}
        values = [one[first] for one in its]
        medians["least"] = min(values)
        medians["spread"] = (max(values) - min(values)) / medians[first] if medians[first] > 0 else 0.0
        medians["rounds_with_errors"] = sum(bool(one["errors"]) for one in its)
        if calls and name in calls:
            medians["syscalls"] = calls[name]
        result[name] = medians
    return result


def ratios(case, medians):
    """Each peer against Ringway, both ways; None where a figure is zero or less. Empty without Ringway."""
    ours = medians.get(OURS)
    if not ours:
        return {}
    keys = [key for key in RATIOS[case.kind] if key in ours]
    return {
        name: {
            "theirs_over_ours": {key: quotient(theirs.get(key, 0), ours[key]) for key in keys},
            "ours_over_theirs": {key: quotient(ours[key], theirs.get(key, 0)) for key in keys},
        }
        for name, theirs in medians.items() if name != OURS
    }


def quotient(a, b):
    """A ratio of two positive figures."""
    return a / b if a > 0 and b > 0 else None


def table(case, rounds, medians, notes):
    """The text for one case: medians, then ratios, then what went wrong and what is to be said."""
    count = max(map(len, rounds.values()), default=0)
    lines = ["", f"{case.name}: {case.about}; median of {count} round{'s' if count > 1 else ''}"]
    if rounds:
        shown = [column for column in COLUMNS[case.kind] if any(column[0] in its for its in medians.values())]
        rows = [["", *(heading for _, heading, _, _ in shown), "errors"]]
        for name, its in medians.items():
            cells = [f"{its[key] * factor:.{decimals}f}" if key in its else "-" for key, _, decimals, factor in shown]
            failed = its["rounds_with_errors"]
            rows.append([name, *cells, f"! {failed} of {len(rounds[name])}" if failed else "0"])
        lines += aligned(rows)
        headings = {key: heading for key, heading, _, _ in shown}
        lines += ratio_lines(ratios(case, medians), headings)
    for name, its in rounds.items():
        lines += [f"  ! {name} round {n}: {one['errors']}" for n, one in enumerate(its, 1) if one["errors"]]
    return "\n".join(lines + [f"  note: {note}" for note in notes] + disturbance(rounds))


def disturbance(rounds):
    """A line that says how many rounds something else kept the proxy from its core, if any."""
    every = [one for its in rounds.values() for one in its]
    disturbed = sum(one.get("waited", 0) > DISTURBED for one in every)
    if not disturbed:
        return []
    return [f"  note: in {disturbed} of {len(every)} rounds something else had the proxy's core for over "
            f"{DISTURBED:.0%} of the time: req/s, p50 and p99 mean little"]


def by_rounds(names, rounds):
    """A line with the processor time per request of the first against the second, each round for itself."""
    first, second = (rounds[name] for name in names)
    found = [ours["cpu_us"] / theirs["cpu_us"] for ours, theirs in zip(first, second) if theirs["cpu_us"]]
    if len(found) < 2:
        return []
    low, _, high = quantiles(found, n=4, method="inclusive")
    return [f"cpu us/req, {names[0]} over {names[1]}, round by round: median {median(found):.3f}, the middle half "
            f"{low:.3f} to {high:.3f}, all {min(found):.3f} to {max(found):.3f}"]


def ratio_lines(found, headings):
    """The second table: one row a peer and direction."""
    if not found:
        return []
    keys = [key for key in next(iter(found.values()))["theirs_over_ours"] if key in headings]
    rows = [["ratio to ringway", *(headings[key] for key in keys)]]
    for name, both in found.items():
        for direction in ("theirs_over_ours", "ours_over_theirs"):
            cells = ["-" if both[direction][key] is None else f"{both[direction][key]:.2f}" for key in keys]
            rows.append([f"{name} {direction.replace('_over_', '/')}", *cells])
    return ["", *aligned(rows)]


def aligned(rows):
    """Rows as text: first column to the left, the others to the right."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return ["  " + "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in
            zip(row[1:], widths[1:]))]) for row in rows]
