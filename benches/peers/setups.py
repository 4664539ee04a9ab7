"""What each proxy is configured with in each case, as text: fills the templates in config/.

Never starts anything. Start at `configure`; README.md explains every setting.
"""

import random
import socket
import subprocess
from pathlib import Path

CONFIG = Path(__file__).resolve().parent / "config"
HEADERS = 30

TEMPLATES = {"ringway": "ringway.toml", "nginx": "nginx.conf", "haproxy": "haproxy.cfg", "envoy": "envoy.yaml",
             "nginx-buffers": "nginx.conf", "haproxy-splice": "haproxy.cfg", "ringway-scraped": "ringway.toml",
             "ringway-plain": "ringway.toml"}

# How each template writes one backend; {n} counts from 1. HAProxy's `check` is put in where a case asks for it.
BACKEND = {
    "origin.conf": "listen {host}:{port} backlog=4096;",
    "nginx.conf": "server {host}:{port};",
    "haproxy.cfg": "server b{n} {host}:{port}",
    "envoy.yaml": "- endpoint: {{ address: {{ socket_address: {{ address: {host}, port_value: {port} }} }} }}",
    "ringway.toml": '"{host}:{port}",',
}

# Health checks once a second, for the case with dead backends. nginx has passive ones only, which are its default.
CHECKS = {
    "envoy.yaml": ("health_checks: [{ timeout: 1s, interval: 1s, unhealthy_threshold: 3, healthy_threshold: 2, "
                   "tcp_health_check: {} }]\n"
                   "common_lb_config: { healthy_panic_threshold: { value: 0 } }"),
    "ringway.toml": '[pools.pool.health]\ninterval = "1s"',
}

ACCESS_LOG = {
    "nginx.conf": "{file} combined",
    "haproxy.cfg": "log stdout format raw local0\noption httplog",
    "envoy.yaml": ('access_log: [{{ name: file, typed_config: {{ "@type": type.googleapis.com/'
                   'envoy.extensions.access_loggers.file.v3.FileAccessLog, path: "{file}" }} }}]'),
    "ringway.toml": '[access_log]\nformat = "common"\nfile = "{file}"',
}

# How a listener speaks TLS, with one file that holds certificate and key. nginx wants the certificate on lines of their own.
TLS = {
    "nginx.conf": "ssl http2",
    "haproxy.cfg": "ssl crt {file} alpn h2,http/1.1",
    "ringway.toml": '[listeners.tls]\ncertificates = ["{file}"]',
}
CERTIFICATE = {"nginx.conf": "ssl_certificate {file};\nssl_certificate_key {file};\nssl_protocols TLSv1.2 TLSv1.3;"}

SPLICE = {"haproxy-splice": "option splice-response\noption splice-request"}
# Ringway with nothing that watches requests, bounds loads or repeats: what all of that costs together.
PLAIN = {"ringway-plain": """
[pools.pool.load]
factor = 0

[pools.pool.passive]
consecutive = 0
share = 0.0
counts = []
flaps = 0

[pools.pool.repeats]
budget = 0.0
backoff = "0s"
"""}
BUFFERS = {"nginx-buffers": "proxy_buffer_size 16k; proxy_buffers 32 16k;"}


def addresses(count, dead, port):
    """The backends as (host, port), the dead ones (where nothing listens) taking turns with the living."""
    hosts = lambda net, many: [f"127.0.{net + n // 250}.{1 + n % 250}" for n in range(many)]
    living, gone = hosts(1, count - dead), hosts(101, dead)
    mixed = [host for pair in zip(living, gone) for host in pair] + living[dead:]
    return [(host, port) for host in mixed]


def configure(name, case, folder, backends, port, admin):
    """Writes the configuration of a proxy for a case and returns the command that runs it, without the program."""
    if name == "pingora":
        return [f"127.0.0.1:{port}", str(case.pool), "check" if case.dead else "trust",
                *(f"{host}:{its}" for host, its in backends)]
    template = TEMPLATES[name]
    log = log_file(name, folder)
    wanted = ACCESS_LOG[template].format(file=log) if case.log else "off" if template == "nginx.conf" else ""
    # Without a bound nginx would keep what its clients have not read yet in files, up to 1 GiB a connection.
    bounded = "proxy_max_temp_file_size 0;" if case.body >= 1 << 30 else ""
    path = fill(template, folder, f"{name}.{template}", backends, " check inter 1s" if case.dead else "", NAME=name,
                PORT=port, ADMIN=admin, POOL=case.pool, ACCESS_LOG=wanted,
                CHECKS=CHECKS.get(template, "") if case.dead else "",
                TLS=TLS[template].format(file=certificate(folder)) if case.tls else "",
                CERTIFICATE=CERTIFICATE.get(template, "").format(file=certificate(folder)) if case.tls else "",
                PLAIN=PLAIN.get(name, ""), SPLICE=SPLICE.get(name, ""), BUFFERS=f"{BUFFERS.get(name, '')} {bounded}".strip())
    return {
        "nginx.conf": ["-p", str(folder), "-c", str(path)],
        "haproxy.cfg": ["-db", "-f", str(path)],
        "envoy.yaml": ["-c", str(path), "--concurrency", "1", "--disable-hot-restart", "-l", "warning"],
        "ringway.toml": ["run", "-c", str(path)],
    }[template]


def certificate(folder):
    """A file with a certificate on P-256 and its key, made once by openssl."""
    both, own, key = (folder / f"tls.{kind}" for kind in ("pem", "crt", "key"))
    if not both.exists():
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-keyout", str(key), "-out", str(own), "-days", "2", "-subj", "/CN=localhost"],
                       check=True, capture_output=True)
        both.touch(0o600)
        both.write_text(own.read_text() + key.read_text())
    return both


def log_file(name, folder):
    """Where a proxy's access log goes. HAProxy's is its standard output, which is kept in its log."""
    return folder / (f"{name}.log" if name.startswith("haproxy") else f"{name}.access")


def fill(template, folder, name, backends, check="", **values):
    """Writes a template with its @NAMES@ replaced, and returns the file. Several lines keep the indentation."""
    haproxy = check if template == "haproxy.cfg" else ""
    values |= {"RUN": folder, "HEADERS": "\n".join(f"add_header X-Answer-{n} value-of-header-{n};"
                                                   for n in range(1, HEADERS + 1))}
    values["BACKENDS"] = "\n".join(BACKEND[template].format(n=n, host=host, port=port) + haproxy
                                   for n, (host, port) in enumerate(backends, 1))
    lines = []
    for line in (CONFIG / template).read_text().splitlines():
        indent = line[:len(line) - len(line.lstrip())]
        for key, value in values.items():
            line = line.replace(f"@{key}@", str(value).replace("\n", "\n" + indent))
        lines.append(line)
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def free_ports(count):
    """Free loopback ports below the range that outgoing connections take theirs from."""
    below = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    held = []
    try:
        while len(held) < count:
            listener = socket.socket()
            try:
                listener.bind(("127.0.0.1", random.randrange(min(10000, below // 2), below)))
                held.append(listener)
            except OSError:
                listener.close()
        return [listener.getsockname()[1] for listener in held]
    finally:
        for listener in held:
            listener.close()
