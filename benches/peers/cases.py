"""The cases: which traffic, which backends, which settings.

Never runs anything. Start at `CASES`.
"""

from dataclasses import dataclass, field

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
NO_TLS = {name: "this bench has no configuration with TLS for it" for name in ("envoy", "pingora")}
NO_LOG = {"pingora": "it has no access log of its own"}


@dataclass(frozen=True)
class Case:
    """One kind of traffic. `connections` are open at once; `body` is an answer's length in bytes."""

    name: str
    prefix: str
    connections: int
    body: int
    about: str
    # "load" and "open" count per request; "idle" and "growth" memory; "syscalls" system calls by name.
    kind: str = "load"
    # wrk, or the bench's own generator: it makes new connections, a fixed rate, or a fixed number of requests.
    wrk: bool = True
    # Distinct paths asked for in turn. Fewer where each request carries a large body, since all are made beforehand.
    paths: int = 10_000
    upload: int = 0
    headers: int = 0
    new_connections: bool = False
    # Clients speak TLS.
    tls: bool = False
    # Clients speak HTTP/2 (h2load), with so many requests at a time on each connection.
    streams: int = 0
    count: int = 0
    quick_count: int = 0
    # At most so many rounds, where they are long or repeat well.
    rounds: int = 100
    backends: int = 4
    dead: int = 0
    log: bool = False
    silent: bool = False
    share: float = 0.0
    # Whether each proxy runs alone, started anew for each round: all together would keep too many connections open.
    alone: bool = False
    # Whether the first two are compared within each round, started anew for it: for differences of a few per cent, which
    # are less than two processes of one program differ by chance.
    pairs: bool = False
    # Idle connections a proxy may keep to its backends, for those that bound them.
    pool: int = 1024
    # Only these proxies; empty means those chosen.
    only: tuple = ()
    # Who can't do it, and why.
    without: dict = field(default_factory=dict)


def small(name, connections, about, **more):
    """A case of GET requests with answers of 100 bytes."""
    return Case(name, more.pop("prefix", "/small/"), connections, 100, about, **more)


CASES = {case.name: case for case in (
    small("small-1", 1, "GET, 100-byte answers, 1 connection"),
    small("small-64", 64, "GET, 100-byte answers, 64 connections"),
    small("small-512", 512, "GET, 100-byte answers, 512 connections"),
    small("small-4096", 4096, "GET, 100-byte answers, 4096 connections", pool=8192, wrk=False, alone=True),
    small("new-connection", 64, "GET, 100-byte answers, a new connection for each request, 64 at once", wrk=False,
          new_connections=True),
    small("headers-30", 64, "GET, 100-byte answers, 30 more headers in each direction, 64 connections",
          prefix="/headers/", headers=30),
    small("backend-closes", 64, "GET, 100-byte answers, backends close after each answer, 64 connections",
          prefix="/close/"),
    small("one-key", 64, "GET, 100-byte answers, all for one path, 64 connections", paths=1),
    small("half-down", 64, "GET, 100-byte answers, 8 backends of which 4 are down, 64 connections",
          backends=8, dead=4),
    small("access-log", 64, "GET, 100-byte answers, one line of access log each, 64 connections", log=True,
          without=NO_LOG),
    small("tls-64", 64, "GET over TLS 1.3, 100-byte answers, 64 connections", tls=True, without=NO_TLS),
    small("tls-new", 64, "GET over TLS 1.3, 100-byte answers, a new connection for each request, 64 at once", tls=True,
          new_connections=True, without=NO_TLS),
    small("h2-1", 64, "GET over HTTP/2 and TLS, 100-byte answers, 64 connections, 1 stream each", tls=True, streams=1,
          without=NO_TLS),
    small("h2-16", 16, "GET over HTTP/2 and TLS, 100-byte answers, 16 connections, 16 streams each", tls=True, streams=16,
          without=NO_TLS),
    small("h2-100", 4, "GET over HTTP/2 and TLS, 100-byte answers, 4 connections, 100 streams each", tls=True, streams=100,
          without=NO_TLS),
    Case("h2-64k", "/64k/", 16, 64 * KIB, "GET over HTTP/2 and TLS, 64 KiB answers, 16 connections, 4 streams each", tls=True,
         streams=4, without=NO_TLS),
    Case("body-64k", "/64k/", 64, 64 * KIB, "GET, 64 KiB answers, 64 connections"),
    Case("body-1m", "/1m/", 16, MIB, "GET, 1 MiB answers, 16 connections"),
    Case("body-1g", "/1g/", 4, GIB, "GET, 1 GiB answers, 8 of them over 4 connections; a request is 1 GiB", wrk=False,
         count=8, quick_count=2, rounds=3),
    Case("upload-64k", "/upload/", 64, 100, "POST, 64 KiB bodies, 64 connections", paths=1000, upload=64 * KIB),
    Case("upload-1m", "/upload/", 16, 100, "POST, 1 MiB bodies, 16 connections", paths=64, upload=MIB),
    small("backends-100", 64, "GET, 100-byte answers, 100 backends, 64 connections", backends=100, pool=8192),
    small("backends-1000", 64, "GET, 100-byte answers, 1000 backends, 64 connections", backends=1000, pool=8192),
    small("scrape", 64, "GET, 100-byte answers, 1000 backends, with /metrics fetched once a second and without",
          backends=1000, pool=8192, only=("ringway", "ringway-scraped")),
    small("failover", 64, "GET, 100-byte answers, with and without passive health, load bounds and repeats",
          only=("ringway", "ringway-plain"), pairs=True),
    small("open-30", 64, "GET, 100-byte answers, at 30 % of the slowest one's capacity", kind="open", wrk=False,
          share=0.3, rounds=3),
    small("open-60", 64, "GET, 100-byte answers, at 60 % of the slowest one's capacity", kind="open", wrk=False,
          share=0.6, rounds=3),
    small("open-90", 64, "GET, 100-byte answers, at 90 % of the slowest one's capacity", kind="open", wrk=False,
          share=0.9, rounds=3),
    small("idle", 9000, "memory per idle keep-alive connection after one request", kind="idle", rounds=2),
    small("idle-silent", 9000, "memory per connection that never sent a byte", kind="idle", silent=True,
          rounds=2),
    small("growth", 64, "resident memory after a warm-up and after a million requests more", kind="growth", wrk=False,
          count=1_000_000, quick_count=20_000),
    small("syscalls", 16, "system calls by name, counted with strace", kind="syscalls", wrk=False, count=4000,
          quick_count=1000),
)}
