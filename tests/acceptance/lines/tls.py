"""curl and openssl speak TLS with it: versions, names, client certificates, resumption, a certificate swapped under load

Each handshake is made by a program that is not ours, and says itself what came of it.
"""

import re
import subprocess
import threading
import time

from certificates import Authority
from ground import wait_until
from origins import Origin
from processes import free_ports, tool
from proxy import Proxy, pool

LENGTH = 5_000_000
SWAP_SECONDS = 1.0
HSTS_SECONDS = 31536000


def run(report, ground):
    authority = Authority(ground.folder)
    certificates = [authority.sign("a", "a.example"), authority.sign("b", "b.example", "*.b.example")]
    own = authority.sign("client", "client.example")
    origin = Origin(ground, "origin", "python")
    optional, required = free_ports(2)
    listener = '[[listeners]]\naddress = "127.0.0.1:{port}"\n[listeners.tls]\ncertificates = [{files}]\n{more}\n'
    files = ", ".join(f'"{file}"' for file in certificates)
    proxy = Proxy(ground, pool("cache", {origin.name: origin.port}),
                  listener.format(port=optional, files=files, more=f'hsts = "max-age={HSTS_SECONDS}; includeSubDomains"'),
                  listener.format(port=required, files=files,
                                  more=f'client_certificates = "required"\nclient_ca = "{authority.certificate}"'))
    curl(report, authority, optional, required, own)
    security(report, authority, optional)
    versions(report, authority, optional)
    names(report, authority, optional)
    resumption(report, authority, optional)
    swapped(report, authority, certificates[0], optional, proxy)


def curl(report, authority, plain, required, own):
    """What curl gets, by version of HTTP, with bodies, and with a certificate of its own."""
    body = authority.folder / "body"
    body.write_bytes(bytes(LENGTH))

    def get(port, *more, path="/"):
        command = [tool("curl"), "-sS", "-o", authority.folder / "got", "-w", "%{http_code} %{size_download}", "--cacert",
                   authority.certificate, "--resolve", f"a.example:{port}:127.0.0.1", *more,
                   f"https://a.example:{port}{path}"]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=30, check=False)
        return done.stdout if done.returncode == 0 else f"exit {done.returncode}"

    small = f"200 {len('origin')}"
    for word, more, path, wanted in (
        ("HTTP/1.1", ["--http1.1"], "/", small),
        ("HTTP/1.0", ["--http1.0"], "/", small),
        ("TLS 1.2", ["--tls-max", "1.2"], "/", small),
        ("its own choice", [], "/", small),
        (f"{LENGTH} bytes down", [], f"/length/{LENGTH}", f"200 {LENGTH}"),
        (f"{LENGTH} bytes down, chunked", [], f"/chunked/{LENGTH}", f"200 {LENGTH}"),
        (f"{LENGTH} bytes down, chunked, HTTP/1.0", ["--http1.0"], f"/chunked/{LENGTH}", f"200 {LENGTH}"),
        (f"{LENGTH} bytes up", ["--data-binary", f"@{body}"], "/", f"200 {len(str(LENGTH))}"),
        (f"{LENGTH} bytes up, chunked", ["-T", body, "-X", "POST", "-H", "transfer-encoding: chunked"], "/",
         f"200 {len(str(LENGTH))}"),
    ):
        got = get(plain, *more, path=path)
        report.expect(got == wanted, f"curl, {word}: {got}")
    got = get(required)
    report.expect(got.startswith("exit 5"), f"curl without the certificate that is required: {got}")
    got = get(required, "--cert", own)
    report.expect(got == small, f"curl with it: {got}")


def security(report, authority, port):
    """What curl keeps of Strict-Transport-Security, from a backend's answer and from a refusal; and what it is told in the clear."""
    for word, method in (("a backend's answer", "GET"), ("a refusal", "TRACE")):
        kept = authority.folder / "hsts"
        kept.unlink(missing_ok=True)
        subprocess.run([tool("curl"), "-sS", "-X", method, "-o", "/dev/null", "--hsts", str(kept), "--cacert", str(authority.certificate), "--resolve",
                        f"a.example:{port}:127.0.0.1", f"https://a.example:{port}/"], timeout=30, check=False)
        hosts = [line.split()[0] for line in kept.read_text().splitlines() if not line.startswith("#")]
        # The dot says that it holds for the hosts below, too.
        report.expect(hosts == [".a.example"], f"hosts that curl asks by https alone after {word}: {hosts}")
    done = subprocess.run([tool("curl"), "-sS", "-w", "%{http_code}", f"http://127.0.0.1:{port}/"], capture_output=True, text=True,
                          timeout=30, check=False)
    report.expect("https" in done.stdout and done.stdout.endswith("400"), f"curl in the clear: {done.stdout.splitlines()}")


def client(port, *more):
    """What openssl s_client says about one handshake."""
    done = subprocess.run([tool("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", *map(str, more)],
                          input="", capture_output=True, text=True, timeout=30, check=False)
    return done.stdout + done.stderr


def versions(report, authority, port):
    """Which versions are spoken."""
    for flag, wanted in (("-tls1_3", "TLSv1.3"), ("-tls1_2", "TLSv1.2"), ("-tls1_1", None)):
        said = client(port, flag, "-CAfile", authority.certificate, "-servername", "a.example")
        found = re.search(r"New, (TLSv[\d.]+), Cipher is (?!\(NONE\))(\S+)", said)
        got = f"{found[1]} {found[2]}" if found else "refused"
        report.expect((found[1] if found else None) == wanted, f"openssl {flag}: {got}")


def names(report, authority, port):
    """Which certificate a name gets."""
    for name, wanted in (("a.example", "a.example"), ("b.example", "b.example"), ("x.b.example", "b.example"),
                         ("else.example", "a.example"), (None, "a.example")):
        ask = ["-servername", name] if name else ["-noservername"]
        said = client(port, *ask, "-CAfile", authority.certificate)
        found = re.search(r"subject=CN\s*=\s*(\S+)", said)
        got = found[1] if found else "nothing"
        report.expect(got == wanted, f"asked for {name or 'no name'}: shown {got}")


def resumption(report, authority, port):
    """Whether a second handshake needs no certificate."""
    session = authority.folder / "session"
    for version in ("-tls1_3", "-tls1_2"):
        common = [version, "-CAfile", authority.certificate, "-servername", "a.example"]
        # The tickets of TLS 1.3 come after the handshake: s_client must wait for them.
        first = subprocess.Popen([tool("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", *map(str, common),
                                  "-sess_out", str(session)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: session.exists() and session.stat().st_size > 0, 10, "openssl has a session")
        finally:
            first.stdin.close()
            first.wait(10)
        said = client(port, *common, "-sess_in", session)
        report.expect("\nReused, " in said, f"openssl {version}: {'resumed' if 'Reused, ' in said else 'not resumed'}")
        session.unlink()


def swapped(report, authority, file, port, proxy):
    """A new certificate while clients come and go."""
    counts = {"handshakes": 0, "failed": 0}
    over = threading.Event()

    def load():
        while not over.is_set():
            said = client(port, "-servername", "a.example", "-CAfile", authority.certificate)
            counts["handshakes"] += 1
            counts["failed"] += "Verify return code: 0 (ok)" not in said

    def serial():
        said = client(port, "-servername", "a.example", "-showcerts")
        begin = said.index("-----BEGIN CERTIFICATE-----")
        return said[begin:said.index("-----END CERTIFICATE-----", begin)]

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: counts["handshakes"] > 20, 30, "handshakes are made")
        before = serial()
        began = time.monotonic()
        authority.sign("a", "a.example")
        written = time.monotonic()
        wait_until(lambda: serial() != before, 10, "the new certificate is shown")
        took = time.monotonic() - written
    finally:
        over.set()
        for thread in threads:
            thread.join()
    report.expect(counts["failed"] == 0, f"{counts['handshakes']} handshakes around a change of {file.name}, "
                                         f"{counts['failed']} failed")
    report.expect(took <= SWAP_SECONDS + (written - began),
                  f"the new certificate is shown after {took:.2f} s")
    refused = proxy.metrics().sum("ringway_tls_reloads_total", result="refused")
    report.expect(refused == 0, f"{int(refused)} changes were refused")
