//! What a pushed bundle and its images are made of and how they were made: written into the builder's cache beside its
//! layout, and attached to them in the registry.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Context;
use super::own_images::Own;
use super::profile::{ProfileArgument, Sealed};
use super::report::{Code, Failure};
use crate::bundle::oci::{Descriptor, MANIFEST_TYPE};
use crate::image::Built;
use crate::model::json::CanonicalJsonError;
use crate::model::{Digest, ImageName};
use crate::profile::Resolved;
use crate::provenance::Subject;
use crate::provenance::slsa::{self, Build, Dockerfile, Pinned};
use crate::provenance::spdx::{self, Part};
use crate::registry::{Attachment, Registry, Repository};
use crate::spec::{Base, LockedDockerfile};

/// The annotation by which others tell statements apart before they fetch them (docs.docker.com, "Image attestation
/// storage").
const ABOUT: &str = "in-toto.io/predicate-type";

/// The documents about one manifest.
pub(super) struct Documents {
    subject: Descriptor,
    /// The bill of materials, if it is known what is in there.
    sbom: Option<Vec<u8>>,
    /// How it was built.
    statement: Vec<u8>,
}

/// The documents about a bundle that is in `repository`.
pub(super) fn of_bundle(
    profile: &ProfileArgument,
    sealed: &Sealed,
    repository: &Repository,
) -> Result<Documents, CanonicalJsonError> {
    let Sealed { bundle, resolved, images: own, .. } = sealed;
    let images = &bundle.manifest().images;
    let name = |reference: &str| reference.split('@').next().unwrap_or(reference).to_owned();
    let parts = images.iter().map(|image| Part::Image { name: name(&image.reference), digest: image.digest });
    let parts = parts.chain([Part::Layer(bundle.layer_digest())]).collect();
    let mut pinned: BTreeMap<String, Pinned> =
        images.iter().map(|image| (image.reference.clone(), image.digest.into())).collect();
    pinned.extend(own.keys().flat_map(|name| lock(resolved, name)));
    let manifest = Descriptor::of(MANIFEST_TYPE, bundle.oci_manifest());
    documents(repository, manifest, Some(parts), &Build { pinned, ..build(profile) })
}

/// The documents about one of the profile's own images that is in `repository`.
pub(super) fn of_image(
    profile: &ProfileArgument,
    resolved: &Resolved,
    (name, own, built): (&ImageName, &Own, &Built),
    repository: &Repository,
) -> Result<Documents, CanonicalJsonError> {
    if let Some(locked) = &own.dockerfile {
        let dockerfile = Some(of_dockerfile(locked));
        return documents(repository, built.root.clone(), None, &Build { dockerfile, ..build(profile) });
    }
    let mut parts = Vec::new();
    if let Some(Base::Image { repository, digest, .. }) = resolved.images.get(name).map(|recipe| &recipe.base)
    {
        parts.push(Part::Image { name: repository.clone(), digest: *digest });
    }
    for platform in &built.platforms {
        parts.extend(platform.base.iter().map(|layer| Part::Layer(layer.digest)));
        parts.extend(platform.layers.iter().map(|layer| Part::Layer(layer.blob.digest)));
    }
    for package in resolved.packages.get(name).into_iter().flatten().flat_map(|lock| &lock.packages) {
        parts.push(Part::Package {
            name: package.name.clone(),
            version: package.version.clone(),
            architecture: package.architecture.clone(),
            sha256: package.digest,
        });
    }
    let pinned = lock(resolved, name).collect();
    documents(repository, built.root.clone(), Some(parts), &Build { pinned, ..build(profile) })
}

/// What is known of an image that BuildKit made. Which packages are in it is not: it has no bill of materials, because an
/// empty one would say that there are none.
fn of_dockerfile(locked: &LockedDockerfile) -> Dockerfile {
    let LockedDockerfile { recipe, lock } = locked;
    Dockerfile {
        path: recipe.inside.clone(),
        target: recipe.target.clone(),
        args: recipe.args.clone(),
        platforms: recipe.architectures.iter().map(|one| format!("linux/{one}")).collect(),
        inputs: lock.inputs,
        builder: lock.builder.clone(),
    }
}

/// Without `parts` there is no bill of materials.
fn documents(
    repository: &Repository,
    manifest: Descriptor,
    parts: Option<Vec<Part>>,
    build: &Build,
) -> Result<Documents, CanonicalJsonError> {
    let subject = Subject { name: repository.to_string(), digest: manifest.digest };
    let sbom = parts.map(|parts| spdx::document(&subject, parts)).transpose()?;
    Ok(Documents { subject: manifest, sbom, statement: slsa::statement(&subject, build)? })
}

/// What the lock and the recipe pin for one of the profile's own images.
fn lock(resolved: &Resolved, name: &ImageName) -> impl Iterator<Item = (String, Pinned)> {
    let mut pinned = Vec::new();
    if let Some(Base::Image { repository, digest, .. }) = resolved.images.get(name).map(|recipe| &recipe.base)
    {
        pinned.push((format!("{repository}@{digest}"), Pinned::from(*digest)));
    }
    for lock in resolved.packages.get(name).into_iter().flatten() {
        for index in &lock.indexes {
            let suite = format!("{}/dists/{}", index.url, index.suite);
            let signed = Pinned { digest: index.in_release, keys: index.keys.clone() };
            pinned.push((format!("{suite}/InRelease"), signed));
            pinned.push((format!("{suite}/{}", index.path), index.digest.into()));
        }
        let urls = lock.packages.iter().map(|package| Some((lock.url(package)?, package.digest.into())));
        pinned.extend(urls.flatten());
    }
    pinned.into_iter()
}

/// The profile's own part, with paths as its project has them, wherever that lies and whoever asks from where.
fn build(profile: &ProfileArgument) -> Build {
    let sources = profile.sources();
    let absolute = |path: &str| fs::canonicalize(path).unwrap_or_else(|_| path.into());
    let root = absolute(sources.root());
    let beside = root.parent().unwrap_or(Path::new("/")).to_owned();
    let top = git(&beside, &["rev-parse", "--show-toplevel"]).map(|top| PathBuf::from(top.trim()));
    let top = top.unwrap_or_else(|| beside.clone());
    let inside = |path: &str| {
        let path = absolute(path);
        path.strip_prefix(&top).unwrap_or(&path).to_string_lossy().into_owned()
    };
    let files: BTreeMap<_, _> =
        sources.texts().map(|(path, text)| (inside(path), Digest::of(text.as_bytes()))).collect();
    Build {
        profile: inside(sources.root()),
        lock: Some(inside(&sources.lock_path())).filter(|lock| files.contains_key(lock)),
        files,
        commit: commit(&beside),
        ..Build::default()
    }
}

impl Documents {
    /// Writes the documents into the builder's cache.
    pub(super) fn keep(&self, context: &Context<'_>) -> Result<(), Failure> {
        let directory = context.cache()?.join("provenance");
        let refused = |error: std::io::Error| {
            Failure::new(Code::Refused, format!("cannot write below `{}`: {error}", directory.display()))
        };
        fs::create_dir_all(&directory).map_err(refused)?;
        let sbom = self.sbom.as_ref().map(|sbom| ("spdx.json", sbom));
        for (ending, bytes) in sbom.into_iter().chain([("intoto.json", &self.statement)]) {
            let path = directory.join(format!("{}.{ending}", self.subject.digest.hex()));
            fs::write(path, bytes).map_err(refused)?;
        }
        Ok(())
    }

    fn attachments(&self) -> impl Iterator<Item = Attachment<'_>> {
        let about = BTreeMap::from([(ABOUT.to_owned(), slsa::PREDICATE.to_owned())]);
        let sbom = self.sbom.as_ref().map(|sbom| (spdx::MEDIA_TYPE, sbom, BTreeMap::new()));
        let all = sbom.into_iter().chain([(slsa::MEDIA_TYPE, &self.statement, about)]);
        all.map(|(kind, bytes, annotations)| Attachment {
            subject: &self.subject,
            artifact_type: kind,
            media_type: kind,
            bytes,
            annotations,
        })
    }
}

/// Attaches documents to their manifests, which are in `repository` by now.
pub(super) fn attach<'a>(
    registry: &Registry,
    repository: &Repository,
    documents: impl IntoIterator<Item = &'a Documents>,
) -> Result<(), Failure> {
    let attachments: Vec<_> = documents.into_iter().flat_map(Documents::attachments).collect();
    registry.attach(repository, &attachments).map(drop).map_err(|error| {
        Failure::of(Code::Refused, &error)
            .within("what it is made of cannot be attached".to_owned())
            .hint("`--no-provenance` pushes without that")
    })
}

/// The commit that a project is at, and whether any file of it differs; `None` where git tracks nothing.
fn commit(directory: &Path) -> Option<(String, bool)> {
    let commit = git(directory, &["rev-parse", "--verify", "HEAD"])?;
    Some((commit.trim().to_owned(), !git(directory, &["status", "--porcelain"])?.is_empty()))
}

fn git(directory: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(directory).args(arguments);
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).ok())?
}
