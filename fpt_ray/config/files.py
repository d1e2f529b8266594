"""Read a sweep file's text, and say what to do where that fails."""

from __future__ import annotations

import difflib
from pathlib import Path

from fpt_ray.config.document import Complaint, Place
from fpt_ray.config.yaml_mistakes import place_in
from fpt_ray.errors import SweepFileError


def read_text(path: Path) -> str:
    """Read a sweep file.

    Raises:
        SweepFileError: if there is no such file, or it is not UTF-8 text.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text = error.object[: error.start].decode("utf-8-sig")
        place = place_in(text, len(text), str(path))
        complaint = Complaint(place, "the file is not UTF-8 text", "save it as UTF-8")
    except OSError as error:
        complaint = Complaint(Place(str(path)), *_explain(error, path))
    raise SweepFileError((complaint.problem(),)) from None


def _explain(error: OSError, path: Path) -> tuple[str, str]:
    if isinstance(error, FileNotFoundError):
        return "there is no such file", _suggest_file(path)
    if isinstance(error, IsADirectoryError):
        return "this is a directory, not a sweep file", _suggest_file(path / "sweep.yaml")
    if isinstance(error, PermissionError):
        return "no permission to read the file", f"chmod +r {path}"
    return f"the file cannot be read: {error.strerror or error}", "check the path"


def _suggest_file(path: Path) -> str:
    try:
        names = sorted(found.name for found in path.parent.glob("*.y*ml"))
    except OSError:
        names = []
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6) or names[:1]
    return str(path.parent / near[0]) if near else "give the path of a YAML file"
