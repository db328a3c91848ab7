"""The program of `peers`: bytes back and forth over one connection."""

import json
import socket
import socketserver
import struct
import sys
import time

PORT = 7000
# How many bytes or echoes, and which of them.
_ORDER = struct.Struct("!Q?")
_PIECE_BYTES = 1 << 20


def serve() -> None:
    """Answer connections: each order is a size and a kind, and gets one byte per answer."""

    class Answer(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.request.makefile("rb") as stream:
                while header := stream.read(_ORDER.size):
                    size, echoes = _ORDER.unpack(header)
                    for _ in range(size if echoes else 1):
                        if echoes:
                            stream.read(1)
                        else:
                            _swallow(stream, size)
                        self.request.sendall(b"x")

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def handle_error(self, *_):
            pass

    with Server(("0.0.0.0", PORT), Answer) as server:
        print("listening", flush=True)
        server.serve_forever()


def _swallow(stream, size: int) -> None:
    while size:
        size -= len(stream.read(min(size, _PIECE_BYTES)))


def call(address: str) -> None:
    """Do what standard input says, on one connection."""
    with socket.create_connection((address, PORT), timeout=30) as connection:
        connection.settimeout(None)
        options = {
            socket.TCP_NODELAY: 1,
            socket.TCP_KEEPIDLE: 1,
            socket.TCP_KEEPINTVL: 1,
            socket.TCP_KEEPCNT: 1,
            socket.TCP_USER_TIMEOUT: 2000,
        }
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in options.items():
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
        print(json.dumps({"connected": True}), flush=True)
        for line in sys.stdin:
            order = json.loads(line)
            if "echo" in order:
                connection.sendall(_ORDER.pack(order["echo"], True))
                taken = []
                for _ in range(order["echo"]):
                    begun = time.monotonic()
                    connection.sendall(b"x")
                    assert connection.recv(1)
                    taken.append(time.monotonic() - begun)
                    time.sleep(order["pause"])
                answer = {"seconds": taken}
            elif "send" in order:
                begun = time.monotonic()
                connection.sendall(_ORDER.pack(order["send"], False))
                piece = bytes(_PIECE_BYTES)
                for begin in range(0, order["send"], len(piece)):
                    connection.sendall(piece[: order["send"] - begin])
                assert connection.recv(1)
                answer = {"seconds": time.monotonic() - begun}
            else:
                try:
                    connection.recv(1)
                    answer = {"error": "closed"}
                except OSError as error:
                    answer = {"error": type(error).__name__}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve() if sys.argv[1] == "serve" else call(sys.argv[2])
