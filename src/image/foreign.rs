//! Images that another program made: taken over from a layout, and described from their documents as if they were ours.

use super::base::BaseImage;
use super::build::{Built, Platform};
use super::write::Layer;
use crate::bundle::image::{Document, Leads};
use crate::bundle::oci::{Descriptor, MAX_CONFIG, MAX_MANIFEST};
use crate::bundle::{self, Blob, ImageError, ImageFiles, Layout, LayoutError};
use crate::model::Digest;

/// Why an image of others cannot be had from a layout.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// Nothing, or more than one image.
    #[error("`{layout}` has {found} images, not one")]
    NotOne {
        /// The layout.
        layout: String,
        /// How many it has.
        found: usize,
    },
    /// A document that is no image's.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A blob that is missing or damaged.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// Copies the only image of a layout into another one, every blob verified on the way, and describes it.
pub fn take(from: &Layout, to: &Layout, architectures: &[String]) -> Result<Built, ForeignError> {
    let entries = from.entries()?;
    let [entry] = entries.as_slice() else {
        return Err(ForeignError::NotOne { layout: from.root().display().to_string(), found: entries.len() });
    };
    let built = describe(from, entry.manifest, architectures)?;
    // Whoever pushes an index sends all that it names.
    for manifest in manifests(from, &built.root)? {
        let bytes = from.read_blob(manifest, MAX_MANIFEST)?;
        if let Leads::Blobs(_, blobs) = Leads::of(&bytes)? {
            for blob in blobs {
                to.copy_blob(from, blob.digest, blob.size)?;
            }
        }
        to.write_blob(&bytes)?;
    }
    to.copy_blob(from, built.root.digest, built.root.size)?;
    Ok(built)
}

/// The manifests of an image: those of its index, or its own.
fn manifests(layout: &Layout, root: &Descriptor) -> Result<Vec<Digest>, ForeignError> {
    Ok(match Leads::of(&layout.read_blob(root.digest, MAX_MANIFEST)?)? {
        Leads::Blobs(..) => vec![root.digest],
        Leads::Manifests(_, all) => all.into_iter().map(|blob| blob.digest).collect(),
    })
}

/// Describes the image with this digest by its documents, which are read and verified; its layers are not looked at.
pub fn describe(layout: &Layout, root: Digest, architectures: &[String]) -> Result<Built, ForeignError> {
    let bytes = layout.read_blob(root, MAX_MANIFEST)?;
    let (Leads::Blobs(kind, _) | Leads::Manifests(kind, _)) = Leads::of(&bytes)?;
    let mut platforms = Vec::new();
    for architecture in architectures {
        let platform =
            bundle::Platform { os: "linux".to_owned(), architecture: architecture.clone(), variant: None };
        let mut document = Document::parse_for(&bytes, &platform)?;
        if let Document::Index(manifest) = &document {
            document = Document::parse_for(&layout.read_blob(manifest.digest, MAX_MANIFEST)?, &platform)?;
        }
        let Document::Image(files) = document else {
            let reason = "it is an index that leads to an index".to_owned();
            return Err(ImageError { digest: root, reason }.into());
        };
        platforms.push(of_platform(layout, &files, architecture)?);
    }
    Ok(Built { root: Descriptor::of(&kind, &bytes), platforms, written: 0 })
}

fn of_platform(layout: &Layout, files: &ImageFiles, architecture: &str) -> Result<Platform, ForeignError> {
    let config = layout.read_blob(files.config.digest, MAX_CONFIG)?;
    let image = BaseImage::new(files, &config, architecture)?;
    let descriptor = |blob: &Blob| Descriptor {
        media_type: blob.media_type.clone(),
        digest: blob.digest,
        size: blob.size,
    };
    let diff_ids = image.diff_ids();
    let layers = files.layers.iter().zip(diff_ids);
    Ok(Platform {
        architecture: architecture.to_owned(),
        manifest: descriptor(&files.manifest),
        config: descriptor(&files.config),
        base: Vec::new(),
        layers: layers.map(|(blob, diff_id)| Layer { blob: descriptor(blob), diff_id }).collect(),
    })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "layouts are directories")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bundle::oci::{INDEX_TYPE, MANIFEST_TYPE};
    use crate::image::document::{self, CONFIG_TYPE};
    use crate::image::write::LAYER_TYPE;
    use crate::spec::ImageConfig;

    /// A layout with an image for each architecture, and an index if there are several.
    fn made(root: &std::path::Path, architectures: &[&str]) -> (Layout, Descriptor) {
        let layout = Layout::create(root).unwrap();
        let mut manifests = Vec::new();
        for architecture in architectures {
            let bytes = format!("layer for {architecture}");
            layout.write_blob(bytes.as_bytes()).unwrap();
            let blob = Descriptor::of(LAYER_TYPE, bytes.as_bytes());
            let layers = [("x".to_owned(), Layer { diff_id: blob.digest, blob })];
            let config = document::config(&ImageConfig::default(), architecture, None, &layers).unwrap();
            layout.write_blob(&config).unwrap();
            let config = Descriptor::of(CONFIG_TYPE, &config);
            let manifest = document::manifest(&config, None, &layers).unwrap();
            layout.write_blob(&manifest).unwrap();
            manifests.push(((*architecture).to_owned(), Descriptor::of(MANIFEST_TYPE, &manifest)));
        }
        let root = if let [(_, only)] = manifests.as_slice() {
            only.clone()
        } else {
            let index = document::index(&manifests).unwrap();
            layout.write_blob(&index).unwrap();
            Descriptor::of(INDEX_TYPE, &index)
        };
        layout.enter_image(&root, "latest").unwrap();
        (layout, root)
    }

    fn words(architectures: &[&str]) -> Vec<String> {
        architectures.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn an_image_of_any_number_of_platforms_is_taken_whole() {
        for architectures in [&["amd64"][..], &["amd64", "arm64"]] {
            let dir = tempfile::tempdir().unwrap();
            let (from, root) = made(&dir.path().join("from"), architectures);
            let to = Layout::create(&dir.path().join("to")).unwrap();
            let built = take(&from, &to, &words(architectures)).unwrap();
            assert_eq!((&built.root, built.platforms.len()), (&root, architectures.len()));
            assert_eq!(describe(&to, root.digest, &words(architectures)).unwrap(), built);
            for layer in built.platforms.iter().flat_map(|one| &one.layers) {
                assert!(to.has_blob(layer.blob.digest, layer.blob.size));
            }
        }
    }

    #[test]
    fn what_is_not_the_image_that_was_asked_for_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (from, root) = made(&dir.path().join("from"), &["amd64"]);
        let to = Layout::create(&dir.path().join("to")).unwrap();
        let told = |result: Result<Built, ForeignError>| result.unwrap_err().to_string();
        assert!(told(take(&from, &to, &words(&["arm64"]))).contains("`architecture` is `amd64`"));
        let layer = describe(&from, root.digest, &words(&["amd64"])).unwrap().platforms[0].layers[0].clone();
        std::fs::write(from.blob_path(layer.blob.digest), "layer for amd65").unwrap();
        assert!(told(take(&from, &to, &words(&["amd64"]))).contains("damaged or tampered with"));
        assert!(describe(&to, root.digest, &words(&["amd64"])).is_err(), "documents come last");
        from.enter_image(&Descriptor::of(MANIFEST_TYPE, b"x"), "other").unwrap();
        assert!(told(take(&from, &to, &words(&["amd64"]))).contains("has 2 images"));
        let artifact = json!({ "schemaVersion": 2, "manifests": [], "config": {}, "layers": [] }).to_string();
        let digest = to.write_blob(artifact.as_bytes()).unwrap();
        assert!(describe(&to, digest, &words(&["amd64"])).is_err());
    }
}
