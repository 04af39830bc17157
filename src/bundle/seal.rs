//! Spec and tree in, bundle out: the last pure step. The same arguments give the same bytes, everywhere.

use std::collections::BTreeMap;
use std::io;

use super::archive::{self, ArchiveError};
use super::check::{self, ManifestFault};
use super::oci::{CONFIG_TYPE, Descriptor, LAYER_TYPE, OciManifest};
use super::{
    ActivatorPin, ArtifactEntry, Backups, ImagePin, Manifest, Network, Project, Projects, RouteRule,
    SlotService, Switching,
};
use super::{archive::MAX_CONTENT, gz1};
use crate::artifacts::Tree;
use crate::model::json::{self, CanonicalJsonError};
use crate::model::{Digest, ParseNameError, RouteName, ServiceName, Slot, StorePath};
use crate::spec::{Networks, Placement, Route, Spec};

/// A finished bundle: the manifest and every byte that travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    manifest: Manifest,
    config: Vec<u8>,
    digest: Digest,
    oci_manifest: Vec<u8>,
    oci_digest: Digest,
    layer: Vec<u8>,
    layer_digest: Digest,
}

/// Why a tree does not make a bundle. These are faults of the renderers or of a profile that the checks let through.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// No kind said what the release is.
    #[error("no artifact kind has set the release")]
    NoRelease,
    /// A file that every bundle has, or this one needs.
    #[error("no artifact kind has written `{0}`")]
    NoFile(&'static str),
    /// A route to a service that is not there, or not in the slots.
    #[error("route `{route}` leads to `{service}`, which is not a service of the slots")]
    Route {
        /// The route.
        route: RouteName,
        /// The service.
        service: ServiceName,
    },
    /// A network's name. They are constants.
    #[error("a network has a wrong name")]
    Network(#[from] ParseNameError),
    /// The parts do not fit each other.
    #[error("the manifest would contradict itself")]
    Fault(#[from] ManifestFault),
    /// A manifest without canonical form.
    #[error("the manifest has no canonical form")]
    Json(#[from] CanonicalJsonError),
    /// Files that do not fit the archive.
    #[error("the files cannot be put into an archive (at most {MAX_CONTENT} bytes)")]
    Archive(#[from] ArchiveError),
    /// The encoder failed.
    #[error("the layer cannot be compressed")]
    Compress(#[source] io::Error),
}

impl Bundle {
    /// What the activator reads.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The canonical bytes of the manifest: the OCI config blob.
    pub fn config(&self) -> &[u8] {
        &self.config
    }

    /// The bundle's identity: SHA-256 of [`Bundle::config`].
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The bytes of the OCI image manifest.
    pub fn oci_manifest(&self) -> &[u8] {
        &self.oci_manifest
    }

    /// SHA-256 of [`Bundle::oci_manifest`]: what `repository@sha256:…` says. It covers the compression too.
    pub fn oci_digest(&self) -> Digest {
        self.oci_digest
    }

    /// The compressed archive of all files.
    pub fn layer(&self) -> &[u8] {
        &self.layer
    }

    /// SHA-256 of [`Bundle::layer`].
    pub fn layer_digest(&self) -> Digest {
        self.layer_digest
    }
}

/// Makes the bundle.
pub fn seal(spec: &Spec, tree: &Tree) -> Result<Bundle, SealError> {
    let manifest = manifest(spec, tree)?;
    check::check(&manifest)?;
    let config = json::to_vec(&manifest)?;
    let layer = layer(tree)?;
    let (config_blob, layer_blob) =
        (Descriptor::of(CONFIG_TYPE, &config), Descriptor::of(LAYER_TYPE, &layer));
    let (digest, layer_digest) = (config_blob.digest, layer_blob.digest);
    let oci_manifest = json::to_vec(&OciManifest::new(config_blob, layer_blob))?;
    let oci_digest = Digest::of(&oci_manifest);
    Ok(Bundle { manifest, config, digest, oci_manifest, oci_digest, layer, layer_digest })
}

fn layer(tree: &Tree) -> Result<Vec<u8>, SealError> {
    let distinct: BTreeMap<StorePath, _> = tree.entries().map(|entry| (entry.store_path(), entry)).collect();
    let files = distinct.iter().map(|(path, entry)| (path, entry.mode, entry.content.as_slice()));
    gz1::encode(&archive::write(files)?).map_err(SealError::Compress)
}

fn manifest(spec: &Spec, tree: &Tree) -> Result<Manifest, SealError> {
    let artifacts = tree.entries().map(|entry| ArtifactEntry {
        kind: entry.kind.to_owned(),
        path: entry.path.clone(),
        slots: entry.slots,
        mode: entry.mode,
        size: entry.content.len() as u64,
        digest: Digest::of(&entry.content),
        check: entry.check.clone(),
        on_change: entry.on_change.clone(),
        unit: entry.unit.clone(),
    });
    let route = |(name, route): (&RouteName, &Route)| Ok((name.clone(), route_rule(spec, name, route)?));
    Ok(Manifest {
        schema: Manifest::SCHEMA,
        profile: spec.name.clone(),
        release: tree.release().ok_or(SealError::NoRelease)?,
        artifacts: artifacts.collect(),
        images: images(spec),
        networks: networks(&spec.networks)?,
        projects: projects(spec, tree)?,
        masks: tree.masks().clone(),
        routes: spec.routes.iter().map(route).collect::<Result<_, SealError>>()?,
        secrets: spec.secrets.clone(),
        secret_files: tree.secret_files().cloned().collect(),
        domain: spec.domain.clone(),
        switching: Switching {
            trial_seconds: spec.switching.trial_seconds,
            health_seconds: spec.switching.health_seconds,
            drain_seconds: spec.switching.drain_seconds,
        },
        backups: tree.kept_days().map(|keep_days| Backups { keep_days, dumps: tree.dumps().to_vec() }),
        activator: spec.activator.as_ref().map(|pin| ActivatorPin { digest: pin.digest, size: pin.size }),
    })
}

/// One pin for each local name. Two repositories with the same last part and the same digest hold the same image, so
/// one of them is enough; the first by name is taken.
fn images(spec: &Spec) -> Vec<ImagePin> {
    let mut pins: Vec<_> = spec
        .services
        .values()
        .map(|service| &service.image)
        .map(|image| ImagePin {
            local: image.local(),
            reference: image.by_digest(),
            name: image.name.clone(),
            digest: image.digest,
        })
        .collect();
    pins.sort();
    pins.dedup_by(|later, first| later.local == first.local);
    pins
}

fn networks(networks: &Networks) -> Result<Vec<Network>, SealError> {
    [("blue", networks.blue, false), ("data", networks.data, true), ("green", networks.green, false)]
        .into_iter()
        .map(|(name, subnet, internal)| {
            Ok(Network { name: name.parse()?, subnet, internal, bridge: format!("br-{name}") })
        })
        .collect()
}

fn projects(spec: &Spec, tree: &Tree) -> Result<Projects, SealError> {
    let file = |path, slot| tree.get(path, slot).map(crate::artifacts::Entry::store_path);
    let placed = |data: bool| {
        spec.services.iter().filter(move |(_, service)| (service.placement == Placement::Data) == data)
    };
    let stateful: Vec<ServiceName> = placed(true).map(|(name, _)| name.clone()).collect();
    let data = match file("compose/data.yaml", Slot::Blue) {
        None if stateful.is_empty() => None,
        None => return Err(SealError::NoFile("compose/data.yaml")),
        Some(file) => Some(Project { file, services: stateful }),
    };
    let slot = placed(false).map(|(name, service)| {
        (name.clone(), SlotService { singleton: service.placement == Placement::SlotSingleton })
    });
    Ok(Projects {
        data,
        slot: slot.collect(),
        blue: file("compose/blue.yaml", Slot::Blue).ok_or(SealError::NoFile("compose/blue.yaml"))?,
        green: file("compose/green.yaml", Slot::Green).ok_or(SealError::NoFile("compose/green.yaml"))?,
        migrations: spec.migrations.clone(),
    })
}

fn route_rule(spec: &Spec, name: &RouteName, route: &Route) -> Result<RouteRule, SealError> {
    let service = spec
        .services
        .get(&route.service)
        .filter(|service| service.placement != Placement::Data)
        .ok_or_else(|| SealError::Route { route: name.clone(), service: route.service.clone() })?;
    let address = |slot| Networks::address(spec.networks.of(slot), service.hosts.slot);
    Ok(RouteRule {
        service: route.service.clone(),
        host: (route.host != spec.domain).then(|| route.host.clone()),
        port: route.port,
        health: route.health.clone(),
        release_header: route.release_header.clone(),
        blue: address(Slot::Blue),
        green: address(Slot::Green),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::Entry;
    use crate::bundle::sample;
    use crate::model::Mode;

    #[test]
    fn a_bundle_is_named_by_its_config_and_says_everything_in_it() {
        let bundle = sample::bundle();
        assert_eq!(bundle.digest(), Digest::of(bundle.config()));
        let read: Manifest = json::from_slice_canonical(bundle.config()).unwrap();
        assert_eq!(&read, bundle.manifest());
        insta::assert_json_snapshot!(read);
    }

    #[test]
    fn the_oci_manifest_is_ours_and_points_at_both_blobs() {
        let bundle = sample::bundle();
        let oci = OciManifest::parse(bundle.oci_manifest()).unwrap();
        assert_eq!(oci.config(), &Descriptor::of(CONFIG_TYPE, bundle.config()));
        assert_eq!(oci.layer(), &Descriptor::of(LAYER_TYPE, bundle.layer()));
    }

    #[test]
    fn one_content_in_two_places_travels_once() {
        let mut seen = Vec::new();
        let limit = 1 << 20;
        archive::read(gz1::Reader::new(sample::bundle().layer(), limit), |header, _| {
            seen.push(header.path.name().to_owned());
            Ok::<_, ArchiveError>(())
        })
        .unwrap();
        assert_eq!(seen.iter().filter(|name| *name == "same.conf").count(), 1);
        assert_eq!(seen.iter().filter(|name| *name == "colour.conf").count(), 2);
        assert_eq!(sample::bundle().manifest().artifacts.len(), seen.len() + 1);
    }

    #[test]
    fn the_digests_are_those_of_yesterday() {
        let bundle = sample::bundle();
        let digests = [bundle.digest(), bundle.layer_digest(), bundle.oci_digest()].map(|d| d.short());
        assert_eq!(digests, ["d4b6f3c9fe48", "4d1d40bc1d03", "7cf209b1e8a9"]);
    }

    #[test]
    fn any_change_of_a_file_is_another_bundle() {
        let (spec, mut tree) = (sample::spec(), sample::tree());
        let extra = Entry::text("test", "etc/extra".parse().unwrap(), String::new());
        tree.insert(Entry { mode: Mode::Run, ..extra }).unwrap();
        assert_ne!(seal(&spec, &tree).unwrap().digest(), sample::bundle().digest());
    }

    #[test]
    fn what_is_missing_is_named() {
        let spec = sample::spec();
        assert!(matches!(seal(&spec, &Tree::default()), Err(SealError::NoRelease)));
        let mut tree = Tree::default();
        tree.set_release(Digest::of(b""));
        assert!(matches!(seal(&spec, &tree), Err(SealError::NoFile("compose/data.yaml"))));
        let mut astray = sample::spec();
        astray.routes.values_mut().for_each(|route| route.service = "redis".parse().unwrap());
        assert!(matches!(seal(&astray, &sample::tree()), Err(SealError::Route { .. })));
    }
}
