from typing import Any

from libs.services import BY_NAME
from services.gateway.merged import merge_openapi
from services.gateway.routing import OWNERS


def document(path: str, schemas: dict[str, Any]) -> dict[str, Any]:
    reply = {"$ref": "#/components/schemas/Page"}
    return {"info": {"title": "x"}, "paths": {path: {"get": {"reply": reply}}}, "components": {"schemas": schemas}}


def test_schemas_that_differ_are_told_apart():
    own = document("/api/users", {"Page": {"type": "object"}, "Problem": {"type": "object"}})
    others = {
        "comsrv": document("/api/channels", {"Page": {"type": "array"}, "Problem": {"type": "object"}}),
        "hissrv": None,
    }
    merged = merge_openapi(own, others)
    assert list(merged["paths"]) == ["/api/channels", "/api/users"]
    assert merged["paths"]["/api/channels"]["get"]["reply"] == {"$ref": "#/components/schemas/ComsrvPage"}
    assert set(merged["components"]["schemas"]) == {"Page", "Problem", "ComsrvPage"}
    assert merged["x-missing"] == ["hissrv"]


def test_every_owner_is_a_service():
    assert set(OWNERS.values()) <= set(BY_NAME)
