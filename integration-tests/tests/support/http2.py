"""HTTP/2 by hand, as no decent client speaks it."""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY, CONTINUATION = 0, 1, 3, 4, 7, 9
END_STREAM, END_HEADERS = 1, 4

METHOD = "/clutch.v1.Executor/OpenSession"
GRPC = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", METHOD),
    (":authority", "localhost"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Build a frame."""
    length = len(payload).to_bytes(3, "big")
    return length + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def block(headers: list[tuple[str, str]]) -> bytes:
    """Encode headers, without a table and without Huffman's code."""
    return b"".join(b"\0" + _text(name.encode()) + _text(value.encode()) for name, value in headers)


def hello() -> bytes:
    """Begin a connection."""
    return PREFACE + frame(SETTINGS, 0, 0)


def request(stream: int, headers: list[tuple[str, str]], body: bytes | None = None) -> bytes:
    """Build a request; one without a body goes on."""
    begun = frame(HEADERS, END_HEADERS, stream, block(headers))
    return begun if body is None else begun + frame(DATA, END_STREAM, stream, body)


def _text(text: bytes) -> bytes:
    length = len(text)
    if length < 127:
        return bytes([length]) + text
    length -= 127
    digits = [127]
    while length >= 128:
        digits.append(length % 128 + 128)
        length //= 128
    return bytes([*digits, length]) + text
