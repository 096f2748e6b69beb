"""Host several services in one process: `python -m services trade,position` or `all`."""

import importlib
import pkgutil
import sys
from pathlib import Path

import services
from services.common.host import Wire, main


def hosted() -> list[str]:
    """Return the services that can be hosted: packages whose __main__ has a wire."""
    folders = [Path(root) for root in services.__path__]
    return sorted(
        module.name
        for module in pkgutil.iter_modules(services.__path__)
        if any(_has_wire(folder / module.name / "__main__.py") for folder in folders)
    )


def wires(argument: str) -> list[Wire]:
    """Return the wires of the named services; raises ValueError for an unknown name."""
    known = hosted()
    names = known if argument == "all" else [name.strip() for name in argument.split(",")]
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(f"no such service: {', '.join(unknown)}; known: all, {', '.join(known)}")
    modules = [importlib.import_module(f"services.{name}.__main__") for name in names]
    return [module.wire for module in modules]


def _has_wire(path: Path) -> bool:
    # Read, not imported: a package that hosts nothing may need what is not installed here.
    return path.is_file() and "async def wire(" in path.read_text()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python -m services all|<name>,…   known: {', '.join(hosted())}")
    try:
        chosen = wires(sys.argv[1])
    except ValueError as error:
        sys.exit(str(error))
    main(*chosen)
