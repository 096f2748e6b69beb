"""Compiled kernels against their Python twins."""

from tests.load import bench_kernels
from tests.load.scene import Scene
from tests.load.table import Figure, Limit, Reference, Report

LIMIT = Limit(least_ratio=bench_kernels.RATIO_MIN)
CHOICE = Limit(most=bench_kernels.MATCH_US_MAX, aim=bench_kernels.MATCH_US_AIM)


def run(scene: Scene) -> Report:
    """Measure; needs no stack."""
    scene.say(f"{bench_kernels.ELEMENTS:,} elements, kernels and twins by turns")
    how = (
        f"best run over {bench_kernels.ELEMENTS:,} elements of the same data; the reference is "
        "the Python twin, the ratio how many times faster the kernel is"
    )
    rows = bench_kernels.bench()
    figures = [
        Figure(row.name, row.kernel_ns, "ns", how, LIMIT,
               Reference("twin", row.twin_ns, "ns"), inverse=True)
        for row in rows
    ]  # fmt: skip
    figures += [
        Figure(
            f"match.best, {bench_kernels.ELEMENTS:,} agents",
            row.kernel_ns * bench_kernels.ELEMENTS / 1_000, "us",
            "best run of choosing 8 of them", CHOICE,
        )
        for row in rows
        if row.name == bench_kernels.MATCH
    ]  # fmt: skip
    return Report("kernels", figures)
