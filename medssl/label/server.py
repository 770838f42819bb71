"""Serve a folder of scans to 3D Slicer and other viewers of MONAI Label: ``python -m medssl.label.server STUDIES``."""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import re
import socket
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import uvicorn
from filelock import FileLock, Timeout
from monailabel.config import settings
from monailabel.utils.others.generic import init_log_config

from medssl.atomic import replace
from medssl.label.project import STATE, Project

NAMED = {"image", "id", "label", "tag", "session_id", "user"}  # what requests name files and folders by
# What viewers ask for. MONAI Label would also take scans and weights from anybody, delete them, and call other servers.
SERVED = re.compile(
    r"GET /((docs|openapi\.json|favicon\.ico|static/.*)?|(info|train|scoring|batch/infer|logs|datastore|auth|scans)/?)"
    r"|GET /(datastore/(image|label)(/info)?|auth/token/valid|scans/map\.png)/?"
    r"|POST /((activelearning|batch/infer|infer|scoring|train)/[\w-]+|auth/token)/?"
    r"|PUT /datastore/(label|label/info|image/info)/?"
    r"|DELETE /(train|scoring|batch/infer)/?"
)
MAIN = "from medssl.label.app import App  # noqa: F401\n"  # MONAI Label loads an app by its main.py


class Guard:
    """Refuse requests that come from web pages of others, lead out of the folder, or ask for what no viewer needs.

    MONAI Label answers any page in a browser on this machine, takes any path for the id of a scan or the tag of a
    label, and any upload for a scan or a model.

    Args:
        app: ASGI application to stand in front of.
        own: whether it is reached from this machine alone, by the names of this machine.
        max_bytes: largest body of a request.
    """

    def __init__(self, app: Any, own: bool = True, max_bytes: int = 2**31) -> None:
        self.app, self.own, self.max_bytes = app, own, max_bytes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if reason := self.objection(scope):
            await refuse(send, *reason)
            return
        taken, answered = 0, False

        async def bounded() -> Any:  # a body in chunks does not say how long it is
            nonlocal taken, answered
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self.max_bytes:
                if not answered:
                    answered = True
                    await refuse(send, 413, f"a request may have {self.max_bytes} bytes.")
                return {"type": "http.disconnect"}
            return message

        async def answer(message: Any) -> None:
            if not answered:
                await send(message)

        try:
            await self.app(scope, bounded, answer)
        except Exception:  # what it makes of a client that is gone
            if not answered:
                raise

    def objection(self, scope: Any) -> tuple[int, str] | None:
        """Return status and reason for which a request is refused, None for one that is not."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return 403, f"pages of {origin} may not use this server."
        if self.own and not is_own(urlsplit(f"//{host}").hostname or ""):  # a name that somebody gave this machine
            return 403, f"this server is reached as 127.0.0.1 or localhost, not as {host}."
        if not SERVED.fullmatch(f"{scope['method']} {scope['path']}"):
            return 404, f"{scope['method']} {scope['path']} is not served here; scans are copied into the folder."
        for key, value in parse_qsl(scope["query_string"].decode()):
            if key in NAMED and (re.search(r"[/\\\0]", value) or not value.strip(". ")):
                return 400, f"{key} must be a name, not a path, got {value!r}."
        size = headers.get(b"content-length", "")
        if size.isdigit() and int(size) > self.max_bytes:
            return 413, f"a request may have {self.max_bytes} bytes, this one has {size}."
        return None


async def refuse(send: Any, status: int, reason: str) -> None:
    """Answer a request with a reason."""
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": reason.encode()})


def is_own(host: str) -> bool:
    """Whether a name or an address is of this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def check_host(host: str, authenticated: bool) -> None:
    """Refuse to be reached from other machines by whoever comes.

    Raises:
        ValueError: if the address is not this machine's own and nobody has to log in.
    """
    if not is_own(host) and not authenticated:
        raise ValueError(
            f"{host} can be reached from other machines, and nobody would have to log in: serve on 127.0.0.1, or set "
            "MONAI_LABEL_AUTH_ENABLE=true and an identity provider, see MONAI Label's documentation."
        )


def configure(
    studies: str | Path,
    labels: str,
    modality: str = "MR",
    port: int = 8000,
    small: bool = True,
    pattern: str = "{subject}",
) -> FileLock:
    """Tell MONAI Label what to serve; its app folder lies beside what is made of the scans.

    Args:
        studies: folder of the scans.
        labels: names of the organs, separated by commas, in the order of their ids.
        modality: of the scans.
        port: of the server.
        small: train the small networks, for a CPU.
        pattern: of the names of the scans, see :py:class:`medssl.label.project.Project`.

    Returns:
        What keeps a second server off the folder.

    Raises:
        FileNotFoundError: if there is no such folder, or no scan in it.
        ValueError: if a label has no name, or that of another; if they are not those that the folder was annotated
            with; if the pattern has no subject or fits no scan, two scans have one name, or the folder is served
            already.
    """
    folder = Path(studies).resolve()
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; give one of NIfTI scans.")
    files = sorted(file.name for file in folder.iterdir() if file.name.endswith((".nii", ".nii.gz")))
    scans = [file.removesuffix(".gz").removesuffix(".nii") for file in files]
    if not scans:
        raise FileNotFoundError(f"there is no .nii or .nii.gz in {folder}; give the folder that holds the scans.")
    if twice := [scan for scan, count in Counter(scans).items() if count > 1]:
        raise ValueError(f"{', '.join(twice)}: the .nii and the .nii.gz are one scan here; move one of them.")
    organs = [name.strip() for name in labels.split(",")]
    if not all(organs) or len({name.lower() for name in organs}) < len(organs):
        raise ValueError(f"labels must be different names separated by commas, such as liver,spleen, got {labels!r}.")
    state = folder / STATE
    before = json.loads((state / "organs.json").read_text("utf-8")) if (state / "organs.json").is_file() else []
    if organs[: len(before)] != before and any((folder / "labels").rglob("*.nii.gz")):
        raise ValueError(f"{folder} was annotated with {','.join(before)}: give these first, new ones after them.")
    project = Project(folder, organs, modality, small=small, pattern=pattern)
    if not any(project.fits(scan) for scan in scans):
        raise ValueError(f"pattern {pattern!r} fits none of the scans, such as {scans[0]}.")
    state.mkdir(exist_ok=True)
    lock = FileLock(state / "server.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(f"{folder} is served already; stop that server first.") from None
    replace(state / "organs.json", partial(Path.write_text, data=json.dumps(organs), encoding="utf-8"))
    app = state / "app"
    app.mkdir(exist_ok=True)
    (app / "main.py").write_text(MAIN, encoding="utf-8")
    settings.MONAI_LABEL_APP_DIR, settings.MONAI_LABEL_STUDIES = str(app), str(folder)
    settings.MONAI_LABEL_APP_CONF = {
        "labels": labels,
        "modality": modality,
        "small": str(small),
        "pattern": pattern,
    }
    settings.MONAI_LABEL_SERVER_PORT = port
    settings.MONAI_LABEL_AUTO_UPDATE_SCORING = False  # trainings do it, where something has changed
    settings.MONAI_LABEL_SESSIONS = False  # uploads of scans that belong to no folder
    return lock


def check_port(host: str, port: int) -> None:
    """Refuse a port that is taken.

    Raises:
        OSError: if somebody listens there, or nobody may.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            raise OSError(f"port {port} cannot be served on ({error.strerror}); give another one by --port.") from error


def environment() -> dict[str, str]:
    """Return the settings as a training reads them, which is a process of its own."""
    names = ("APP_DIR", "STUDIES", "APP_CONF", "AUTO_UPDATE_SCORING", "SESSIONS")
    values = {f"MONAI_LABEL_{name}": getattr(settings, f"MONAI_LABEL_{name}") for name in names}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


def main(arguments: list[str] | None = None) -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m medssl.label.server", description=__doc__)
    parser.add_argument("studies", type=Path, help="folder of the scans, NIfTI")
    parser.add_argument("--labels", required=True, help="names of the organs, such as liver,spleen: ids 1, 2, ...")
    parser.add_argument("--modality", required=True, help="of the scans, which decides the window: CT, MR, ...")
    parser.add_argument(
        "--pattern",
        default="{subject}",
        help="of the scans' names, such as {subject}_{visit} where a person has several",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--full", action="store_true", help="the papers' networks instead of small ones; takes a GPU")
    given = parser.parse_args(arguments)
    try:
        check_host(given.host, settings.MONAI_LABEL_AUTH_ENABLE)
        check_port(given.host, given.port)
        lock = configure(given.studies, given.labels, given.modality, given.port, not given.full, given.pattern)
    except (OSError, ValueError) as error:
        sys.exit(f"medssl: {error}")
    os.environ.update(environment())
    os.environ.setdefault("PYTHONPATH", "")  # MONAI Label adds to it
    from monailabel.app import app

    from medssl.label.page import router

    app.include_router(router)
    address = f"http://{given.host}:{given.port}"
    sys.stdout.write(f"In 3D Slicer, MONAI Label: {address}\nIn a browser: {address}/scans/\n")
    sys.stdout.flush()
    logs = init_log_config(None, settings.MONAI_LABEL_APP_DIR, "app.log")  # which /logs/ shows
    with lock:
        uvicorn.run(Guard(app, is_own(given.host)), host=given.host, port=given.port, log_config=logs)


if __name__ == "__main__":
    main()
