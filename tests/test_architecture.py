"""Tests of the rooms: who may import whom, what a file may hold, what it may be called."""

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("models", "consumers", "daemon")
ARROWS = {"models": set(), "consumers": set(), "daemon": {"models", "consumers"}}
THIRD_PARTY_AT_IMPORT = {
    "models": {"torch", "numpy", "safetensors"},
    "consumers": {"kafka", "numpy", "PIL"},
}
FOR_THE_DAEMON_ALONE = {"yaml", "pydantic", "structlog", "typer", "rich", "starlette", "uvicorn"}


def modules_of(room: str, root: Path = ROOT) -> dict[str, ast.Module]:
    """Parse every module of a room, by dotted name."""
    return {
        f"teacherd.{room}.{path.stem}": ast.parse(path.read_text(encoding="utf-8"), str(path))
        for path in sorted((root / room).glob("*.py"))
    }


def imported_names(tree: ast.Module, *, top_level: bool = False) -> Iterator[str]:
    """Yield the dotted modules that a module imports, anywhere or only when it is imported."""
    for node in _outside_functions(tree) if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        is_for_types = isinstance(child, ast.If) and "TYPE_CHECKING" == ast.unparse(child.test)
        is_late = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if not (is_for_types or is_late):
            yield child
            yield from _outside_functions(child)


def room_of(module: str) -> str | None:
    """Return the room of a dotted module: None for other people's; bare names count as ours."""
    parts = module.split(".")
    name = parts[1] if parts[0] == "teacherd" and len(parts) > 1 else parts[0]
    return name if name in ROOMS else None


def forbidden_arrows(room: str, root: Path = ROOT) -> list[str]:
    """Return the imports of a room that its arrows do not allow."""
    allowed = {room, *ARROWS[room]}
    return [
        f"{name} imports {imported}"
        for name, tree in modules_of(room, root).items()
        for imported in imported_names(tree)
        if imported.startswith(".") or room_of(imported) not in {None, *allowed}
    ]


def import_graph(room: str, root: Path = ROOT) -> dict[str, set[str]]:
    """Return which modules of a room import which others of it, late imports included."""
    modules = modules_of(room, root)
    return {
        name: {imported for imported in imported_names(tree) if imported in modules}
        for name, tree in modules.items()
    }


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_along_its_arrows(room: str) -> None:
    """The daemon knows models and consumers; nobody else knows anybody."""
    assert modules_of(room)

    assert [] == forbidden_arrows(room)


def test_a_forbidden_arrow_is_found(tmp_path: Path) -> None:
    """The check sees an import of another room, also a late one and a relative one."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "bad.py").write_text(
        "import os\nfrom teacherd.models.good import x\n"
        "def f():\n    from teacherd.consumers.record import Record\n    from . import y\n"
    )

    expected = [
        "teacherd.models.bad imports teacherd.consumers.record",
        "teacherd.models.bad imports .",
    ]
    assert expected == forbidden_arrows("models", tmp_path)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_no_import_cycle(room: str) -> None:
    """Inside a room too, what is lower never knows what is higher."""
    TopologicalSorter(import_graph(room)).prepare()


def test_an_import_cycle_is_found(tmp_path: Path) -> None:
    """The check sees a cycle, even one closed by a late import."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "a.py").write_text("from teacherd.models.b import x\n")
    (tmp_path / "models" / "b.py").write_text("def f():\n    import teacherd.models.a\n")

    with pytest.raises(CycleError):
        TopologicalSorter(import_graph("models", tmp_path)).prepare()


@pytest.mark.parametrize("room", sorted(THIRD_PARTY_AT_IMPORT))
def test_importing_a_room_needs_few_packages(room: str) -> None:
    """An inference service can import the models with torch, numpy and safetensors alone."""
    allowed = {"teacherd", *sys.stdlib_module_names, *THIRD_PARTY_AT_IMPORT[room]}
    needed = {
        (name, imported.split(".")[0])
        for name, tree in modules_of(room).items()
        for imported in imported_names(tree, top_level=True)
    }

    assert set() == {(name, package) for name, package in needed if package not in allowed}


def test_only_modules_of_kafka_import_its_client() -> None:
    """It takes a third of a second, and the stream log needs none of it."""
    users = {
        name.split(".")[-1]
        for name, tree in modules_of("consumers").items()
        if "kafka" in {imported.split(".")[0] for imported in imported_names(tree)}
    }

    assert set() == {name for name in users if not name.startswith("kafka_")}


@pytest.mark.parametrize("room", sorted(THIRD_PARTY_AT_IMPORT))
def test_only_the_daemon_knows_the_tools_of_a_process(room: str) -> None:
    """YAML, logging, command line and HTTP stay out of the other rooms, late imports included."""
    used = {
        imported.split(".")[0]
        for tree in modules_of(room).values()
        for imported in imported_names(tree)
    }

    assert set() == used & FOR_THE_DAEMON_ALONE


@pytest.mark.parametrize("room", ROOMS)
def test_an_init_file_holds_a_docstring_and_nothing_else(room: str) -> None:
    """No re-exports and no work at import: names are imported from where they are defined."""
    tree = modules_of(room)[f"teacherd.{room}.__init__"]

    assert ast.get_docstring(tree)
    assert 1 == len(tree.body)


def test_no_two_files_have_the_same_name() -> None:
    """A file is found by its name alone, and so is its test; a benchmark has its subject's."""
    folders = [*(ROOT / room for room in ROOMS), ROOT / "tests"]
    names = Counter(path.name for folder in folders for path in folder.rglob("*.py"))
    del names["__init__.py"]

    assert {} == {name: count for name, count in names.items() if count > 1}


def test_sources_are_ascii() -> None:
    """Code reads the same in every editor, terminal and locale."""
    folders = [*ROOMS, "tests", "benchmarks"]
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]

    assert [] == [str(path) for path in paths if not path.read_bytes().isascii()]
