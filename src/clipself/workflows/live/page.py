"""The page itself: gradio's parts around `views`; the only file that knows gradio."""

import time
from collections.abc import Sequence
from html import escape
from importlib import import_module
from typing import Any, Final

from clipself.viz.alike import SCRIPT
from clipself.workflows.live.samples import list_samples
from clipself.workflows.live.studio import Studio
from clipself.workflows.live.views import GROUPS, VIEWS, Answer, Question

STYLE: Final = """
footer { display: none !important; }
#said { min-height: 1.8em; }
#said .fault { color: #b00020; font-weight: 600; }
#near img, #k-means img { width: 100% !important; object-fit: contain !important; }
#detection img, #segmentation img, #panoptic img {
  width: 100% !important; height: min(70vh, 700px) !important; object-fit: contain !important;
}
#samples .grid-container {
  grid-template: repeat(2, 64px) / repeat(5, minmax(0, 1fr)) !important; gap: 6px; padding: 6px !important;
}
#samples .thumbnail-item { min-width: 0 !important; width: 100% !important; height: 64px !important; }
"""
ALIKE_STYLE: Final = """
.alike { display: flex; flex-wrap: wrap; gap: 12px; }
.alike figure { flex: 1 1 280px; margin: 0; max-width: 640px; }
.alike figcaption { padding: 2px 0; }
.alike canvas { width: 100%; cursor: crosshair; touch-action: none; border-radius: 6px; display: block; }
"""
LONGEST_TEXT: Final = 20_000
"""Letters of the names."""
NO_GRADIO: Final = "the page needs gradio; pip install 'clipself[demo]'"


def import_gradio() -> Any:
    """Gradio, which then asks nobody on the network anything.

    Raises:
        ImportError: It is not installed.
    """
    try:
        return import_module("gradio")
    except ImportError as error:
        raise ImportError(NO_GRADIO) from error


def build_page(studio: Studio) -> Any:
    """The page as gradio's Blocks, not yet served.

    Args:
        studio: The models that it asks.

    Raises:
        ImportError: Gradio is not installed.
    """
    gr = import_gradio()
    samples = list_samples()
    with gr.Blocks(title="clipself", analytics_enabled=False, fill_width=True) as page:
        tab = gr.State(next(iter(VIEWS)))
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                picture = gr.Image(
                    value=samples[0].image, type="filepath", sources=["upload", "webcam", "clipboard"], format="png",
                    label="Picture", height=290, elem_id="picture",
                )  # fmt: skip
                # The file as it was uploaded: what is wrong with it is said by our own reader.
                picture.preprocess = lambda payload: None if payload is None else payload.path
                names = gr.Textbox(
                    samples[0].names, label="Names", elem_id="names", max_length=LONGEST_TEXT,
                    info="between commas; where commas separate synonyms, between semicolons",
                )  # fmt: skip
                stuff = gr.Textbox(
                    samples[0].stuff, label="Stuff", elem_id="stuff", max_length=LONGEST_TEXT,
                    info="names of what is not counted, such as grass and sky",
                )  # fmt: skip
                gallery = gr.Gallery(
                    [one.image for one in samples], columns=5, height=164, object_fit="cover", allow_preview=False,
                    show_label=False, elem_id="samples", format="png", buttons=[],
                )  # fmt: skip
            with gr.Column(scale=5, min_width=420):
                said = gr.HTML(elem_id="said", js_on_load=None)
                with gr.Tabs():
                    tabs, places, knobs = _build_tabs(gr)
        settings = [picture, names, stuff, knobs["clusters"], knobs["threshold"], knobs["compared"]]
        every = [place for some in places.values() for place in some]

        def answer(chosen: str, *given: Any) -> dict[Any, Any]:
            began = time.perf_counter()
            try:
                found = VIEWS[chosen](studio, _question(given))
            except (ValueError, OSError, MemoryError) as error:
                return {said: _say(str(error) or "memory is full", fault=True), **dict.fromkeys(places[chosen])}
            shown = {said: _say(f"{found.said} · {time.perf_counter() - began:.2f} s")}
            if found.choices:
                shown[knobs["compared"]] = _choices(gr, found, given[-1])
            return shown | dict(zip(places[chosen], found.parts, strict=True))

        asking = {
            "fn": answer, "inputs": [tab, *settings], "outputs": [said, knobs["compared"], *every],
            "show_progress": "minimal", "show_progress_on": said,
            "trigger_mode": "always_last", "api_visibility": "private",
        }  # fmt: skip
        changes = [part.change for part in settings[:5]]
        gr.on([page.load, *changes, knobs["compared"].input], **asking)
        for label, one in tabs.items():
            one.select(lambda label=label: label, None, tab, api_visibility="private").then(**asking)

        def choose(event: gr.SelectData) -> tuple[Any, str, str]:  # type: ignore[name-defined]
            chosen = samples[event.index]
            return chosen.image, chosen.names, chosen.stuff

        gallery.select(choose, None, [picture, names, stuff], show_progress="hidden", api_visibility="private")
    return page


def _build_tabs(gr: Any) -> tuple[dict[str, Any], dict[str, Sequence[Any]], dict[str, Any]]:
    """The tabs, the places of each in the order of its answer's parts, and what can be set in them."""
    tabs, places, knobs = {}, dict[str, Sequence[Any]](), {}
    for label in VIEWS:
        with gr.Tab(label) as tabs[label]:
            if label == "Detection":
                knobs["threshold"] = gr.Slider(0, 1, 0.2, step=0.01, label="Least score", elem_id="threshold")
            elif label == "K-means":
                knobs["clusters"] = gr.Slider(2, 12, 6, step=1, label="Groups", elem_id="clusters")
            elif label == "Raw | refined":
                knobs["compared"] = gr.Dropdown([GROUPS], value=GROUPS, label="Drawn", elem_id="compared")
            if label == "Similarity":
                alike = gr.HTML(
                    html_template='<div class="alike"></div>', css_template=ALIKE_STYLE, js_on_load=SCRIPT,
                    elem_id="alike", apply_default_css=False,
                )  # fmt: skip
                places[label] = (alike, _shown(gr, "near"))
            elif label == "Raw | refined":
                places[label] = (
                    gr.ImageSlider(show_label=False, elem_id="sides", interactive=False, max_height=560, buttons=[]),
                )
            else:
                places[label] = (_shown(gr, label.lower()),)
    return tabs, places, knobs


def _shown(gr: Any, name: str) -> Any:
    return gr.Image(show_label=False, elem_id=name, interactive=False, type="pil", format="png", buttons=[])


def _question(given: Sequence[Any]) -> Question:
    picture, names, stuff, clusters, threshold, compared = given
    return Question(
        picture=picture, names=names or "", stuff=stuff or "", clusters=int(clusters), threshold=float(threshold),
        compared=compared or GROUPS,
    )  # fmt: skip


def _choices(gr: Any, found: Answer, chosen: str) -> Any:
    return gr.Dropdown(choices=list(found.choices), value=chosen if chosen in found.choices else GROUPS)


def _say(text: str, *, fault: bool = False) -> str:
    return f'<div class="{"fault" if fault else "fine"}">{escape(text)}</div>'


def theme_of(gr: Any) -> Any:
    """Plain, in the fonts of the machine: none is fetched."""
    return gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
