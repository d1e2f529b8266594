"""The repository keeps its own promises: sweeps, README, public names, errors."""

from __future__ import annotations

import os
import pickle
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import fpt_ray
from fpt_ray.errors import FptRayError, Problem, SweepFileError

REPOSITORY = Path(__file__).parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
SWEEPS = sorted((REPOSITORY / "sweeps").rglob("*.yaml"))


def relative(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


# Sweep files


def test_sweep_files_ship() -> None:
    assert REPOSITORY / "sweeps" / "quickstart.yaml" in SWEEPS


@pytest.mark.parametrize("path", SWEEPS, ids=relative)
def test_every_sweep_file_validates(path: Path) -> None:
    from fpt_ray.config import load_sweep

    sweep = load_sweep(path)
    assert sweep.name == path.stem
    assert sweep.reference_arm in sweep.arms


def test_every_task_has_a_sweep_file_and_a_row_in_the_table_of_data() -> None:
    from fpt_ray.config import load_sweep
    from fpt_ray.config.tasks import TASKS

    table = (REPOSITORY / "docs" / "data.md").read_text(encoding="utf-8")
    assert {load_sweep(path).task.name for path in SWEEPS} == set(TASKS)
    assert {name for name in TASKS if f"\n| `{name}` |" in table} == set(TASKS)


def test_the_sweep_file_in_the_readme_validates(tmp_path: Path) -> None:
    from fpt_ray.config import load_sweep

    (shown,) = re.findall(r"^```yaml\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    path = tmp_path / "readme.yaml"
    path.write_text(shown, encoding="utf-8")
    assert len(load_sweep(path).arms) == 4


# README


def code_blocks() -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def tree_paths() -> list[str]:
    """The paths that the README's tree names, folders with a slash at their end."""
    (tree,) = (block for block in code_blocks() if block.startswith("fpt_ray/"))
    folders: list[str] = []
    paths = []
    for line in tree.splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        folders[depth:] = [name]
        paths.append("".join(folders))
    return paths


def test_the_readme_tree_names_only_what_exists() -> None:
    missing = [path for path in tree_paths() if not (REPOSITORY / path).exists()]
    assert missing == []


def test_the_readme_tree_names_every_module() -> None:
    package = REPOSITORY / "fpt_ray"
    modules = {f"{path.parent.name}/" for path in package.glob("*/*.py")}
    modules |= {path.name for path in package.glob("*.py")} - {"__init__.py"}
    assert {f"fpt_ray/{module}" for module in modules} - set(tree_paths()) == set()


def test_the_readme_tree_names_every_sweep_file() -> None:
    assert set(map(relative, SWEEPS)) - set(tree_paths()) == set()


def test_the_readme_links_exist() -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", README)
    local = [target for target in targets if "://" not in target]
    assert local != []
    assert [target for target in local if not (REPOSITORY / target).exists()] == []


def shell_commands() -> Iterator[list[str]]:
    pages = (REPOSITORY / "docs" / name for name in ("data.md", "cluster.md"))
    texts = README + "".join(page.read_text(encoding="utf-8") for page in pages)
    for block in re.findall(r"^```bash\n(.*?)^```", texts, flags=re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def test_the_readme_names_existing_make_targets() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = {words[1] for words in shell_commands() if words[0] == "make"}
    targets |= set(re.findall(r"`make ([a-z-]+)", README))
    assert "quickstart" in targets
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, re.M)] == []


@cache
def help_of(command: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", "from fpt_ray.cli import main; main()", *command.split(), "--help"],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def readme_invocations() -> list[tuple[str, list[str]]]:
    """Each use of our command in README and docs: the subcommand and its flags."""
    found = []
    for words in shell_commands():
        line = " ".join(words)
        if match := re.search(r"(?:^|\s)fpt-ray ((?:data )?[a-z][a-z-]*)(.*)", line):
            found.append((match.group(1), re.findall(r"--[a-z-]+", match.group(2))))
        elif match := re.search(r"-m fpt_ray\.sweep(.*)", line):
            found.append(("run", re.findall(r"--[a-z-]+", match.group(1))))
    return found


def test_the_readme_uses_existing_commands_and_flags() -> None:
    invocations = readme_invocations()
    shown = {command for command, _ in invocations}
    assert {"run", "plan", "validate", "report", "data prepare", "data export"} <= shown
    unknown = [
        f"{command} {flag}"
        for command, flags in invocations
        for flag in ("", *flags)
        if flag not in help_of(command)
    ]
    assert unknown == []


# Package


def test_the_public_names_are_those_listed() -> None:
    assert fpt_ray.__all__ == ["__version__"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", fpt_ray.__version__)


def test_the_changelog_has_a_section_for_changes() -> None:
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{fpt_ray.__version__}]" in changelog or "## [Unreleased]" in changelog


def error_classes(root: type[FptRayError]) -> Iterator[type[FptRayError]]:
    yield root
    for subclass in root.__subclasses__():
        yield from error_classes(subclass)


def example_of(error_class: type[FptRayError]) -> FptRayError:
    if issubclass(error_class, SweepFileError):
        return error_class((Problem("no such key", "a.yaml:1:2", "write seed"), Problem("empty")))
    return error_class("cannot be read", "runs/a", "use another name")


@pytest.mark.parametrize("error_class", list(error_classes(FptRayError)))
def test_errors_survive_pickling(error_class: type[FptRayError]) -> None:
    error = example_of(error_class)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is error_class
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


# Files


def tracked_texts() -> Iterator[tuple[str, str]]:
    """Every tracked file that is text: as for git, one with a zero byte is not."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True
    )
    if listed.returncode != 0:
        pytest.skip("needs a git checkout; git lists no files here")
    for name in filter(None, listed.stdout.split("\0")):
        path = REPOSITORY / name
        content = path.read_bytes() if path.is_file() else b"\0"
        if b"\0" not in content:
            yield name, content.decode("utf-8", errors="ignore")


def test_no_file_depends_on_its_neighbourhood() -> None:
    beside = "../" + "shared"
    assert [name for name, text in tracked_texts() if beside in text and name != ".ci/run"] == []


def test_no_unfinished_marks_are_left() -> None:
    mark = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b|raise NotImplemented" + "Error")
    found = [name for name, text in tracked_texts() if name != "LICENSE" and mark.search(text)]
    assert found == []


def test_the_ci_script_is_executable() -> None:
    assert os.access(REPOSITORY / ".ci" / "run", os.X_OK)
