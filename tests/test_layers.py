"""Imports in the package point down only, keep to their layer, and name declared dependencies."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
PACKAGE = REPOSITORY / "fpt_ray"

# A part is a module or a folder directly below fpt_ray; "__init__" is the package itself.
LAYERS = {
    **dict.fromkeys(("__init__", "errors", "seeding", "node_cache", "imports", "cores"), 0),
    **dict.fromkeys(("config", "storage"), 1),
    **dict.fromkeys(("tasks", "models", "records"), 2),
    **dict.fromkeys(("training", "data"), 3),
    **dict.fromkeys(("engine", "trial"), 4),
    "search": 5,
    **dict.fromkeys(("orchestrate", "report", "plan", "attention", "verify"), 6),
    "cli": 7,
    "sweep": 8,
}
MAY_IMPORT_RAY = {"data", "engine", "trial", "search", "orchestrate"}
HEAVY = {"torch", "ray", "transformers"}
NEVER_HEAVY = {
    "__init__",
    "errors",
    "seeding",
    "imports",
    "cores",
    "config",
    "storage",
    "records",
    "report",
}
LIGHT_AT_IMPORT = {"cli", "sweep"}
DISTRIBUTIONS = {"PIL": "pillow", "ruamel": "ruamel-yaml", "pydantic_core": "pydantic"}


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module, as seen from the part that imports it."""

    part: str
    where: str
    module: str
    runs_at_import: bool

    @property
    def root(self) -> str:
        return self.module.split(".")[0]

    def target(self, package: Path) -> str:
        """The part of the package that this imports; "__init__" for a plain name of the package."""
        below = self.module.split(".")[1:2]
        is_part = below and (
            (package / below[0]).is_dir() or (package / f"{below[0]}.py").is_file()
        )
        return below[0] if is_part else "__init__"


def find_imports(package: Path) -> Iterator[Import]:
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package)
        part = relative.parts[0].removesuffix(".py")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        deferred = _nodes_that_do_not_run_at_import(tree)
        for node in ast.walk(tree):
            for module in _modules(node, package=(package.name, *relative.parts[:-1])):
                where = f"{package.name}/{relative}:{node.lineno}"
                yield Import(part, where, module, runs_at_import=node not in deferred)


def _nodes_that_do_not_run_at_import(tree: ast.Module) -> set[ast.AST]:
    holders = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"))
    )
    return {inner for holder in holders for inner in ast.walk(holder)}


def _modules(node: ast.AST, package: tuple[str, ...]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    anchor = package[: len(package) - node.level + 1] if node.level else ()
    base = ".".join((*anchor, *([node.module] if node.module else [])))
    return [f"{base}.{alias.name}" for alias in node.names]


def find_violations(package: Path, declared: set[str]) -> list[str]:
    """Every import below ``package`` that breaks a rule, as ``FILE:LINE: why``."""
    found = [
        f"{import_.where}: {why}"
        for import_ in find_imports(package)
        if (why := _why_forbidden(import_, package, declared))
    ]
    parts = {path.stem for path in package.iterdir() if path.suffix == ".py" or _is_package(path)}
    return [*found, *(f"{part} has no layer" for part in sorted(parts - LAYERS.keys()))]


def _is_package(path: Path) -> bool:
    return path.is_dir() and any(path.glob("*.py"))


def _why_forbidden(import_: Import, package: Path, declared: set[str]) -> str | None:
    if import_.root == package.name:
        return _why_not_down(import_.part, import_.target(package))
    if import_.root in sys.stdlib_module_names:
        return None
    if DISTRIBUTIONS.get(import_.root, _canonical(import_.root)) not in declared:
        return f"{import_.root} is not declared in pyproject.toml"
    if import_.root == "ray" and import_.part not in MAY_IMPORT_RAY:
        return f"{import_.part} must not import ray"
    return _why_too_heavy(import_)


def _why_not_down(part: str, target: str) -> str | None:
    if part == target or target == "__init__":
        return None
    if LAYERS.get(target, -1) >= LAYERS.get(part, -1):
        return f"{part} must not import {target}, which is not below it"
    return None


def _why_too_heavy(import_: Import) -> str | None:
    if import_.root not in HEAVY:
        return None
    if import_.part in NEVER_HEAVY:
        return f"{import_.part} must not import {import_.root}"
    if import_.part in LIGHT_AT_IMPORT and import_.runs_at_import:
        return f"{import_.part} must not import {import_.root} at import time"
    return None


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared_distributions() -> set[str]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [*project["dependencies"], *project["optional-dependencies"]["demo"]]
    names = [re.match(r"[A-Za-z0-9._-]+", requirement) for requirement in requirements]
    return {_canonical(name.group()) for name in names if name}


def test_imports_keep_to_their_layers() -> None:
    assert find_violations(PACKAGE, declared_distributions()) == []


def test_the_package_is_not_empty() -> None:
    assert len(list(find_imports(PACKAGE))) > 100


@pytest.mark.parametrize(
    ("file", "line", "why"),
    [
        ("errors.py", "from fpt_ray.config import load", "errors must not import config"),
        ("config/a.py", "from fpt_ray import storage", "config must not import storage"),
        ("config/a.py", "from ..storage import x", "config must not import storage"),
        ("config/a.py", "import fpt_ray.training.trainer", "config must not import training"),
        ("config/a.py", "def f():\n    import torch", "config must not import torch"),
        ("training/a.py", "import ray.data", "training must not import ray"),
        ("report/a.py", "from transformers import x", "report must not import transformers"),
        ("cli.py", "import torch", "cli must not import torch at import time"),
        ("cli.py", "def f():\n    from fpt_ray.sweep import main", "cli must not import sweep"),
        ("trial.py", "import requests", "requests is not declared in pyproject.toml"),
        ("tools.py", "import json", "tools has no layer"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, file: str, line: str, why: str) -> None:
    package = _small_package(tmp_path)
    (package / file).write_text(line)
    (violation,) = find_violations(package, declared=HEAVY)
    assert violation.endswith(why) or f"{why}, " in violation


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("cli.py", "def f():\n    import torch"),
        ("cli.py", "from fpt_ray import __version__"),
        ("search/a.py", "import ray\nfrom fpt_ray.search import b"),
        ("config/a.py", "from . import b\nfrom ..errors import FptRayError"),
    ],
)
def test_an_allowed_import_is_not_reported(tmp_path: Path, file: str, line: str) -> None:
    package = _small_package(tmp_path)
    (package / file).write_text(line)
    assert find_violations(package, declared=HEAVY) == []


def _small_package(parent: Path) -> Path:
    package = parent / "fpt_ray"
    for part in ("config", "training", "report", "search"):
        (package / part).mkdir(parents=True)
        (package / part / "__init__.py").touch()
    for module in ("__init__", "errors", "storage", "cli", "sweep"):
        (package / f"{module}.py").touch()
    return package


@pytest.mark.parametrize(
    "module", ["errors", "seeding", "config", "storage", "records", "report", "cli", "sweep"]
)
def test_a_light_module_loads_nothing_heavy(module: str) -> None:
    program = f"import sys, fpt_ray.{module}; print(*({HEAVY!r} & sys.modules.keys()))"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == []
