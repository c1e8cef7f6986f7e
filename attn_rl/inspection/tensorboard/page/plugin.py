"""The "Attention" tab of TensorBoard.

This module imports nothing but tensorboard and werkzeug at import time, and answers every request with a page or
an explanation: whatever lies in the log directory, it cannot take TensorBoard down.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from tensorboard.plugins.base_plugin import FrontendMetadata, TBContext, TBPlugin
from werkzeug.wrappers import Request, Response

HERE = Path(__file__).parent
UNREADABLE = (KeyError, OSError, ValueError, EOFError, BadZipFile)
"""What a missing, foreign or damaged record raises."""
logger = logging.getLogger(__name__)


class AttentionPlugin(TBPlugin):
    """Serves the page and the attention records of all runs below the log directory."""

    plugin_name = "attention"

    def __init__(self, context: TBContext) -> None:
        super().__init__(context)
        self._logdir = getattr(context, "logdir", None) or "."

    def get_plugin_apps(self) -> dict[str, Any]:
        """Routes below /data/plugin/attention."""
        handlers = {
            "/index.js": self._script,
            "/runs": self._runs,
            "/record": self._record,
            "/picture": self._picture,
        }
        return {route: Request.application(handler) for route, handler in handlers.items()}

    def is_active(self) -> bool:
        """Whether any run has been recorded."""
        try:
            return bool(_data().find_runs(self._logdir))
        except Exception:  # the tab is greyed out, TensorBoard lives on
            logger.exception("looking for attention records in %s", self._logdir)
            return False

    def frontend_metadata(self) -> FrontendMetadata:
        """The tab and the script behind it."""
        return FrontendMetadata(es_module_path="/index.js", tab_name="Attention")

    def _script(self, request: Request) -> Response:
        return Response((HERE / "viewer.js").read_text(), content_type="text/javascript; charset=utf-8")

    def _runs(self, request: Request) -> Response:
        data = _data()
        runs = {name: data.steps_of(path) for name, path in data.find_runs(self._logdir).items()}
        return _json({"logdir": str(self._logdir), "runs": runs})

    def _record(self, request: Request) -> Response:
        try:
            return _json(_data().read_record(self._run(request), int(request.args["step"])))
        except UNREADABLE as error:
            return _json({"error": f"this record cannot be read: {error}"}, 404)

    def _picture(self, request: Request) -> Response:
        try:
            png = _data().read_picture(self._run(request), int(request.args["step"]), int(request.args["state"]))
        except UNREADABLE:
            png = None
        return Response(png or b"", content_type="image/png", status=200 if png else 404)

    def _run(self, request: Request) -> Path:
        """The folder of a run that was listed; a name that was not cannot reach any file."""
        return _data().find_runs(self._logdir)[request.args["run"]]


def _data() -> Any:
    from attn_rl.inspection.tensorboard.page import data  # at the first request: it needs NumPy

    return data


def _json(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content), content_type="application/json", status=status)
