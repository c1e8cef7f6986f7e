"""The "Attention" tab of TensorBoard.

This module imports nothing but tensorboard and werkzeug at import time, and answers every request with a page or
an explanation: whatever lies in the log directory, it cannot take TensorBoard down.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from tensorboard.plugins.base_plugin import FrontendMetadata, TBContext, TBPlugin
from werkzeug.wrappers import Request, Response

HERE = Path(__file__).parent
UNREADABLE = (OSError, ValueError)
"""What a missing, foreign or damaged record raises, with an explanation."""
logger = logging.getLogger(__name__)


class AttentionPlugin(TBPlugin):  # type: ignore[misc]  # TensorBoard has no types
    """Serves the page and the attention records of all runs below the log directory."""

    plugin_name = "attention"

    def __init__(self, context: TBContext) -> None:
        super().__init__(context)
        self._logdir = getattr(context, "logdir", None) or "."

    def get_plugin_apps(self) -> dict[str, object]:
        """Routes below /data/plugin/attention."""
        handlers = {
            "/index.js": self._script,
            "/runs": self._runs,
            "/record": self._record,
            "/picture": self._picture,
        }
        return {route: Request.application(_explaining(handler)) for route, handler in handlers.items()}

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
        return _response((HERE / "viewer.js").read_text(encoding="utf-8"), "text/javascript; charset=utf-8")

    def _runs(self, request: Request) -> Response:
        data = _data()
        runs = {name: data.steps_of(path) for name, path in data.find_runs(self._logdir).items()}
        return _json({"logdir": data.printable(str(self._logdir)), "runs": runs})

    def _record(self, request: Request) -> Response:
        return _json(_data().read_record(self._run(request), _number(request, "step")))

    def _picture(self, request: Request) -> Response:
        run, step, state = self._run(request), _number(request, "step"), _number(request, "state")
        png = _data().read_picture(run, step, state)
        if png is None:
            raise ValueError(f"state {state} of step {step} has no picture")
        return _response(png, "image/png")

    def _run(self, request: Request) -> Path:
        """The folder of a run that was listed; a name that was not cannot reach any file."""
        name = request.args.get("run", "")
        runs: dict[str, Path] = _data().find_runs(self._logdir)
        if name not in runs:
            raise ValueError(f"there is no run {name!r} with records below the log directory")
        return runs[name]


def _explaining(handler: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """Answer with an explanation where a handler cannot, whatever the reason."""

    def answer(request: Request) -> Response:
        try:
            return handler(request)
        except UNREADABLE as error:
            return _json({"error": f"this record cannot be read: {error}"}, 404)
        except Exception as error:  # a fault of ours: it goes to the log, TensorBoard lives on
            logger.exception("answering %s", request.path)
            return _json({"error": f"this record cannot be read: {type(error).__name__}, see TensorBoard's log"}, 404)

    return answer


def _number(request: Request, name: str) -> int:
    text = request.args.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise ValueError(f"{name}={text[:20]!r} is no number of a {name}")
    return int(text)


def _data() -> ModuleType:
    from attn_rl.inspection.tensorboard.page import data  # at the first request: it needs NumPy

    return data


def _json(content: object, status: int = 200) -> Response:
    return _response(_data().as_json(content), "application/json", status)


def _response(content: str | bytes, content_type: str, status: int = 200) -> Response:
    headers = {"X-Content-Type-Options": "nosniff"}  # a record's bytes are never taken for a page
    return Response(content, content_type=content_type, status=status, headers=headers)
