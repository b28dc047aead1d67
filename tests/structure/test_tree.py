"""The shape of the tree: who may import torch, how long a file is, what the project says."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = sorted((REPOSITORY / "fedvol").rglob("*.py"))

TORCH_FREE = (
    "fedvol.audit",
    "fedvol.cli.main",
    "fedvol.client.hospital",
    "fedvol.data",
    "fedvol.config",
    "fedvol.federation",
    "fedvol.identity",
    "fedvol.plan",
    "fedvol.privacy",
    "fedvol.report",
    "fedvol.server",
    "fedvol.server.service",
    "fedvol.server.coordinator_process",
    "fedvol.site",
    "fedvol.store",
    "fedvol.transport",
)


IMPORTS = """
import importlib, sys
for module in sys.argv[1:]:
    importlib.import_module(module)
    print(module, *sorted({"monai", "torch"} & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def imported() -> dict[str, list[str]]:
    """Per torch-free package, the heavy libraries that are there once it is imported.

    They are imported one after the other: a start of its own would take each a second.
    """
    words = [sys.executable, "-c", IMPORTS, *TORCH_FREE]
    told = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return {module: heavy for module, *heavy in map(str.split, told.splitlines())}


@pytest.mark.parametrize("module", TORCH_FREE)
def test_package_does_not_import_torch(imported: dict[str, list[str]], module: str) -> None:
    assert imported[module] == []


def test_help_imports_neither_torch_nor_flower() -> None:
    code = (
        "import sys\nfrom fedvol.cli.main import main\nmain(['--help'])\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'monai', 'flwr')))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("library", "doors"),
    [
        ("cryptography", ("identity/", "privacy/secagg/")),
        (
            "flwr",
            (
                "transport/engine.py",
                "transport/network/fleet_engine.py",
                "transport/network/superlink_engine.py",
            ),
        ),
        ("sqlalchemy", ("store/",)),
        ("alembic", ("store/",)),
        ("typer", ("cli/",)),
        ("monai", ("models/", "data/", "tasks/", "ssl/", "validation/")),
        ("nibabel", ("data/",)),
        ("blosc2", ("data/",)),
        ("jinja2", ("report/",)),
        ("PIL", ("report/",)),
    ],
)
def test_one_library_one_door(library: str, doors: tuple[str, ...]) -> None:
    pattern = re.compile(rf"^\s*(?:import|from)\s+{library}\b", re.MULTILINE)
    users = {
        str(path.relative_to(REPOSITORY / "fedvol"))
        for path in SOURCES
        if pattern.search(path.read_text())
    }
    assert users, f"{library} is used nowhere; drop it from this table"
    assert not {user for user in users if not user.startswith(doors)}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_file_is_one_idea_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 500


MAX_LINES, MAX_ARGUMENTS = 80, 10


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_function_fits_a_screen_and_a_call(path: Path) -> None:
    """Signature and docstring included; `self` is no argument of a call."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        assert node.end_lineno is not None
        assert node.end_lineno - node.lineno < MAX_LINES, f"{node.name} is too long"
        given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        names = [one.arg for one in given if one.arg not in ("self", "cls")]
        assert len(names) <= MAX_ARGUMENTS, f"{node.name} wants a config object"


def test_nothing_executes_what_a_message_names() -> None:
    banned = re.compile(
        r"(?<!\.)\b(eval|exec)\(|\bpickle\b|\btorch\.load\b|import_module\(|__import__\("
    )
    guilty = [str(path) for path in SOURCES if banned.search(path.read_text())]
    assert not guilty


def test_every_error_has_a_code_of_its_own() -> None:
    from fedvol import errors

    classes: list[type[errors.FedvolError]] = [errors.FedvolError]
    for cls in classes:  # grows as it goes, until the tree has no more
        classes += cls.__subclasses__()
    classes = [cls for cls in classes if cls.__module__.startswith("fedvol.")]
    assert {cls.__name__ for cls in classes} <= set(errors.__all__)
    codes = [cls.code for cls in classes]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"FV-[A-Z]+-?\d{3}|FV-000", code) for code in codes)
    assert all(cls.title and cls.__doc__ for cls in classes)


LEVELLED = [
    path
    for path in SOURCES
    if path.match("models/*.py")
    or path.match("plan/topology.py")
    or path.match("plan/network.py")
    or path.match("plan/memory.py")
    or path.match("config/levels.py")
    or path.match("config/network_checks.py")
    or path.match("config/patch_rule.py")
]
KEYS = {"convs_per_stage", "convs_per_decoder_stage", "blocks_per_stage", "units_per_stage"}
"""Keys of a study are written with the papers' word."""


@pytest.mark.parametrize("path", LEVELLED, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_stage_is_one_of_a_run_and_a_network_has_levels(path: Path) -> None:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    named = {getattr(node, field, None) for node in nodes for field in ("id", "name", "arg")}
    assert not {name for name in named - KEYS if "stage" in str(name).lower()}
