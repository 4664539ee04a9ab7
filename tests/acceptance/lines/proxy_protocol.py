"""the PROXY protocol: HAProxy in front says who the client is, nginx behind hears it, in both versions

The client is 127.0.0.9, HAProxy connects from 127.0.0.1, and only that is believed.
"""

import http.client
import socket

from ground import wait_until
from origins import NGINX
from processes import free_ports, tool
from proxy import Proxy, pool

HAPROXY = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
"""
LINK = """
frontend in-{word}
    bind 127.0.0.1:{port}
    default_backend out-{word}
backend out-{word}
    source 127.0.0.1
    server ringway 127.0.0.1:{to} {word} {check} check inter 200ms
"""
# In the place of a port, and of the name that it answers.
HEARS = ("{port} proxy_protocol", "$proxy_protocol_addr $http_x_forwarded_for")
CLIENT = "127.0.0.9"
HEALTH = 'kind = "http"\ninterval = "200ms"'


def run(report, ground):
    behind, first, second = free_ports(3)
    own = ground.folder / "nginx"
    own.mkdir()
    (own / "nginx.conf").write_text(NGINX.format(folder=own, port=HEARS[0].format(port=behind), name=HEARS[1]))
    ground.processes.start("nginx", [tool("nginx"), "-e", "stderr", "-p", own, "-c", own / "nginx.conf"])
    for version in ("v1", "v2"):
        front = free_ports(1)[0]
        listener = f'[[listeners]]\naddress = "127.0.0.1:{front}"\nproxy_protocol_from = ["127.0.0.1"]\n'
        proxy = Proxy(ground, pool("cache", {"nginx": behind}, HEALTH, send_proxy_protocol=version), listener)
        links = [LINK.format(word=word, port=port, to=front, check="check-" + word.replace("-v2", ""))
                 for word, port in (("send-proxy", first), ("send-proxy-v2", second))]
        config = ground.folder / f"haproxy-{version}.cfg"
        config.write_text(HAPROXY + "".join(links))
        haproxy = ground.processes.start(f"haproxy-{version}", [tool("haproxy"), "-db", "-f", config])
        proxy.await_standing("nginx", "serving")
        for word, port in (("send-proxy", first), ("send-proxy-v2", second)):
            wait_until(lambda: says(port) is not None, 15, "haproxy passes requests")
            got = says(port)
            report.expect(got == f"{CLIENT} {CLIENT}", f"haproxy {word} in front, {version} behind: nginx heard {got}")
        report.expect((got := says(front)) == f"{CLIENT} {CLIENT}", f"a client without a balancer is who he is: {got}")
        report.expect(not (got := pretends(front)), f"one who pretends to be a balancer gets {got or 'no answer of a backend'}")
        for word in ("send-proxy", "send-proxy-v2"):
            down = f"out-{word}/ringway is DOWN" in ground.processes.log(f"haproxy-{version}").read_text()
            report.expect(not down, f"haproxy's own health checks with {word} pass")
        ground.processes.stop(haproxy)
        ground.processes.stop(proxy.process)


def pretends(port):
    """The status line for a stranger who speaks the protocol, if it is one of success."""
    with socket.create_connection(("127.0.0.1", port), timeout=5, source_address=(CLIENT, 0)) as stranger:
        stranger.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\nhost: a\r\nx-user-id: 1\r\n\r\n")
        line = stranger.recv(4096).split(b"\r\n")[0].decode()
    return line if " 200 " in line else None


def says(port):
    """What a client from its own address gets; None if it gets nothing."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5, source_address=(CLIENT, 0))
    try:
        connection.request("GET", "/", headers={"x-user-id": "1"})
        answer = connection.getresponse()
        return answer.read().decode() if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
