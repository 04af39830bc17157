//! `MANIFEST`: what is in the bundle, for people: every file with its digest, every image. The activator reads another one,
//! which names this file as well.
//!
//! This kind renders last, behind everything that it lists.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Artifact, Entry, RenderError, Section, Tree, literal};
use crate::model::{Digest, Slots};
use crate::spec::Spec;

/// The kind `manifest`; it has no table.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {}

/// The place of the list in a view.
pub const PATH: &str = "MANIFEST";

impl Section for Manifest {
    const KIND: &'static str = "manifest";
    const TABLE: Option<&'static str> = None;

    fn absent() -> Option<Self> {
        Some(Self {})
    }
}

impl Artifact for Manifest {
    fn render(&self, spec: &Spec, tree: &mut Tree) -> Result<(), RenderError> {
        let text = text(spec, tree);
        tree.insert(Entry::text(Self::KIND, literal::path(PATH)?, text)).map(drop)
    }
}

fn text(spec: &Spec, tree: &Tree) -> String {
    let kinds = tree.entries().map(|entry| entry.kind.len()).max().unwrap_or(0).max(4);
    let sizes = tree.entries().map(|entry| entry.content.len().to_string().len()).max().unwrap_or(0).max(5);
    let mut lines = vec![format!("{} for {}", spec.name, spec.domain)];
    lines.extend(tree.release().map(|release| format!("release {release}")));
    lines.push(String::new());
    lines.push(format!("{:<kinds$}  mode  view   {:>sizes$}  {:<64}  path", "kind", "bytes", "sha256"));
    lines.extend(tree.entries().map(|entry| {
        let Entry { kind, mode, path, .. } = entry;
        let (view, bytes, hex) = (view(entry.slots), entry.content.len(), Digest::of(&entry.content).hex());
        format!("{kind:<kinds$}  {mode}  {view:<5}  {bytes:>sizes$}  {hex}  {path}")
    }));
    lines.extend([String::new(), "images".to_owned()]);
    let images: BTreeSet<(String, Option<&str>)> = spec
        .services
        .values()
        .map(|service| (service.image.by_digest(), service.image.tag.as_deref()))
        .collect();
    lines.extend(images.into_iter().map(|(reference, tag)| match tag {
        Some(tag) => format!("{reference}  was `{tag}`"),
        None => reference,
    }));
    lines.push(String::new());
    lines.join("\n")
}

fn view(slots: Slots) -> &'static str {
    match slots {
        Slots::Both => "both",
        Slots::Blue => "blue",
        Slots::Green => "green",
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use crate::model::Slot;

    #[test]
    fn it_lists_every_other_file_by_its_own_digest_and_every_image() {
        let (tree, spec) = (fixture::tree(), fixture::spec());
        let text = fixture::text(&tree, PATH, Slot::Blue);
        let others: Vec<_> = tree.entries().filter(|entry| entry.path.as_str() != PATH).collect();
        for entry in &others {
            let hex = Digest::of(&entry.content).hex();
            let listed = text.lines().any(|line| {
                line.contains(&hex)
                    && line.ends_with(&format!("  {}", entry.path))
                    && line.starts_with(entry.kind)
            });
            assert!(listed, "{}\n{text}", entry.path);
        }
        let files = text.lines().skip(5).take_while(|line| !line.is_empty()).count();
        assert_eq!(files, others.len(), "{text}");
        for service in spec.services.values() {
            assert!(text.contains(&service.image.by_digest()), "{text}");
        }
    }
}
