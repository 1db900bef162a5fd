"""The HTTP shell every service stands in.

Start at `routes` (the decorator), then `app` (what every service gets: health,
metrics, OpenAPI, problem details) and `run`.
"""

from __future__ import annotations

from libs.http.app import service_app
from libs.http.background import BACKGROUND
from libs.http.pages import Comment, Page, PageQuery
from libs.http.routes import USER, Json, Reply, Routes
from libs.http.run import main, run
from libs.http.tokens import Role, User

__all__ = [
    "BACKGROUND",
    "USER",
    "Comment",
    "Json",
    "Page",
    "PageQuery",
    "Reply",
    "Role",
    "Routes",
    "User",
    "main",
    "run",
    "service_app",
]
