"""What a fault is given: places for backends, proxy and load, and a line of the table to fill.

Owns the list of faults and what holds for each of them. Start at `fault` and `Stage`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from backends import Backend
from clients import Load
from network import Loopback
from subject import Subject

KEYS = [f"user-{number}" for number in range(400)]
FAULTS = {}


@dataclass(frozen=True)
class Fault:
    """One of the list."""

    name: str
    title: str
    is_short: bool
    act: Callable


def fault(name, title, is_short=False):
    """Puts a function into the list. Its first argument is the stage."""
    def put(act):
        FAULTS[name] = Fault(name, title, is_short, act)
        return act
    return put


@dataclass
class Stage:
    """For one fault."""

    name: str
    ringway: Path
    source: Path
    folder: Path
    processes: object
    seed: int
    is_short: bool
    network: object = field(default_factory=Loopback)
    all_backends: list = field(default_factory=list)
    loads: int = 0
    subject: object = None
    figures: object = None
    moved: list = field(default_factory=list)
    passes: list = field(default_factory=list)
    failures: list = field(default_factory=list)
    notes: list = field(default_factory=list)

    def backends(self, count):
        """So many backends, started."""
        made = [Backend(self, number) for number in range(len(self.all_backends), len(self.all_backends) + count)]
        for backend in made:
            backend.await_start()
        self.all_backends += made
        return made

    def proxy(self, backends, **how):
        """The proxy before them, with each of them serving."""
        self.subject = Subject(self, backends, **how)
        self.subject.await_serving(*backends)
        return self.subject

    def load(self, **how):
        """The usual clients, and some answers already given."""
        return Load(self, self.subject, self.subject.owners(KEYS), **how)

    def note(self, text):
        """A figure that is worth knowing."""
        self.notes.append(text)
        print(f"  {text}", flush=True)

    def expect(self, truth, text):
        """States an expectation with its figures."""
        print(f"  {'ok    ' if truth else 'FAILED'}  {text}", flush=True)
        (self.passes if truth else self.failures).append(text)

    # ---- what is expected of figures ----

    def always(self, figures, steady, also=()):
        """What holds whatever happens: every request has an answer, none is passed off as whole, no POST is delivered twice, and keys
        of backends that were well stay."""
        self.figures, self.moved = figures, self.moved_without_need(figures.moved(steady, also))
        self.expect(figures.good > 0, f"{figures.good} of {figures.sent} requests were answered 2xx")
        self.expect(not figures.lost, f"{figures.lost} requests without an answer")
        self.expect(not figures.count("false"), f"{figures.count('false')} answers falsely complete or another's")
        self.expect(not figures.unheard, f"{len(figures.unheard)} requests answered 2xx that no backend had received")
        self.expect(not figures.twice, f"{len(figures.twice)} POSTs delivered twice {' '.join(figures.twice[:5])}".rstrip())
        self.expect(not self.moved, f"{len(self.moved)} keys moved that need not have {' '.join(self.moved[:5])}".rstrip())

    def moved_without_need(self, records):
        """The keys of these, unless the proxy says that it spilt as many requests: a backend with more than its share in flight is in
        need."""
        keys = sorted({record.key for record in records})
        if not records:
            return keys
        reasons = self.subject.off_owner()
        self.note(f"{len(records)} requests with {len(keys)} keys left an owner that was well; why any left, says the proxy: {reasons}")
        return [] if len(records) <= reasons.get("spill", 0) else keys

    def seamless(self, figures, steady, also=(), methods=("GET",), allowed=()):
        """The same, and nothing but 2xx, and what is allowed, for these methods."""
        self.always(figures, steady, also)
        for method in methods:
            bad = figures.imperfect(method)
            good = figures.count("2xx", method=method)
            self.expect(bad.keys() <= set(allowed), f"{method}: {good} answered 2xx, otherwise: {bad or 'none'}")

    def honest(self, figures, steady, **shares):
        """The same as always; and where an answer was done harm, it was seen to be broken, for at least such a share of each harm."""
        self.always(figures, steady)
        met = {name: figures.faults[name.replace("_", "-")] for name in shares}
        least = int(sum(met[name] * share for name, share in shares.items()))
        broken = figures.count("broken")
        self.expect(all(met.values()), f"met by requests: {met}")
        self.expect(broken >= least, f"{broken} broken answers were seen as such; at least {least} had to be")
