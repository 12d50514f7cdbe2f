"""`clipself demo` as a function: opens the models, serves the page."""

import logging
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import Any, Final

from clipself.backbones.packaged_heads import about_heads
from clipself.engine.resolve import resolve
from clipself.panoptic.generators.table import PACKAGED_MASKS
from clipself.workflows.labelling.labellers import PACKAGED
from clipself.workflows.live.config import DemoConfig
from clipself.workflows.live.page import STYLE, build_page, import_gradio, theme_of
from clipself.workflows.live.studio import Studio

log = logging.getLogger(__name__)

LARGEST_FILE: Final = "64mb"
"""Of an upload; the page says so of a larger one."""


def demo(
    config: DemoConfig | Mapping[str, Any] | str | Path | None = None, /, *, wait: bool = True, **options: Any
) -> Any:
    """Opens a page in which names are typed and pictures answer.

    Args:
        config: All settings, or a file of them; or give them as keywords.
        wait: Whether to return only when the page is stopped (Ctrl-C).
        options: Fields of `DemoConfig`.

    Returns:
        None; without `wait` gradio's Blocks: `.local_url` is the address, `.close()` ends it.

    Raises:
        ImportError: Gradio is not installed.
        ValueError: A model does not fit, or the port is taken.
        FileNotFoundError: A model is missing.
    """
    gr = import_gradio()
    settings = resolve(DemoConfig, None, config, **options)
    check_port(settings)
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    page = build_page(Studio(settings))
    page.launch(
        server_name=settings.host, server_port=settings.port, share=settings.share, prevent_thread_lock=True,
        quiet=True, ssr_mode=False, max_file_size=LARGEST_FILE, theme=theme_of(gr), css=STYLE, show_error=True,
        footer_links=[],
    )  # fmt: skip
    for about in {about_heads(name) for name in (PACKAGED, PACKAGED_MASKS)} if not settings.checkpoint else ():
        log.info("%s", about)
    log.info("the page is at %s; Ctrl-C ends it", page.share_url or page.local_url)
    if not wait:
        return page
    try:
        Event().wait()  # until Ctrl-C
    finally:
        page.close()


def check_port(settings: DemoConfig) -> None:
    """Refuses a port that somebody else listens on.

    Raises:
        ValueError: It is taken, or may not be listened on.
    """
    with socket.socket() as asked:
        asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            asked.bind((settings.host, settings.port))
        except OSError as error:
            raise ValueError(
                f"{settings.host}:{settings.port} cannot be listened on ({error.strerror}); choose another --port"
            ) from error
