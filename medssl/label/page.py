"""The annotation server's own page: which scans are next and why, a map of all, what was trained and what left out."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse, HTMLResponse
from jinja2 import Environment, PackageLoader
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.async_tasks.task import AsyncTask

from medssl import __version__
from medssl.engine import read_receipt
from medssl.label.embedding_map import SHOWN, plot_map
from medssl.label.project import SLICE_AXIS, Project
from medssl.label.suggestions import suggest

router = APIRouter(prefix="/scans", dependencies=[Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))])


@router.get("/", response_class=HTMLResponse, include_in_schema=False)
def show_scans(request: Request) -> str:
    """Return the page, and draw the map anew."""
    app = app_instance()
    project: Project = app.project
    annotated = app.datastore().get_labeled_images()
    pool = project.pool(annotated, with_uncertainty=True)
    suggestions = [] if pool is None else list(islice(suggest(pool), SHOWN))
    if pool is not None:
        plot_map(pool, suggestions, SLICE_AXIS, map_of(project))
    weights = {kind: project.weights(kind) for kind in ("pretrain", "finetune")}
    receipts = {kind: None if file is None else read_receipt(file) for kind, file in weights.items()}
    task = AsyncTask.status("train")[0]
    said = [line for line in (task or {}).get("details", []) if line.strip()]
    errors = [line for line in said if "Error" in line]
    template = Environment(loader=PackageLoader("medssl.label", "."), autoescape=True).get_template("page.html")
    return template.render(
        folder=project.folder.name,
        count=len(app.datastore().list_images()),
        annotated=len(annotated),
        address=str(request.base_url).rstrip("/"),
        task=task,
        said=(errors or said or [""])[-1],
        suggestions=suggestions,
        stamp=map_of(project).stat().st_mtime_ns if suggestions else 0,
        left_out=project.left_out,
        version=__version__,
        **receipts,
    )


@router.get("/map.png", include_in_schema=False)
def show_map() -> FileResponse:
    """Return the map as the page drew it last."""
    return FileResponse(map_of(app_instance().project))


def map_of(project: Project) -> Path:
    """Return the file of the map."""
    return project.state / "map.png"
