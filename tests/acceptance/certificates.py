"""Certificates for a line, made by Debian's openssl: an authority, and what it signs.

Owns their files, in the line's own folder. Start at `Authority`.
"""

import subprocess

from ground import Failed
from processes import tool


class Authority:
    """Signs certificates with keys on P-256."""

    def __init__(self, folder):
        self.folder = folder
        self.certificate, self.key = folder / "ca.crt", folder / "ca.key"
        openssl("req", "-x509", *NEW_KEY, "-keyout", self.key, "-out", self.certificate, "-days", "2",
                "-subj", "/CN=acceptance")

    def sign(self, name, *hosts):
        """One PEM file with certificate and key, for these host names."""
        request, certificate, key = (self.folder / f"{name}.{kind}" for kind in ("csr", "crt", "key"))
        names = self.folder / f"{name}.ext"
        names.write_text("subjectAltName=" + ",".join(f"DNS:{host}" for host in hosts) + "\n")
        openssl("req", *NEW_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={hosts[0]}")
        openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial",
                "-out", certificate, "-days", "2", "-extfile", names)
        both = self.folder / f"{name}.pem"
        both.touch(0o600)
        both.write_text(certificate.read_text() + key.read_text())
        return both


NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def openssl(*arguments):
    """Runs openssl and fails with its words."""
    done = subprocess.run([tool("openssl"), *map(str, arguments)], capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL)
    if done.returncode:
        raise Failed(f"openssl {arguments[0]}: {done.stderr}")
    return done.stdout
