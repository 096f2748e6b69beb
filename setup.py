"""Build the Cython kernels and map the generated protobuf tree.

Names, versions and dependencies live in pyproject.toml; here is only what
needs code. INTERCHANGE_NATIVE_DEBUG=1 turns on annotated sources, line
tracing and bounds checks; nothing else differs between the two builds.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, find_namespace_packages, setup

DEBUG = os.environ.get("INTERCHANGE_NATIVE_DEBUG") == "1"

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "embedsignature": True,
    "linetrace": DEBUG,
}


def kernels() -> list[Extension]:
    """Return one extension per native/*.pyx, so that a new kernel is a new file."""
    return [
        Extension(
            name=f"native.{source.stem}",
            sources=[source.as_posix()],
            extra_compile_args=["-O0", "-g"] if DEBUG else ["-O3"],
            define_macros=[("CYTHON_TRACE_NOGIL", "1")] if DEBUG else [],
        )
        for source in sorted(Path("native").glob("*.pyx"))
    ]


# Neither `services` nor `gen` needs an __init__.py everywhere to be found.
PACKAGES = [
    *find_namespace_packages(where=".", include=["native", "services", "services.*"]),
    *find_namespace_packages(where="gen", include=["interchange", "interchange.*", "buf.*"]),
    "interchange_envoy",
]

setup(
    packages=PACKAGES,
    # `envoy` itself is the name of a package of the Envoy wheel.
    package_dir={
        "interchange": "gen/interchange",
        "buf": "gen/buf",
        "interchange_envoy": "envoy",
    },
    package_data={"": ["*.pyi", "*.pxd", "*.sql", "*.lua", "*.binpb", "*.json", "py.typed"]},
    # Else whatever built the extensions, generated C included, is shipped too.
    include_package_data=False,
    ext_modules=cythonize(
        kernels(),
        compiler_directives=DIRECTIVES,
        annotate=DEBUG,
        force=DEBUG,
    ),
    zip_safe=False,
)
