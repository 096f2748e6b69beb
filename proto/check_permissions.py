"""Check that every rpc of the descriptor set declares a permission that some role holds."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from google.protobuf import descriptor_pb2
from interchange.options.v1 import options_pb2

ROOT = Path(__file__).resolve().parent.parent
DESCRIPTORS = ROOT / "gen" / "interchange" / "descriptors.binpb"
PERMISSION = re.compile(r"[a-z]+\.[a-z]+")


def problems(files: descriptor_pb2.FileDescriptorSet, held: frozenset[str]) -> Iterator[str]:
    """Yield what is wrong, an rpc a line."""
    for file in files.file:
        if not file.package.startswith("interchange."):
            continue
        for service in file.service:
            for method in service.method:
                name = f"{file.package}.{service.name}/{method.name}"
                permission = method.options.Extensions[options_pb2.permission]
                if not PERMISSION.fullmatch(permission):
                    yield f"{name}: permission was {permission!r}, expected <service>.<verb>"
                elif permission not in held:
                    yield f"{name}: no role of services/common/identity.py holds {permission}"


def main() -> None:
    """Print the problems; exit with 1 if there are any."""
    sys.path.insert(0, str(ROOT))
    from services.common.identity import ROLES

    files = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes())
    found = list(problems(files, frozenset().union(*ROLES.values())))
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
