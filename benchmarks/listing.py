"""Every benchmark by name; each one's libraries are loaded only when it runs."""

from collections.abc import Iterator
from typing import Literal, assert_never, get_args

from benchmarks.measurement import Measurement, Size, Skipped

Name = Literal[
    "train_step_ratio",
    "gpu_step_ratio",
    "patches_ratio",
    "ssl_transform_share",
    "surface_metrics_speedup",
    "evaluation_ratio",
    "server_memory_ratio",
    "network_memory_ratio",
    "round_overhead_share",
    "site_round_s",
    "secagg_client_speedup_vs_flwr",
    "secagg_client_vs_keystream",
    "secagg_extra_mib",
    "import_cli_s",
]
NAMES: tuple[Name, ...] = get_args(Name)


def run(name: Name, *, size: Size) -> Iterator[Measurement | Skipped]:
    """Carry out one benchmark; all but one give one figure."""
    match name:
        case "train_step_ratio":
            from benchmarks import train_step_ratio as benchmark
        case "gpu_step_ratio":
            from benchmarks import gpu_step_ratio

            yield from gpu_step_ratio.measure_each(size)
            return
        case "patches_ratio":
            from benchmarks import patches_ratio as benchmark
        case "ssl_transform_share":
            from benchmarks import ssl_transform_share as benchmark
        case "surface_metrics_speedup":
            from benchmarks import surface_metrics_speedup as benchmark
        case "evaluation_ratio":
            from benchmarks import evaluation_ratio as benchmark
        case "server_memory_ratio":
            from benchmarks import server_memory_ratio as benchmark
        case "network_memory_ratio":
            from benchmarks import network_memory_ratio as benchmark
        case "round_overhead_share":
            from benchmarks import round_overhead_share as benchmark
        case "site_round_s":
            from benchmarks import site_round_s as benchmark
        case "secagg_client_speedup_vs_flwr":
            from benchmarks import secagg_client_speedup_vs_flwr as benchmark
        case "secagg_client_vs_keystream":
            from benchmarks import secagg_client_vs_keystream as benchmark
        case "secagg_extra_mib":
            from benchmarks import secagg_extra_mib as benchmark
        case "import_cli_s":
            from benchmarks import import_cli_s as benchmark
        case _:
            assert_never(name)
    yield benchmark.measure(size)
