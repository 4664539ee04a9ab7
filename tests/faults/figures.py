"""From what clients and backends wrote down to the figures of one line of the table.

Pure but for the reading of files. Start at `Figures`.
"""

from collections import Counter
from typing import NamedTuple

from backends import deliveries


class Record(NamedTuple):
    """One exchange as its client saw it."""

    begun: float
    ended: float
    kind: str
    method: str
    key: str
    backend: str
    process: str
    ident: str


def read_records(paths):
    """All records in these files, in the order of their ends."""
    records = []
    for path in paths:
        for line in path.read_text("ascii").splitlines():
            begun, ended, *rest = line.split()
            records.append(Record(float(begun), float(ended), *rest))
    return sorted(records, key=lambda record: record.ended)


class Figures:
    """What came of a load; or of several, one after the other, which are its `parts` then."""

    def __init__(self, records, owners, backends, parts=()):
        self.records, self.owners, self.parts = [record for record in records if record.kind != "left"], owners, parts
        self.left = len(records) - len(self.records)
        self.kinds = Counter((record.method, record.kind) for record in self.records)
        counts, self.faults = deliveries(backends)
        heard = {ident for by_id in counts.values() for ident in by_id}
        self.unheard = [record.ident for record in self.records if record.kind == "2xx" and record.ident not in heard]
        self.twice = [ident for method, by_id in counts.items() if method != "GET" for ident, count in by_id.items() if count > 1]

    @classmethod
    def together(cls, parts, backends):
        """Several as one."""
        return cls([record for part in parts for record in part.records], parts[0].owners, backends, parts)

    def drop_refused_after(self, when):
        """Forgets connections that were refused after the proxy had been told to end."""
        kept = [record for record in self.records if not (record.kind == "refused" and record.ended >= when)]
        self.records, self.kinds = kept, Counter((record.method, record.kind) for record in kept)

    def count(self, *kinds, method=None):
        """Exchanges that ended in one of these ways."""
        return sum(count for (by, kind), count in self.kinds.items() if kind in kinds and method in (None, by))

    @property
    def sent(self):
        return len(self.records)

    @property
    def good(self):
        return self.count("2xx")

    @property
    def lost(self):
        return self.count("lost", "silent")

    def other(self, method=None):
        """Answers that were whole and not 2xx, and connections that were refused, by kind."""
        found = Counter()
        for (by, kind), count in self.kinds.items():
            if kind not in ("2xx", "lost", "silent", "broken", "false") and method in (None, by):
                found[f"{by} {kind}"] += count
        return dict(sorted(found.items()))

    def imperfect(self, method):
        """What ended otherwise than with 2xx, by kind."""
        return {kind: count for (by, kind), count in sorted(self.kinds.items()) if by == method and kind != "2xx"}

    def gap(self):
        """The longest time without a success for the keys of any one owner, in seconds, and that owner."""
        if self.parts:
            return max(part.gap() for part in self.parts)
        longest, last = (0.0, "-"), {}
        begin = self.records[0].begun if self.records else 0.0
        for record in self.records:
            if record.kind == "2xx":
                owner = self.owners[record.key]
                longest = max(longest, (record.ended - last.get(owner, begin), owner))
                last[owner] = record.ended
        end = self.records[-1].ended if self.records else 0.0
        for owner in set(self.owners.values()):
            longest = max(longest, (end - last.get(owner, begin), owner))
        return longest

    def first_success_after(self, when):
        """Seconds from then until the first request that ended well."""
        return next((record.ended - when for record in self.records if record.kind == "2xx" and record.ended > when), None)

    def moved(self, steady, also=()):
        """Requests for keys of these backends, which were well all the time, that another one answered; those in `also` may."""
        allowed = {backend.name for backend in also}
        names = {backend.name for backend in steady}
        return [record for record in self.records if record.kind == "2xx" and self.owners[record.key] in names
                and record.backend != self.owners[record.key] and record.backend not in allowed]
