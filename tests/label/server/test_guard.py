"""What stands in front of the annotation server."""

import pytest

pytest.importorskip("monailabel", reason="make test-label installs MONAI Label and runs these")

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from medssl.label.server import Guard


async def answer(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{len(await request.body())} bytes")


ANYTHING = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "PUT", "POST", "DELETE", "OPTIONS"])])
HERE = "http://127.0.0.1:8000"


@pytest.fixture
def client():
    return TestClient(Guard(ANYTHING, max_bytes=1000), base_url=HERE)


@pytest.mark.parametrize(
    "request_line",
    [
        *("GET /info/", "GET /", "GET /datastore/?output=stats", "GET /datastore/image?image=a", "GET /train/"),
        *("POST /activelearning/next_scan", "POST /infer/segmentation?image=sub-01 (1)+c,d", "POST /train/pretrain"),
        *(
            "PUT /datastore/label?image=a&tag=final",
            "DELETE /train/",
            "POST /batch/infer/segmentation?images=unlabeled",
        ),
        *("GET /auth/", "POST /auth/token", "GET /logs/?lines=10"),
    ],
)
def test_what_viewers_ask_for_is_passed_on(request_line, client):
    assert client.request(*request_line.split(" ", 1)).text == "0 bytes"


@pytest.mark.parametrize(
    "request_line",
    [
        *(
            "PUT /datastore/image?image=a",
            "PUT /datastore/",
            "DELETE /datastore/image?id=a",
            "DELETE /datastore/label?id=a",
        ),
        *("PUT /model/segmentation", "DELETE /model/segmentation", "PUT /session/", "GET /proxy/dicom/x"),
        *("POST /infer/wsi/segmentation", "GET /datastore/dataset", "POST /reload", "GET /ohif/x"),
    ],
)
def test_what_no_viewer_needs_is_not_served(request_line, client):
    assert client.request(*request_line.split(" ", 1)).status_code == 404


@pytest.mark.parametrize("name", ["../../outside", "%2e%2e%2foutside", "/etc/hostname", "a%5cb", "..", "a%00b"])
@pytest.mark.parametrize("key", ["image", "tag", "id"])
def test_names_that_are_paths_are_refused(name, key, client):
    refused = client.get(f"/datastore/label?{key}={name}")
    assert refused.status_code == 400
    assert f"{key} must be a name, not a path" in refused.text


def test_pages_of_others_may_not_use_the_server(client):
    assert client.get("/info/", headers={"Origin": HERE}).status_code == 200
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9000"):
        refused = client.post("/train/pretrain", headers={"Origin": origin})
        assert refused.status_code == 403
        assert "access-control-allow-origin" not in refused.headers


def test_a_name_that_somebody_gave_this_machine_is_not_its_own():
    elsewhere = "http://evil.example:8000"
    assert TestClient(Guard(ANYTHING), base_url=elsewhere).get("/info/").status_code == 403
    assert TestClient(Guard(ANYTHING), base_url="http://localhost:8000").get("/info/").status_code == 200
    assert TestClient(Guard(ANYTHING, own=False), base_url=elsewhere).get("/info/").status_code == 200


def test_uploads_are_bounded_whether_they_say_how_long_they_are_or_not(client):
    place = "/datastore/label?image=a&tag=final"
    assert client.put(place, content=b"x" * 1000).text == "1000 bytes"
    assert client.put(place, content=b"x" * 1001).status_code == 413
    chunks = (b"x" * 100 for _ in range(20))
    assert client.put(place, content=chunks).status_code == 413
