"""The backends: nginx, Python's http.server and Node, each one process on a port of its own, answering its name.

Owns their configuration and start. Start at `Origin`.
"""

import sys
from pathlib import Path

from ground import Failed, wait_until
from processes import free_ports, has_tool, tool
from proxy import get

PROGRAMS = Path(__file__).resolve().parent / "programs"
START_SECONDS = 15

# One process that is killed as a whole: no master, no workers. Every path of its own is in its own folder.
NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/client_body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ return 200 "{name}"; }}
    }}
}}
"""


class Origin:
    """One backend. It can be ended and started again on the same port."""

    def __init__(self, ground, name, kind):
        self.processes = ground.processes
        self.name = name
        self.port, = free_ports(1)
        self.command = {"nginx": self.nginx, "python": self.python, "node": self.node}[kind](ground.folder)
        self.start()

    def nginx(self, folder):
        """nginx without master; its name is the whole answer."""
        own = folder / self.name
        own.mkdir()
        (own / "nginx.conf").write_text(NGINX.format(folder=own, port=self.port, name=self.name))
        return [tool("nginx"), "-e", "stderr", "-p", own, "-c", own / "nginx.conf"]

    def python(self, _folder):
        """Python's http.server, with a few paths that are slow or long."""
        return [sys.executable, "-B", PROGRAMS / "origin.py", self.name, self.port]

    def node(self, _folder):
        """Node's http."""
        return [tool("node"), PROGRAMS / "origin.js", self.name, self.port]

    def start(self):
        """Starts it, and waits until it answers."""
        self.process = self.processes.start(self.name, self.command)
        wait_until(self.answers, START_SECONDS, f"{self.name} answers")

    def answers(self):
        """Whether it does; fails when it has ended."""
        if self.process.poll() is not None:
            raise Failed(f"{self.name} ended:\n{self.processes.last_words(self.name)}")
        try:
            return get(self.port, "/") == (200, self.name.encode())
        except OSError:
            return False

    def stop(self, *number):
        """Ends it with this signal, SIGTERM if none is given."""
        self.processes.stop(self.process, *number)


def three_kinds(ground):
    """nginx, Python and Node; without Node a second Python."""
    last = ("node", "node") if has_tool("node") else ("python-2", "python")
    return [Origin(ground, name, kind) for name, kind in (("nginx", "nginx"), ("python", "python"), last)]
