//! What services run.

use super::view::View;
use super::{Report, Table, warning};

pub(super) const LINTS: Table = &[
    warning(
        "moving-tag",
        "the lock holds it still, but the next `bundle lock --update` may bring another major version, and nobody reads which",
        moving_tag,
    ),
    warning(
        "placeholder-image",
        "a bundle with an image that is nowhere can be built and looked at, not run",
        placeholder,
    ),
];

/// Tags that name no version.
const MOVING: [&str; 10] =
    ["latest", "main", "master", "edge", "nightly", "stable", "dev", "develop", "current", "rolling"];

fn moving_tag(view: &View<'_>, report: &mut Report) {
    for (name, service) in &view.profile.services {
        let Some(image) = &service.image else { continue };
        let tag = image.get_ref().tag.as_deref().unwrap_or_default();
        if MOVING.contains(&tag) && image.get_ref().digest.is_none() {
            report
                .at(
                    image.span(),
                    format!("services.{name}.image"),
                    format!("the tag `{tag}` names no version"),
                )
                .help("write the version, such as `:1.4.2`; `bundle lock` pins its digest");
        }
    }
}

fn placeholder(view: &View<'_>, report: &mut Report) {
    for image in view.placeholders {
        report
            .at(image.span(), "services", format!("`{}` is pinned to a placeholder", image.get_ref()))
            .help("the bundle can be built, not deployed; publish the image, and run `bundle lock PROFILE --update`");
    }
}
