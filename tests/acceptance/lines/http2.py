"""curl, nghttp and h2load speak HTTP/2 with it, in the clear and through TLS: bodies both ways, trailers, ten thousand streams

What h2load counts is compared with what Ringway counts.
"""

import re
import subprocess

from certificates import Authority
from origins import Origin
from processes import free_ports, tool
from proxy import Proxy, pool

LENGTH = 5_000_000
STREAMS = 10_000


def run(report, ground):
    authority = Authority(ground.folder)
    file = authority.sign("a", "a.example")
    origins = [Origin(ground, f"nginx-{i}", "nginx") for i in range(2)]
    python = Origin(ground, "python", "python")
    secured, clear = free_ports(2)
    proxy = Proxy(ground, pool("cache", {python.name: python.port}),
                  pool("load", {origin.name: origin.port for origin in origins}),
                  '[[routes]]\npath_prefix = "/load"\npool = "load"\n[[routes]]\npool = "cache"\n',
                  f'[[listeners]]\naddress = "127.0.0.1:{secured}"\n[listeners.tls]\ncertificates = ["{file}"]\n',
                  f'[[listeners]]\naddress = "127.0.0.1:{clear}"\nhttp2 = "prior-knowledge"\n')
    curl(report, ground, authority, secured, clear)
    nghttp(report, authority, secured, clear)
    h2load(report, proxy, secured, clear)


def curl(report, ground, authority, secured, clear):
    """What curl gets."""
    body = ground.folder / "body"
    body.write_bytes(bytes(LENGTH))

    def get(*more, path="/"):
        command = [tool("curl"), "-sS", "-o", ground.folder / "got", "-w", "%{http_version} %{http_code} %{size_download}",
                   "--cacert", authority.certificate, "--resolve", f"a.example:{secured}:127.0.0.1",
                   "--resolve", f"a.example:{clear}:127.0.0.1"]
        for word, uri in (("TLS", f"https://a.example:{secured}{path}"), ("clear", f"http://a.example:{clear}{path}")):
            kind = ["--http2"] if word == "TLS" else ["--http2-prior-knowledge"]
            done = subprocess.run(list(map(str, [*command, *kind, *more, uri])), capture_output=True, text=True, timeout=30,
                                  check=False)
            yield word, done.stdout if done.returncode == 0 else f"exit {done.returncode}: {done.stderr}"

    up = f"2 200 {len(str(LENGTH))}"
    for what, more, path, wanted in (
        ("a page", [], "/", f"2 200 {len('python')}"),
        ("a head", ["-I"], "/load", "2 200 0"),
        (f"{LENGTH} bytes down", [], f"/length/{LENGTH}", f"2 200 {LENGTH}"),
        (f"{LENGTH} bytes down, chunked behind", [], f"/chunked/{LENGTH}", f"2 200 {LENGTH}"),
        (f"{LENGTH} bytes up", ["--data-binary", f"@{body}"], "/", up),
        (f"{LENGTH} bytes up without their length", ["-T", body, "-X", "POST", "-H", "content-length:"], "/", up),
    ):
        for word, got in get(*more, path=path):
            report.expect(got == wanted, f"curl, {word}, {what}: {got}")


def nghttp(report, authority, secured, clear):
    """What nghttp sees of the frames."""
    for word, uri in (("TLS", f"https://127.0.0.1:{secured}/"), ("clear", f"http://127.0.0.1:{clear}/")):
        done = subprocess.run([tool("nghttp"), "-v", "-n", "--no-verify-peer", "-m", "50", uri], capture_output=True, text=True,
                              timeout=30, check=False)
        answers = len(re.findall(r":status: 200", done.stdout))
        bad = re.findall(r"RST_STREAM|PROTOCOL_ERROR", done.stdout)
        report.expect(answers == 50 and not bad, f"nghttp, {word}: {answers} of 50 answers, {len(bad)} errors")


def h2load(report, proxy, secured, clear):
    """Ten thousand streams, in several shapes."""
    def counted():
        return proxy.metrics().sum("ringway_requests_total", pool="load", **{"class": "2xx"})

    sent, before = 0, counted()
    for word, uri in (("TLS", f"https://127.0.0.1:{secured}/load"), ("clear", f"http://127.0.0.1:{clear}/load")):
        for clients, streams in ((1, 1), (1, 100), (50, 20)):
            done = subprocess.run([tool("h2load"), "-n", str(STREAMS), "-c", str(clients), "-m", str(streams), uri],
                                  capture_output=True, text=True, timeout=120, check=False)
            found = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", done.stdout)
            got = found.groups() if found else done.stdout[-200:]
            sent += STREAMS
            report.expect(got == (str(STREAMS), "0", "0", "0"),
                          f"h2load, {word}, {clients} clients of {streams} streams: succeeded, failed, errored, timeout {got}")
    grown = counted() - before
    report.expect(grown == sent, f"{sent} sent, {int(grown)} counted")
