//! What must hold in a manifest beyond its types. The build side asks it before sealing, the droplet before believing,
//! so neither can meet a manifest that the other would not have let through.

use std::collections::BTreeMap;

use super::{ArtifactEntry, Manifest};
use crate::model::{SecretFile, SecretSource, ServiceName, Slots, StorePath};

/// What is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestFault {
    /// Another format.
    #[error("the manifest has schema {0}, this `bundle` reads schema {schema}; use the version that built it", schema = Manifest::SCHEMA)]
    Schema(u32),
    /// A list that is not in order, or names something twice.
    #[error("`{list}` is not sorted, or has `{item}` twice")]
    Unsorted {
        /// The list.
        list: &'static str,
        /// The item that does not come after the one before it.
        item: String,
    },
    /// Two entries that contradict each other.
    #[error("two artifacts at `{0}` contradict each other")]
    Collision(String),
    /// A file that is named but not there.
    #[error("`{by}` names the file `{path}`, which no artifact has")]
    NoFile {
        /// Who names it.
        by: String,
        /// The store path.
        path: String,
    },
    /// A service that is named but not there.
    #[error("`{by}` names the service `{service}`, which the slots do not have")]
    NoService {
        /// Who names it.
        by: String,
        /// The service.
        service: String,
    },
    /// A secret that is named but not there.
    #[error("the secret file `{file}` holds the secret `{secret}`, which the manifest does not have")]
    NoSecret {
        /// The file.
        file: String,
        /// The secret.
        secret: String,
    },
    /// A link that must not stand there.
    #[error("the manifest asks for a link at `{0}`, where none may be")]
    Link(String),
    /// An image whose three fields do not say the same.
    #[error("the image `{0}` does not have the name and digest that its reference says")]
    Image(String),
    /// A copy of what is not there, or under a name that is not one.
    #[error("a copy of `{0}` is to be made, which is no stateful service, or under an odd name")]
    Dump(ServiceName),
}

/// Every file of the manifest by store path. Two places with the same name, mode and content share one.
pub fn files(manifest: &Manifest) -> BTreeMap<StorePath, &ArtifactEntry> {
    manifest.artifacts.iter().map(|entry| (entry.store_path(), entry)).collect()
}

/// Checks all of it.
pub fn check(manifest: &Manifest) -> Result<(), ManifestFault> {
    if manifest.schema != Manifest::SCHEMA {
        return Err(ManifestFault::Schema(manifest.schema));
    }
    sorted("artifacts", manifest.artifacts.iter().map(|entry| (&entry.path, entry.slots)), |key| {
        key.0.to_string()
    })?;
    sorted("images", manifest.images.iter().map(|image| &image.local), ToString::to_string)?;
    sorted("networks", manifest.networks.iter().map(|network| &network.name), ToString::to_string)?;
    sorted("secret_files", manifest.secret_files.iter().map(|file| &file.path), ToString::to_string)?;
    check_artifacts(manifest)?;
    check_references(manifest)?;
    let stateful = manifest.projects.data.iter().flat_map(|data| &data.services).collect::<Vec<_>>();
    for dump in manifest.backups.iter().flat_map(|backups| &backups.dumps) {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if !stateful.contains(&&dump.service) || dump.suffix.is_empty() || !dump.suffix.bytes().all(plain) {
            return Err(ManifestFault::Dump(dump.service.clone()));
        }
    }
    for image in &manifest.images {
        let local = format!("bundle.local/{}:{}", image.name, image.digest.hex());
        if image.local != local || !image.reference.ends_with(&format!("@{}", image.digest)) {
            return Err(ManifestFault::Image(image.local.clone()));
        }
    }
    Ok(())
}

fn sorted<T: Ord>(
    list: &'static str,
    items: impl Iterator<Item = T>,
    name: impl Fn(&T) -> String,
) -> Result<(), ManifestFault> {
    let mut before = None;
    for item in items {
        if before.is_some_and(|before| before >= item) {
            return Err(ManifestFault::Unsorted { list, item: name(&item) });
        }
        before = Some(item);
    }
    Ok(())
}

fn check_artifacts(manifest: &Manifest) -> Result<(), ManifestFault> {
    let mut sizes = BTreeMap::new();
    let mut last: Option<&ArtifactEntry> = None;
    for entry in &manifest.artifacts {
        // `Both` sorts before the colours.
        let covered = last.is_some_and(|last| last.path == entry.path && last.slots == Slots::Both);
        let size = *sizes.entry(entry.digest).or_insert(entry.size);
        if covered || size != entry.size {
            return Err(ManifestFault::Collision(entry.path.to_string()));
        }
        last = Some(entry);
    }
    Ok(())
}

fn check_references(manifest: &Manifest) -> Result<(), ManifestFault> {
    let files = files(manifest);
    let file = |by: &str, path: &StorePath| {
        let fault = || ManifestFault::NoFile { by: by.to_owned(), path: path.to_string() };
        files.contains_key(path).then_some(()).ok_or_else(fault)
    };
    let service = |by: String, service: &ServiceName| {
        let known = manifest.projects.slot.contains_key(service);
        known.then_some(()).ok_or_else(|| ManifestFault::NoService { by, service: service.to_string() })
    };
    if let Some(data) = &manifest.projects.data {
        file("projects.data", &data.file)?;
        sorted("projects.data.services", data.services.iter(), ToString::to_string)?;
    }
    file("projects.blue", &manifest.projects.blue)?;
    file("projects.green", &manifest.projects.green)?;
    if let Some(migrations) = &manifest.projects.migrations {
        service("projects.migrations".to_owned(), migrations)?;
    }
    for (name, route) in &manifest.routes {
        service(format!("routes.{name}"), &route.service)?;
    }
    for secret_file in &manifest.secret_files {
        if let Some(link) = secret_file.link.as_ref().filter(|link| !SecretFile::may_link(link)) {
            return Err(ManifestFault::Link(link.clone()));
        }
        match &secret_file.source {
            SecretSource::Template(path) => file(secret_file.path.as_str(), path)?,
            SecretSource::Value(secret) if manifest.secrets.contains_key(secret) => {}
            SecretSource::Value(secret) => {
                let (file, secret) = (secret_file.path.to_string(), secret.to_string());
                return Err(ManifestFault::NoSecret { file, secret });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::sample;

    #[test]
    fn a_sealed_manifest_is_right() {
        assert_eq!(check(sample::bundle().manifest()), Ok(()));
    }

    #[test]
    fn every_contradiction_is_found() {
        type Change = fn(&mut Manifest);
        let changes: &[(&str, Change)] = &[
            ("schema 2", |m| m.schema = 2),
            ("`artifacts`", |m| m.artifacts.swap(0, 1)),
            ("`artifacts`", |m| m.artifacts.insert(0, m.artifacts[0].clone())),
            ("`networks`", |m| m.networks.reverse()),
            ("`images`", |m| m.images.reverse()),
            ("contradict", |m| {
                let blue = m.artifacts.iter_mut().find(|entry| entry.slots == Slots::Blue);
                blue.unwrap().slots = Slots::Both;
            }),
            ("contradict", |m| {
                let mut copy = m.artifacts.last().unwrap().clone();
                copy.path = "zzz/copy".parse().unwrap();
                copy.size += 1;
                m.artifacts.push(copy);
            }),
            ("`projects.blue`", |m| m.artifacts.retain(|entry| entry.path.as_str() != "compose/blue.yaml")),
            ("`projects.data`", |m| m.artifacts.retain(|entry| entry.path.as_str() != "compose/data.yaml")),
            ("`redis/users.acl`", |m| m.artifacts.retain(|entry| entry.path.name() != "users.acl.tmpl")),
            ("`projects.migrations`", |m| m.projects.slot.clear()),
            ("`routes.web`", |m| {
                m.projects.migrations = None;
                m.projects.slot.clear();
            }),
            ("which the manifest does not have", |m| m.secrets.clear()),
            ("the image", |m| m.images[0].local.push('0')),
        ];
        for (words, change) in changes {
            let mut manifest = sample::bundle().manifest().clone();
            change(&mut manifest);
            let fault = check(&manifest).unwrap_err().to_string();
            assert!(fault.contains(words), "{words}: {fault}");
        }
    }
}
