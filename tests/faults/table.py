"""The table at the end, and the same as JSON.

Owns their form. Pure. Start at `line`.
"""

HEADS = ("fault", "sent", "2xx", "otherwise", "lost", "broken, seen", "falsely whole", "longest gap", "POST twice", "keys moved", "")


def line(stage, verdict, reason, seconds):
    """One fault's results as a structure."""
    found = {"fault": stage.name, "verdict": verdict, "reason": reason, "seconds": round(seconds, 1), "met": stage.passes,
             "not_met": stage.failures, "notes": stage.notes}
    if figures := stage.figures:
        gap, owner = figures.gap()
        found |= {"sent": figures.sent, "good": figures.good, "other": figures.other(), "lost": figures.lost,
                  "broken": figures.count("broken"), "false": figures.count("false"), "gap_seconds": round(gap, 3), "gap_owner": owner,
                  "twice": len(figures.twice), "moved": len(stage.moved), "faults_done": dict(figures.faults)}
    return found


def cells(found):
    """The same as text, cell by cell."""
    if "sent" not in found:
        reason = found["reason"] or (found["not_met"][-1].splitlines()[0] if found["not_met"] else "")
        return [found["fault"], reason, found["verdict"]]
    other = ", ".join(f"{count} {kind}" for kind, count in found["other"].items()) or "0"
    return [found["fault"], *map(str, (found["sent"], found["good"], other, found["lost"], found["broken"], found["false"])),
            f"{found['gap_seconds'] * 1000:.0f} ms", str(found["twice"]), str(found["moved"]), found["verdict"]]


def table(lines):
    """All of them, in columns."""
    rows = [cells(found) for found in lines]
    whole = [list(HEADS), *(row for row in rows if len(row) == len(HEADS))]
    widths = [max(len(row[column]) for row in whole) for column in range(len(HEADS))]
    widths[0] = max(len(row[0]) for row in [list(HEADS), *rows])

    def text(row):
        if len(row) != len(HEADS):
            return f"{row[0]:{widths[0]}}  {row[2]}: {row[1]}"
        # Names and kinds to the left, numbers to the right.
        return "  ".join(f"{cell:{'<' if column in (0, 3, 10) else '>'}{widths[column]}}" for column, cell in enumerate(row)).rstrip()

    return "\n".join([text(list(HEADS)), *map(text, rows)])
