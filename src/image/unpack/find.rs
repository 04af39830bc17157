//! From a name in a layout to the image for a platform.

use super::error::UnpackError;
use crate::bundle::image::Document;
use crate::bundle::oci::MAX_MANIFEST;
use crate::bundle::{ImageError, ImageFiles, Layout, Platform};
use crate::model::Digest;

/// The image for our platform that a layout has under this name, or its only one.
pub fn find(layout: &Layout, name: Option<&str>) -> Result<ImageFiles, UnpackError> {
    find_for(layout, name, &Platform::droplet())
}

/// The same for another platform.
pub fn find_for(layout: &Layout, name: Option<&str>, platform: &Platform) -> Result<ImageFiles, UnpackError> {
    let entries = layout.entries()?;
    let mut found: Vec<Digest> = entries
        .iter()
        .filter(|entry| name.is_none() || entry.name.as_deref() == name)
        .map(|entry| entry.manifest)
        .collect();
    found.sort();
    found.dedup();
    let [digest] = found.as_slice() else {
        let layout = layout.root().to_owned();
        let name = name.map(str::to_owned);
        return Err(UnpackError::NotOne { layout, name, count: found.len() });
    };
    match document(layout, *digest, platform)? {
        Document::Image(files) => Ok(files),
        Document::Index(manifest) => match document(layout, manifest.digest, platform)? {
            Document::Image(files) if files.manifest.size == manifest.size => Ok(files),
            Document::Image(files) => {
                let (found, said) = (files.manifest.size, manifest.size);
                let reason = format!("its index says that it has {said} bytes, and it has {found}");
                Err(ImageError { digest: manifest.digest, reason }.into())
            }
            Document::Index(_) => {
                let reason = "an index leads to another index".to_owned();
                Err(ImageError { digest: manifest.digest, reason }.into())
            }
        },
    }
}

fn document(layout: &Layout, digest: Digest, platform: &Platform) -> Result<Document, UnpackError> {
    Ok(Document::parse_for(&layout.read_blob(digest, MAX_MANIFEST)?, platform)?)
}
