"""The page of `sarclip app`: pictures in, classes out, and a list of classes to edit.

It is served from this machine alone: nothing in it comes from elsewhere, and nothing is sent there.
A page's classes and pictures are its own; the classifier is read once.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from sar.classifier.predictor import Classifier
from sar.classifier.showing import (
    Answer,
    Pictures,
    answers,
    bars,
    caption,
    counted,
    plain_text,
    read_pictures,
    relations,
    relations_follow_pictures,
    variants,
    verdict,
)
from sar.command_line.extras import extra
from sar.errors import ConfigError, one_line

# Read when gradio is imported. The history of runs would keep pictures in the browser.
os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_RUN_HISTORY": "False"}
with extra("app"):
    import gradio as gr
    import uvicorn
    from fastapi import FastAPI

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; frame-ancestors 'self'"
)
"""The header by which browsers refuse whatever a page would load from other places."""
_STYLE = """
#pictures .grid-wrap { height: auto; min-height: 0; max-height: 60vh }
#pictures .grid-container { grid-template-columns: repeat(auto-fill, minmax(90px, 1fr)) }
#pictures .caption-label { max-width: calc(100% - 8px); white-space: normal }
"""
_LARGEST = "50mb"  # of a picture
_HOUR = 3600  # seconds; after which uploaded pictures are deleted


def serve(classifier: Classifier, host: str, port: int, top: int = 5) -> None:
    """Serve the page until the process is interrupted.

    Args:
        top: classes shown for a picture.

    Raises:
        ConfigError: the port cannot be opened. MissingPackageError: gradio is not installed.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        door = socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"port {port} of {host} cannot be opened ({one_line(error)}); choose another --port"
        ) from error
    # A page that is open keeps a connection, which is not waited for in the end.
    config = uvicorn.Config(
        application(classifier, top), log_level="warning", timeout_graceful_shutdown=1
    )
    shown = f"[{host}]" if family == socket.AF_INET6 else host
    print(f"{classifier!r}: http://{shown}:{door.getsockname()[1]}, until Ctrl-C", flush=True)
    uvicorn.Server(config).run(sockets=[door])


def application(classifier: Classifier, top: int = 5) -> Any:
    """The page as an ASGI application."""
    served = gr.mount_gradio_app(
        FastAPI(openapi_url=None),
        page(classifier, top),
        path="/",
        footer_links=[],
        # The system's fonts: of those that gradio brings, the bold ones lack letters.
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        css=_STYLE,
        max_file_size=_LARGEST,
        ssr_mode=False,
        mcp_server=False,
    )
    return _FromHereAlone(served)


class _FromHereAlone:
    """ASGI middleware: answers carry POLICY."""

    def __init__(self, served: Any) -> None:
        self.served = served

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                header = (b"content-security-policy", POLICY.encode())
                message = {**message, "headers": [*message.get("headers", ()), header]}
            await send(message)

        await self.served(scope, receive, sending)


def page(classifier: Classifier, top: int = 5) -> gr.Blocks:
    """The page; its events are named `look`, `choose`, `edit` and `relate` for gradio_client."""
    own, recipe = classifier.classes, classifier.recipe
    variant = variants(classifier)
    plain = variants(classifier.untrained(), most=1)

    def answer(names: tuple[str, ...], pictures: Pictures, chosen: int) -> tuple[Any, ...]:
        """Gallery, verdict and bars."""
        found = answers(variant(names), pictures, top)
        captions = [caption(one) for one in found]
        shown = list(zip(pictures.thumbnails, captions, strict=True))
        gallery = gr.Gallery(value=shown, selected_index=None, visible=bool(shown))
        if not found:
            return gallery, "", {}, found
        one = found[min(chosen, len(found) - 1)]
        return gallery, verdict(one, variant(names).recipe), bars(one), found

    def look(files: list[str] | None, names: tuple[str, ...]) -> tuple[Any, ...]:
        pictures = read_pictures(classifier, files or [])
        said = "  \n".join(map(plain_text, pictures.problems))
        return pictures, said, 0, *answer(names, pictures, 0)

    def choose(found: list[Answer], names: tuple[str, ...], event: gr.SelectData) -> Any:
        one = found[event.index]
        return event.index, verdict(one, variant(names).recipe), bars(one)

    def edit(text: str, names: tuple[str, ...], pictures: Pictures, chosen: int) -> tuple[Any, ...]:
        wanted = tuple(line.strip() for line in text.splitlines() if line.strip())
        try:
            names = variant(wanted).classes
            said = counted(variant(wanted))
        except ConfigError as error:
            said = f"{plain_text(str(error))}. Until then: {len(names)} classes."
        return names, said, *answer(names, pictures, chosen)

    def relate(names: tuple[str, ...], pictures: Pictures) -> tuple[Any, str]:
        try:
            features = plain(names).class_features()
            return relations(variant(names), features, pictures), ""
        except ConfigError as error:
            return None, plain_text(str(error))

    with gr.Blocks(
        title=f"{classifier.method}: sarclip",
        analytics_enabled=False,
        delete_cache=(_HOUR, _HOUR),
    ) as blocks:
        names, pictures = gr.State(own), gr.State(Pictures())
        found, chosen = gr.State([]), gr.State(0)
        gr.Markdown(f"## {classifier.method} on {plain_text(recipe.cfg.MODEL.BACKBONE.NAME)}")
        with gr.Row():
            with gr.Column(scale=4, min_width=300):
                files = gr.File(
                    label="Drag pictures in, or click", file_count="multiple", height=140
                )
                problems = gr.Markdown(elem_id="problems")
                gallery = gr.Gallery(
                    show_label=False,
                    interactive=False,
                    visible=False,
                    elem_id="pictures",
                    object_fit="contain",
                    allow_preview=False,
                    buttons=[],
                )
                said = gr.Markdown(elem_id="verdict")
                label = gr.Label(label="Classes", num_top_classes=top, show_heading=False)
            with gr.Column(scale=3, min_width=300):
                text = gr.Textbox(
                    "\n".join(own),
                    label="Classes, one name a line",
                    info="Add, change or remove names; nothing is trained for it.",
                    lines=8,
                    max_lines=14,
                    elem_id="classes",
                )
                state = gr.Markdown(counted(classifier), elem_id="state")
                reset = gr.Button("The model's own classes", size="sm")
            with gr.Column(scale=6, min_width=300):
                figure = gr.Plot(show_label=False, elem_id="relations")
                remark = gr.Markdown()
        view = [gallery, said, label, found]
        related = {"fn": relate, "inputs": [names, pictures], "outputs": [figure, remark]}
        # One at a time, since the classifier is one; of what waits, the latest is what counts.
        always: dict[str, Any] = {"concurrency_id": "classifier", "trigger_mode": "always_last"}
        quiet = always | {"show_progress": "hidden"}
        looked = files.change(
            look, [files, names], [pictures, problems, chosen, *view], api_name="look", **always
        )
        gallery.select(choose, [found, names], [chosen, said, label], api_name="choose", **quiet)
        edited = text.change(
            edit, [text, names, pictures, chosen], [names, state, *view], api_name="edit", **quiet
        )
        reset.click(lambda: "\n".join(own), None, text, api_visibility="private")
        blocks.load(**related, api_name="relate", **always)
        edited.then(**related, api_visibility="private", **quiet)
        if relations_follow_pictures(classifier):
            looked.then(**related, api_visibility="private", **quiet)
    return blocks
