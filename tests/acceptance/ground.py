"""What every line stands on: how it reports, and how it waits for a condition.

Never starts anything: that is processes.py. Start at `Report`.
"""

import time
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 0.02


class Failed(Exception):
    """A line cannot go on: something did not happen in time, or a program is missing."""


@dataclass(frozen=True)
class Ground:
    """What a line is given: the binary, a folder of its own, how thorough to be, and where to start programs."""

    ringway: Path
    folder: Path
    is_long: bool
    processes: object


class Report:
    """Prints one line's heading, its figures, and what came out as expected and what did not."""

    def __init__(self, name, title):
        self.name = name
        self.passes = 0
        self.failures = []
        print(f"\n==== {name}: {title}", flush=True)

    def say(self, text):
        """A figure, or what is being done."""
        print(f"  {text}", flush=True)

    def expect(self, truth, text):
        """States an expectation with its figures. A line goes on after one that is not met."""
        print(f"  {'ok    ' if truth else 'FAILED'}  {text}", flush=True)
        if truth:
            self.passes += 1
        else:
            self.failures.append(text)

    def end(self, seconds):
        """The line's own result. A line that expected nothing has not passed."""
        if not self.passes and not self.failures:
            self.failures.append("nothing was looked at")
        of = f"{self.passes} of {self.passes + len(self.failures)} expectations met"
        print(f"{'FAILED' if self.failures else 'ok'}  {self.name}: {of}, {seconds:.1f} s", flush=True)


def wait_until(condition, seconds, what):
    """Asks until the condition gives something true, and returns that. Fails when the time is over."""
    until = time.monotonic() + seconds
    while True:
        if result := condition():
            return result
        if time.monotonic() > until:
            raise Failed(f"{what}: not within {seconds} s")
        time.sleep(POLL_SECONDS)
