//! What a pushed bundle is made of and how it was made, written into the builder's cache beside its layout.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Context;
use super::profile::ProfileArgument;
use super::report::{Code, Failure};
use crate::bundle::Bundle;
use crate::model::Digest;
use crate::model::json::CanonicalJsonError;
use crate::provenance::Subject;
use crate::provenance::slsa::{self, Build};
use crate::provenance::spdx::{self, Part};

/// The documents about one manifest.
pub(super) struct Documents {
    /// The bill of materials.
    pub(super) sbom: Vec<u8>,
    /// How it was built.
    pub(super) statement: Vec<u8>,
}

/// The documents about a bundle that is in `repository`.
pub(super) fn documents(
    profile: &ProfileArgument,
    bundle: &Bundle,
    repository: &str,
) -> Result<Documents, CanonicalJsonError> {
    let subject = Subject { name: repository.to_owned(), digest: bundle.oci_digest() };
    let images = &bundle.manifest().images;
    let name = |reference: &str| reference.split('@').next().unwrap_or(reference).to_owned();
    let parts = images.iter().map(|image| Part::Image { name: name(&image.reference), digest: image.digest });
    let sbom = spdx::document(&subject, parts.chain([Part::Layer(bundle.layer_digest())]).collect())?;
    let sources = profile.sources();
    let files: BTreeMap<_, _> =
        sources.texts().map(|(path, text)| (path.to_owned(), Digest::of(text.as_bytes()))).collect();
    let build = Build {
        profile: sources.root().to_owned(),
        lock: Some(sources.lock_path()).filter(|lock| files.contains_key(lock)),
        files,
        pinned: images.iter().map(|image| (image.reference.clone(), image.digest)).collect(),
        commit: commit(Path::new(sources.root())),
    };
    Ok(Documents { sbom, statement: slsa::statement(&subject, &build)? })
}

/// Writes the documents, and says where.
pub(super) fn keep(
    context: &Context<'_>,
    manifest: Digest,
    documents: &Documents,
) -> Result<PathBuf, Failure> {
    let directory = context.cache()?.join("provenance");
    let refused = |error: std::io::Error| {
        Failure::new(Code::Refused, format!("cannot write below `{}`: {error}", directory.display()))
    };
    fs::create_dir_all(&directory).map_err(refused)?;
    for (ending, bytes) in [("spdx.json", &documents.sbom), ("intoto.json", &documents.statement)] {
        fs::write(directory.join(format!("{}.{ending}", manifest.hex())), bytes).map_err(refused)?;
    }
    Ok(directory)
}

/// The commit that the profile's project is at, and whether any file of it differs; `None` where git tracks nothing.
fn commit(profile: &Path) -> Option<(String, bool)> {
    let directory =
        profile.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(directory).args(arguments);
        let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        output.status.success().then_some(output.stdout)
    };
    let commit = String::from_utf8(git(&["rev-parse", "--verify", "HEAD"])?).ok()?;
    Some((commit.trim().to_owned(), !git(&["status", "--porcelain"])?.is_empty()))
}
