"""A terminal with a program in it: keys go in, and what is on its screen can be read.

Owns the pseudo-terminal and the few control sequences that full-screen programs of today write. Start at `Terminal`.
"""

import fcntl
import os
import re
import select
import struct
import subprocess
import termios

from ground import wait_until
from processes import STOP_SECONDS

# Text, or one of: CSI sequence, another escape, one control character.
PART = re.compile(rb"\x1b\[([0-9;?]*)([@-~])|\x1b[()][0-9A-Za-z]|\x1b[^\[]|([\x00-\x1f])|([^\x00-\x1f\x1b]+)")
LOOK_SECONDS = 0.02


class Terminal:
    """A program on a pseudo-terminal of this size."""

    def __init__(self, processes, command, columns=80, rows=24, **environment):
        self.ours, theirs = os.openpty()
        self.theirs = theirs
        self.resize(columns, rows)
        self.before = termios.tcgetattr(theirs)
        self.written, self.left = b"", b""
        environment = {**os.environ, "TERM": "xterm-256color", **environment}
        # The terminal must be the program's own, or nobody tells it about another size.
        self.process = subprocess.Popen(list(map(str, command)), stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
                                        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.process.name = "terminal"
        processes.running.append(self.process)

    def resize(self, columns, rows):
        """Gives it another size, and an empty screen."""
        self.columns, self.rows = columns, rows
        self.screen = [[" "] * columns for _ in range(rows)]
        self.at = (0, 0)
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, keys):
        """Types this."""
        os.write(self.ours, keys.encode())

    def text(self):
        """What is on the screen now."""
        while select.select([self.ours], [], [], LOOK_SECONDS)[0]:
            came = os.read(self.ours, 65536)
            self.written += came
            self.take(came)
        return "\n".join("".join(row).rstrip() for row in self.screen)

    def shows(self, *patterns, seconds=15):
        """Waits until all of these are on the screen; fails with the screen where they do not come."""
        def are_there():
            return all(re.search(pattern, self.text(), re.M) for pattern in patterns)
        try:
            wait_until(are_there, seconds, f"the terminal shows {patterns}")
        except Exception as error:
            error.args = (f"{error}\n{self.text()}",)
            raise

    def ends(self):
        """Waits for the program's end. Its exit code."""
        def has_ended():
            self.text()
            return self.process.poll() is not None
        wait_until(has_ended, STOP_SECONDS, "the program in the terminal ends")
        self.text()
        return self.process.returncode

    def is_as_before(self):
        """Whether the terminal is as the program found it: modes, screen, cursor."""
        def comes_last(this, other):
            return self.written.rfind(this) > self.written.rfind(other)
        is_same_screen = comes_last(b"\x1b[?1049l", b"\x1b[?1049h")
        return is_same_screen and comes_last(b"\x1b[?25h", b"\x1b[?25l") and termios.tcgetattr(self.theirs) == self.before

    def take(self, came):
        """Does what the bytes ask for."""
        came = self.left + came
        end = 0
        for part in PART.finditer(came):
            if part.start() != end:
                break
            end = part.end()
            arguments, command, control, text = part.groups()
            if command:
                self.obey(command, [int(number or 0) for number in arguments.strip(b"?").split(b";")])
            elif control == b"\r":
                self.at = (self.at[0], 0)
            elif control == b"\n":
                self.at = (min(self.at[0] + 1, self.rows - 1), self.at[1])
            elif text:
                try:
                    self.write(text.decode())
                except UnicodeDecodeError:
                    # The rest of the character has not come yet.
                    end = part.start()
                    break
        self.left = came[end:]

    def obey(self, command, numbers):
        """The sequences that matter: where the cursor goes, and what is cleared."""
        row, column = self.at
        first = numbers[0] or 1
        if command in b"Hf":
            self.at = (first - 1, (numbers[1] or 1) - 1 if len(numbers) > 1 else 0)
        elif command in b"ABCD":
            step = {b"A": (-first, 0), b"B": (first, 0), b"C": (0, first), b"D": (0, -first)}[command]
            self.at = (row + step[0], column + step[1])
        elif command == b"G":
            self.at = (row, first - 1)
        elif command == b"J":
            self.screen = [[" "] * self.columns for _ in range(self.rows)]
        elif command == b"K":
            self.screen[row][column:] = [" "] * (self.columns - column)

    def write(self, text):
        """Puts characters where the cursor is. Each is one column wide here."""
        row, column = self.at
        for character in text:
            if row < self.rows and column < self.columns:
                self.screen[row][column] = character
            column += 1
        self.at = (row, column)
