"""Writes the contract in Python, for the tests: a speaker that is not our own.

Run it through ``make generate``, which gives it an environment of its own with
the compiler that ``requirements.txt`` pins. With ``--check`` it writes nothing
and fails when the committed files differ from what it would write.
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path

from google.protobuf.descriptor_pb2 import (  # type: ignore[import-untyped,unused-ignore]
    FileDescriptorSet,
    MethodDescriptorProto,
)
from grpc_tools import protoc  # type: ignore[import-not-found,import-untyped,unused-ignore]

PROTOS = Path(__file__).parent / "proto"
TARGET = Path(__file__).parent / "python/clutch_wire"
# Where the generated packages live; protoc believes that they are top-level.
HOME = "clutch_wire"


def main() -> int:
    """Write or check the generated files.

    Returns
    -------
    int
        Exit code: 1 when ``--check`` found a difference.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check

    expected = generate()
    committed = {
        path.relative_to(TARGET): path.read_text()
        for path in TARGET.rglob("*.py*")
        if path.suffix in {".py", ".pyi"}
    }
    changed = sorted(
        path
        for path in expected.keys() | committed.keys()
        if expected.get(path) != committed.get(path)
    )
    for path in changed:
        print(f"{'stale' if check else 'rewriting'}: {TARGET.name}/{path}", file=sys.stderr)
        if check:
            continue
        target = TARGET / path
        if path in expected:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(expected[path])
        else:
            target.unlink()
    if check and changed:
        print("run `make generate`", file=sys.stderr)
        return 1
    return 0


def generate() -> dict[Path, str]:
    """Run the compiler.

    Returns
    -------
    dict
        Text of each file by its path below the target; never empty.

    Raises
    ------
    RuntimeError
        The compiler refused the contract; it has printed why.
    """
    sources = sorted(str(path) for path in PROTOS.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory)
        descriptors = out / "descriptors.bin"
        arguments = [
            "protoc",
            f"--proto_path={PROTOS}",
            f"--python_out={out}",
            f"--pyi_out={out}",
            f"--grpc_python_out={out}",
            f"--descriptor_set_out={descriptors}",
        ]
        if protoc.main([*arguments, *sources]) != 0:
            message = "the protocol compiler refused the contract"
            raise RuntimeError(message)
        files = {path.relative_to(out): rewrite(path.read_text()) for path in out.rglob("*.py*")}
        contract = FileDescriptorSet.FromString(descriptors.read_bytes())

    # An empty service module is written even for a file without a service.
    with_service = {Path(file.name).with_suffix("") for file in contract.file if file.service}
    for path in list(files):
        if path.name.endswith("_pb2_grpc.py"):
            if path.with_name(path.name.removesuffix("_pb2_grpc.py")) in with_service:
                files[path.with_suffix(".pyi")] = service_stub(contract)
            else:
                del files[path]

    for package in {parent for path in files for parent in path.parents}:
        files[package / "__init__.py"] = '"""Generated from the contract in protocol/."""\n'
    return files


def rewrite(text: str) -> str:
    """Return generated code that knows under which package it lives."""
    text = re.sub(r"^from clutch\.", f"from {HOME}.clutch.", text, flags=re.MULTILINE)
    # The module name that message classes carry, which pickle looks up.
    return re.sub(r"'(clutch\.v\d+\.\w+_pb2)', _globals\)", rf"'{HOME}.\1', _globals)", text)


def service_stub(contract: FileDescriptorSet) -> str:
    """Return the type stub of the service module, which protoc does not write."""
    modules = {
        f".{file.package}.{message.name}": f"{Path(file.name).stem}_pb2"
        for file in contract.file
        for message in file.message_type
    }

    def name(message: str) -> str:
        return f"{modules[message]}.{message.rpartition('.')[2]}"

    def kinds(method: MethodDescriptorProto) -> tuple[str, str]:
        return (
            "Stream" if method.client_streaming else "Unary",
            "Stream" if method.server_streaming else "Unary",
        )

    lines: list[str] = []
    for file in contract.file:
        for service in file.service:
            lines += ["", f"class {service.name}Stub:"]
            lines += ["    def __init__(self, channel: grpc.Channel) -> None: ..."]
            for method in service.method:
                kind = "".join(kinds(method)) + "MultiCallable"
                types = f"{name(method.input_type)}, {name(method.output_type)}"
                lines += [f"    {method.name}: grpc.{kind}[{types}]"]
            lines += ["", f"class {service.name}Servicer:"]
            for method in service.method:
                request, response = name(method.input_type), name(method.output_type)
                if method.client_streaming:
                    request = f"Iterator[{request}]"
                if method.server_streaming:
                    response = f"Iterator[{response}]"
                lines += [
                    f"    def {method.name}(",
                    f"        self, request: {request}, context: grpc.ServicerContext",
                    f"    ) -> {response}: ...",
                ]
            lines += [
                "",
                f"def add_{service.name}Servicer_to_server(",
                f"    servicer: {service.name}Servicer, server: grpc.Server",
                ") -> None: ...",
            ]

    body = "\n".join(lines)
    used = sorted(module for module in set(modules.values()) if f"{module}." in body)
    package = contract.file[0].package
    imports = [
        "from collections.abc import Iterator",
        "",
        "import grpc",
        "",
        *(f"from {HOME}.{package} import {module}" for module in used),
    ]
    return "\n".join([*imports, body, ""])


if __name__ == "__main__":
    raise SystemExit(main())
