"""pebble issues a certificate and renews it: from the first start to an answer over HTTPS without a hand

pebble is Let's Encrypt's own authority for tests. It proves the names by handshakes on Ringway's listener (tls-alpn-01); its certificates
last half a minute here, so that they are renewed while we look.
"""

import json
import re
import subprocess
import threading
import time
import urllib.request

from certificates import Authority
from ground import Failed, wait_until
from origins import Origin
from processes import free_ports, tool
from proxy import Proxy, pool

NAMES = ("one.example.org", "two.example.org")
LIFE_SECONDS = 45
SECONDS = 60


def run(report, ground):
    for program in ("pebble", "pebble-challtestsrv"):
        try:
            tool(program)
        except Failed as missing:
            raise Failed("pebble is missing: apt-get install pebble") from missing
    authority = Authority(ground.folder)
    # For pebble's own listener, which is not what it signs with.
    file = authority.sign("localhost", "localhost")
    origin = Origin(ground, "origin", "nginx")
    directory, management, secured, dns, dns_management = free_ports(5)
    config = ground.folder / "pebble.json"
    config.write_text(json.dumps({"pebble": {
        "listenAddress": f"127.0.0.1:{directory}", "managementListenAddress": f"127.0.0.1:{management}",
        "certificate": str(file), "privateKey": str(file), "httpPort": 1, "tlsPort": secured,
        "ocspResponderURL": "", "externalAccountBindingRequired": False, "certificateValidityPeriod": LIFE_SECONDS}}))
    # Every name is this machine.
    ground.processes.start("names", [tool("pebble-challtestsrv"), "-defaultIPv6", "", "-defaultIPv4", "127.0.0.1", "-dns01",
                                     f"127.0.0.1:{dns}", "-management", f"127.0.0.1:{dns_management}", "-http01", "", "-https01", "",
                                     "-tlsalpn01", ""])
    ground.processes.start("pebble", ["env", "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=5", tool("pebble"), "-config", config,
                                      "-dnsserver", f"127.0.0.1:{dns}"])
    wait_until(lambda: "Listening on" in ground.processes.log("pebble").read_text(), 15, "pebble listens")
    folder = ground.folder / "acme"
    tls = (f'[[listeners]]\naddress = "127.0.0.1:{secured}"\n[listeners.tls.acme]\nnames = {json.dumps(NAMES)}\n'
           f'folder = "{folder}"\ncontact = "mailto:a@example.org"\ndirectory = "https://localhost:{directory}/dir"\n'
           f'roots = "{authority.certificate}"\n')
    began = time.monotonic()
    proxy = Proxy(ground, pool("cache", {origin.name: origin.port}), tls)
    root = ground.folder / "root.pem"

    def shown():
        """Issuer and number of the certificate that is served now."""
        done = subprocess.run([tool("openssl"), "s_client", "-connect", f"127.0.0.1:{secured}", "-servername", NAMES[1]], input="",
                              capture_output=True, text=True, timeout=30, check=False)
        text = subprocess.run([tool("openssl"), "x509", "-noout", "-issuer", "-serial", "-ext", "subjectAltName"], input=done.stdout,
                              capture_output=True, text=True, timeout=30, check=False).stdout
        number = re.search(r"serial=(\w+)", text)
        return number[1] if "Pebble" in text and all(name in text for name in NAMES) and number else None

    first = wait_until(shown, SECONDS, "a certificate of pebble's is served")
    report.expect(True, f"from the start to a certificate for {', '.join(NAMES)}: {time.monotonic() - began:.1f} s")
    root.write_bytes(fetch(f"https://localhost:{management}/roots/0", authority) + fetch(f"https://localhost:{management}/intermediates/0", authority))
    for version in ("--http1.1", "--http2"):
        got = curl(secured, root, version)
        report.expect(got == "200", f"curl {version}, which trusts pebble alone: {got}")
    mode = (folder / f"{NAMES[0]}.pem").stat().st_mode & 0o777
    report.expect(mode == 0o600, f"permissions of the key: {mode:o}")
    answers = []
    ended = threading.Event()

    def ask():
        while not ended.wait(0.1):
            answers.append(curl(secured, root, "--http2"))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        second = wait_until(lambda: (number := shown()) and number != first and number, LIFE_SECONDS + SECONDS, "another is served")
    finally:
        ended.set()
        asking.join()
    report.expect(bool(second) and set(answers) == {"200"},
                  f"renewed after {time.monotonic() - began:.0f} s, with {LIFE_SECONDS} s of life; {len(answers)} requests meanwhile: {sorted(set(answers))}")
    # Started again, it has what it had.
    ground.processes.stop(proxy.process)
    proxy.process = ground.processes.start("ringway", [ground.ringway, "run", "-c", proxy.config])
    wait_until(proxy.is_ready, 15, "ringway is ready again")
    accounts = len(re.findall(r"There are now (\d+) accounts", ground.processes.log("pebble").read_text()))
    report.expect(shown() is not None and accounts == 1, f"started again: the same folder serves, {accounts} account made in all")


def fetch(uri, authority):
    """A page of pebble's own."""
    import ssl
    context = ssl.create_default_context(cafile=authority.certificate)
    with urllib.request.urlopen(uri, context=context, timeout=10) as answer:
        return answer.read()


def curl(port, root, version):
    """The status that curl gets, if it believes the certificate."""
    done = subprocess.run([tool("curl"), "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", str(root), version, "--resolve",
                           f"{NAMES[0]}:{port}:127.0.0.1", f"https://{NAMES[0]}:{port}/"], capture_output=True, text=True, timeout=30,
                          check=False)
    return done.stdout if done.returncode == 0 else f"exit {done.returncode}: {done.stderr.strip()}"
