"""Generate gen/ from proto/: messages, stubs, services and the descriptor set.

The output is committed; `make lint` regenerates it elsewhere and compares.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import google.type
import grpc_tools
from google.protobuf import descriptor_pb2, duration_pb2, field_mask_pb2, timestamp_pb2
from grpc_tools import protoc
from protovalidate._gen.buf.validate import validate_pb

ROOT = Path(__file__).resolve().parent
GOOGLE = Path(next(iter(google.type.__path__))).parent.parent
WELL_KNOWN = Path(next(iter(grpc_tools.__path__))) / "_proto"
DESCRIPTORS = "descriptors.binpb"
RULES = "buf/validate/validate.proto"


def _validation_rules(path: Path) -> None:
    """Write the descriptor of validate.proto, which its wheel ships only compiled."""
    files = descriptor_pb2.FileDescriptorSet()
    rules = descriptor_pb2.FileDescriptorProto.FromString(validate_pb._DESC.proto.to_binary())
    for imported in (descriptor_pb2, duration_pb2, field_mask_pb2, timestamp_pb2):
        imported.DESCRIPTOR.CopyToProto(files.file.add())
    files.file.append(rules)
    path.write_bytes(files.SerializeToString(deterministic=True))


def _run(*arguments: str) -> None:
    if protoc.main(["protoc", *arguments]) != 0:
        sys.exit("protoc failed; its message is above")


def generate(out: Path) -> None:
    """Write everything that is derived from proto/ into the folder `out`."""
    sources = sorted(str(path) for path in (ROOT / "interchange").rglob("*.proto"))
    services = [path for path in sources if path.endswith("_service.proto")]
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        rules = Path(scratch) / "validate.binpb"
        _validation_rules(rules)
        common = [f"-I{ROOT}", f"-I{GOOGLE}", f"-I{WELL_KNOWN}", f"--descriptor_set_in={rules}"]
        _run(*common, f"--python_out={out}", f"--mypy_out=quiet:{out}", RULES, *sources)
        _run(*common, f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}", *services)
        _run(
            *common,
            f"--descriptor_set_out={out / 'interchange' / DESCRIPTORS}",
            "--include_imports",
            "--include_source_info",
            *sources,
        )


def main() -> None:
    """Regenerate into a folder, replacing what it held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    for package in ("interchange", "buf"):
        shutil.rmtree(out / package, ignore_errors=True)
    generate(out)


if __name__ == "__main__":
    main()
