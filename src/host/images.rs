//! Images that were carried here: into Docker, under their local name only when they are whole.

use std::io::{self, Write};
use std::time::Duration;

use serde::Deserialize;

use super::command::Program;
use super::docker::{delete, docker, get, sync_data_root};
use crate::activate::HostError;
use crate::bundle::{Blob, ImageFiles, ImagePin, Layout};
use crate::model::json;

/// What unpacking a large image may take on a small machine.
const LOAD: Duration = Duration::from_mins(15);
/// What removing the layers of one may take.
const REMOVE: Duration = Duration::from_mins(2);
/// The time of every entry of the archive; nobody looks at it.
const MTIME: u64 = 0;

pub(super) fn has(image: &ImagePin) -> bool {
    // Asked on the socket: on the way back every image is there, and requests wait for us.
    matches!(get(&format!("/images/{}/json", image.local)), Ok((200, _)))
}

/// What the local names begin with; images on their way in have another.
const OURS: &str = "bundle.local/";
const INCOMING: &str = "bundle.local/incoming:";

/// An image as Docker lists it (Docker Engine API, `ImageList`).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
}

fn listed() -> Result<Vec<Listed>, HostError> {
    let fail = |why: String| HostError::new("listing images", why);
    match get("/images/json").map_err(fail)? {
        (200, json) => serde_json::from_slice(&json).map_err(|error| fail(error.to_string())),
        (status, _) => Err(fail(format!("Docker answers {status}"))),
    }
}

pub(super) fn ours() -> Result<Vec<String>, HostError> {
    let tags = listed()?.into_iter().flat_map(|image| image.repo_tags.unwrap_or_default());
    let mut ours: Vec<_> = tags.filter(|tag| tag.starts_with(OURS) && !tag.starts_with(INCOMING)).collect();
    ours.sort();
    Ok(ours)
}

/// Takes the name that it was fetched by as well, unless somebody gave the image a name of their own.
pub(super) fn remove(local: &str) -> Result<(), HostError> {
    names(local, listed()?).iter().try_for_each(|name| match delete(&format!("/images/{name}"), REMOVE) {
        Ok(200 | 404) => Ok(()),
        Ok(409) => Err(HostError::new(format!("removing the image `{name}`"), "a container uses it")),
        Ok(status) => {
            Err(HostError::new(format!("removing the image `{name}`"), format!("Docker answers {status}")))
        }
        Err(why) => Err(HostError::new(format!("removing the image `{name}`"), why)),
    })
}

fn names(local: &str, all: Vec<Listed>) -> Vec<String> {
    let hex = local.rsplit(':').next().unwrap_or_default();
    let mut names = vec![local.to_owned()];
    for image in all {
        let tags = image.repo_tags.unwrap_or_default();
        if tags.iter().any(|tag| tag == local) && tags.iter().all(|tag| tag == local) {
            let digests = image.repo_digests.unwrap_or_default();
            names.extend(digests.into_iter().filter(|name| name.ends_with(&format!("@sha256:{hex}"))));
        }
    }
    names
}

/// Has Docker load an image whose blobs have been verified, proves that it is that image, and gives it its local name.
pub(super) fn load(image: &ImagePin, files: &ImageFiles, layout: &Layout) -> Result<(), HostError> {
    let incoming = format!("bundle.local/incoming:{}", image.digest.hex());
    let program = Program::new("docker").args(["load", "--quiet"]).limit(LOAD);
    program.feed(|stdin| archive(stdin, &incoming, files, layout))?;
    let id = docker(["image", "inspect", "--format", "{{.Id}}", &incoming]).run()?;
    // Docker names an image by its config, and with containerd's store by its manifest.
    let right = [files.config.digest, files.manifest.digest, image.digest];
    if !right.iter().any(|digest| digest.to_string() == id.trim()) {
        drop(docker(["image", "rm", &incoming]).run());
        let cause = format!("Docker made {} of it, not {}", id.trim(), files.config.digest);
        return Err(HostError::new(format!("loading `{}`", image.reference), cause));
    }
    // Its layers before its name, as after a pull.
    sync_data_root()?;
    docker(["tag", &incoming, &image.local]).run()?;
    sync_data_root()?;
    docker(["image", "rm", &incoming]).run().map(drop)
}

/// An image as `docker save` writes it: an OCI layout, and for older readers a `manifest.json` (moby, `image/spec`).
fn archive(out: &mut dyn Write, name: &str, files: &ImageFiles, layout: &Layout) -> io::Result<()> {
    let mut archive = tar::Builder::new(out);
    let path = |blob: &Blob| format!("blobs/sha256/{}", blob.digest.hex());
    let mut blobs: Vec<&Blob> = [&files.manifest, &files.config].into_iter().chain(&files.layers).collect();
    blobs.sort_by_key(|blob| blob.digest);
    blobs.dedup_by_key(|blob| blob.digest);
    for blob in blobs {
        let file = layout.open_blob(blob.digest).map_err(io::Error::other)?;
        archive.append_data(&mut header(blob.size), path(blob), io::Read::take(file, blob.size))?;
    }
    let tag = name.rsplit(':').next().unwrap_or_default();
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": crate::bundle::oci::INDEX_TYPE,
        "manifests": [{
            "mediaType": files.manifest.media_type,
            "digest": files.manifest.digest,
            "size": files.manifest.size,
            "annotations": {
                "io.containerd.image.name": name,
                "org.opencontainers.image.ref.name": tag,
            },
        }],
    });
    let manifest = serde_json::json!([{
        "Config": path(&files.config),
        "RepoTags": [name],
        "Layers": files.layers.iter().map(path).collect::<Vec<_>>(),
    }]);
    let marker = serde_json::json!({ "imageLayoutVersion": "1.0.0" });
    for (name, document) in [("index.json", index), ("manifest.json", manifest), ("oci-layout", marker)] {
        let bytes = json::to_vec(&document).map_err(io::Error::other)?;
        archive.append_data(&mut header(bytes.len() as u64), name, bytes.as_slice())?;
    }
    archive.into_inner()?.flush()
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(MTIME);
    header.set_entry_type(tar::EntryType::Regular);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_loses_our_names_and_no_other() {
        let all = |tags: &str| -> Vec<Listed> {
            let json = format!(
                r#"[{{"RepoTags":[{tags}],"RepoDigests":["ghcr.io/a/web@sha256:ab","ghcr.io/a/web@sha256:cd"]}},
                    {{"RepoTags":null,"RepoDigests":["x@sha256:ab"]}}]"#
            );
            serde_json::from_str(&json).unwrap()
        };
        let ours = "bundle.local/web:ab";
        assert_eq!(names(ours, all(&format!("\"{ours}\""))), [ours, "ghcr.io/a/web@sha256:ab"]);
        assert_eq!(names(ours, all(&format!("\"{ours}\",\"mine:1\""))), [ours]);
    }
}
