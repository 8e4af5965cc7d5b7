//! The viewer of images and pairs: its dialog, and what opens it. What it does is in `page/report.js`.

use super::unit_map::{UnitMap, text};
use lapidary_pipeline::Thumbnail;
use lapidary_pipeline::report::data_address;
use lapidary_schemas::ImageId;
use maud::{Markup, html};

/// The dialog, once in a page.
pub(super) fn dialog() -> Markup {
    html! {
        dialog id="viewer" aria-labelledby="viewer-title" {
            div.viewer {
                header {
                    h3 id="viewer-title" {}
                    span {
                        button.previous type="button" aria-label="Previous (left arrow)" { "←" } " "
                        button.next type="button" aria-label="Next (right arrow)" { "→" } " "
                        button.close type="button" aria-label="Close (Escape)" { "✕" }
                    }
                }
                fieldset {
                    legend.dim { "How the two are shown" }
                    @for (value, label) in [("sides", "side by side"), ("overlay", "overlay"), ("difference", "difference")] {
                        label { input type="radio" name="mode" value=(value) checked[value == "sides"]; " " (label) }
                    }
                    label { "first image's share " input type="range" min="0" max="1" step="0.05" value="0.5"; }
                }
                div.stage {}
                p.facts {}
            }
        }
    }
}

/// An image in the page, of which the viewer finds the largest by its id.
pub(super) fn image(id: ImageId, small: &Thumbnail, alt: &str) -> Markup {
    html! {
        img data-id=(id) src=(data_address(&small.jpeg, "image/jpeg")) width=(small.width) height=(small.height) alt=(alt) loading="lazy";
    }
}

/// What the viewer shows of a pair, or of one image.
pub(super) struct Shown<'a> {
    pub(super) a: ImageId,
    pub(super) b: Option<ImageId>,
    /// Captions of the two.
    pub(super) labels: (&'a str, &'a str),
    pub(super) title: &'a str,
    pub(super) facts: &'a str,
    /// Carries `a` onto `b`.
    pub(super) map: Option<&'a UnitMap>,
}

/// A button around pictures that opens the viewer.
pub(super) fn opener(class: &str, shown: &Shown<'_>, pictures: Markup) -> Markup {
    html! {
        button class={ "opener " (class) } type="button" data-a=(shown.a) data-b=[shown.b] data-label-a=(shown.labels.0)
            data-label-b=(shown.labels.1) data-title=(shown.title) data-facts=(shown.facts) data-map=[shown.map.map(text)] { (pictures) }
    }
}
