//! Where the command line finds things: the builder's cache, the machine's settings, registries' certificates.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::Context;
use super::progress::Shown;
use super::report::{Code, Failure};
use crate::bundle::{Layout, Manifest, OpenedBundle, Verified};
use crate::registry::{Environment, Options, Progress, Ref, Registry, Repository};
use crate::store::{Login, Store};

/// How a command reaches its registry, besides what Docker and podman are told.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Reach {
    /// Trust the certificates in this PEM file too, for the registry
    #[arg(long, value_name = "FILE")]
    registry_ca: Option<PathBuf>,
    /// Certificates that the profile trusts for its registry
    #[arg(skip)]
    profile_ca: Option<String>,
}

impl Reach {
    /// The same, with what a profile trusts for its registry.
    pub(super) fn of_profile(&self, ca: Option<&String>) -> Self {
        Self { profile_ca: ca.cloned(), ..self.clone() }
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

impl Context<'_> {
    /// The builder's cache: `$XDG_CACHE_HOME/bundle`, `~/.cache/bundle` (XDG base directory specification), or below
    /// `--root`.
    /// Nobody clears it as long as this process runs.
    pub(super) fn cache(&self) -> Result<PathBuf, Failure> {
        let cache = self.cache_directory()?;
        self.cache.get_or_init(|| super::cache::share(&cache));
        Ok(cache)
    }

    /// The same, without a lock on it.
    pub(super) fn cache_directory(&self) -> Result<PathBuf, Failure> {
        if let Some(root) = &self.root {
            return Ok(root.join("var/cache/bundle"));
        }
        let cache = variable("XDG_CACHE_HOME").filter(|path| path.is_absolute());
        let cache = cache.or_else(|| variable("HOME").map(|home| home.join(".cache")));
        cache.map(|cache| cache.join("bundle")).ok_or_else(|| {
            Failure::new(
                Code::Input,
                "there is nowhere to keep the bundle: neither `XDG_CACHE_HOME` nor `HOME` is set",
            )
            .hint("name a directory with `--root DIR`")
        })
    }

    /// The layout in which built bundles are kept.
    pub(super) fn layout_dir(&self) -> Result<PathBuf, Failure> {
        Ok(self.cache()?.join("layout"))
    }

    /// A registry client with the credentials of docker and podman, and the certificates that Docker would trust for
    /// this host (`/etc/docker/certs.d/HOST/*.crt`), and those that `reach` names.
    pub(super) fn registry(&self, host: Option<&str>, reach: &Reach) -> Result<Registry, Failure> {
        self.registry_of(host.as_slice(), reach)
    }

    /// The same for several hosts.
    pub(super) fn registry_of(&self, hosts: &[&str], reach: &Reach) -> Result<Registry, Failure> {
        let environment = Environment {
            registry_auth_file: variable("REGISTRY_AUTH_FILE"),
            machine: hosts.iter().find_map(|host| self.machine_login(Some(host))),
            xdg_runtime_dir: variable("XDG_RUNTIME_DIR"),
            docker_config: variable("DOCKER_CONFIG"),
            home: variable("HOME"),
            path: std::env::var_os("PATH"),
        };
        let mut pem: Vec<u8> = hosts.iter().flat_map(|host| certificates(host)).collect();
        if let Some(path) = &reach.registry_ca {
            let read = fs::read(path).map_err(|error| {
                Failure::new(Code::Input, format!("`{}` cannot be read: {error}", path.display()))
            });
            pem.extend(read?);
        }
        pem.extend(reach.profile_ca.iter().flat_map(|text| text.bytes()));
        let extra_ca = Some(pem).filter(|pem| !pem.is_empty());
        // Who reads JSON reads what else is said, too.
        let progress = (!self.json).then(|| Arc::new(Shown::new()) as Arc<dyn Progress>);
        Registry::new(Options { extra_ca, environment, progress, ..Options::default() })
            .map_err(|error| Failure::of(Code::Refused, &error))
    }

    /// The machine's own login to `host`. One that cannot be made says so when the registry asks for it.
    fn machine_login(&self, host: Option<&str>) -> Option<PathBuf> {
        let store = self.store();
        let ours = store.machine_registry().ok().flatten()?;
        match store.registry_login() {
            Ok(Login::File(path)) if host == Some(ours.host()) => Some(path),
            _ => None,
        }
    }

    /// The repository in which a bundle's own digest is looked for: the one named, or the machine's.
    pub(super) fn repository(&self, named: Option<&Repository>) -> Result<Option<Repository>, Failure> {
        if let Some(named) = named {
            return Ok(Some(named.clone()));
        }
        let Some(ours) = self.store().machine_registry()? else { return Ok(None) };
        ours.repository.parse().map(Some).map_err(|error| {
            Failure::new(
                Code::Input,
                format!("`/etc/bundle/registry.toml` does not name a repository: {error}"),
            )
        })
    }

    /// Fetches what `reference` means into `directory`, verified.
    pub(super) fn fetch(
        &self,
        reference: &Ref,
        repository: Option<&Repository>,
        reach: &Reach,
        directory: &Path,
    ) -> Result<Verified<OpenedBundle>, Failure> {
        if let Some(opened) = self.received(reference) {
            return Ok(opened);
        }
        let repository = self.repository(repository)?;
        let host = match reference {
            Ref::Tag(repository, _) | Ref::Manifest(repository, _) => Some(repository.host()),
            Ref::Bundle(_) => repository.as_ref().map(Repository::host),
            Ref::Layout(_) => None,
        };
        let pulled = self.registry(host, reach)?.pull_bundle(reference, repository.as_ref(), directory);
        let (_, opened) = pulled.map_err(|error| Failure::of(Code::Refused, &error))?;
        Ok(opened)
    }

    /// The bundle of this digest, if it was sent here over an operator's connection.
    pub(super) fn received(&self, reference: &Ref) -> Option<Verified<OpenedBundle>> {
        let Ref::Bundle(digest) = reference else { return None };
        let layout = Layout::open(&self.store().received_bundle()).ok()?;
        Verified::<OpenedBundle>::the_only(&layout).ok().filter(|opened| opened.digest() == *digest)
    }
}

/// What the bundle that was last sent to this machine needs; nothing, if none was.
pub(super) fn last_received(store: &Store) -> Option<Manifest> {
    let layout = Layout::open(&store.received_bundle()).ok()?;
    Verified::<OpenedBundle>::the_only(&layout).ok().map(|opened| opened.manifest().clone())
}

/// All certificates that Docker trusts for `host`, one after the other (docs.docker.com, "Verify repository client with
/// certificates").
fn certificates(host: &str) -> Vec<u8> {
    let Ok(entries) = fs::read_dir(Path::new("/etc/docker/certs.d").join(host)) else { return Vec::new() };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "crt"));
    paths.sort();
    paths.iter().filter_map(|path| fs::read(path).ok()).flatten().collect()
}
