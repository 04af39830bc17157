//! A recipe → an image in a layout. What is the same as last time is taken from there.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::base::BaseImage;
use super::cache::{Actions, Key};
use super::document;
use super::entry::{Content, Entry, EntryPath, EntryPathError, Kind};
use super::files::{self, FilesError};
use super::layer::{self, LayerError, Lower};
use super::rootfs;
use super::write::{self, Layer, WriteError};
use crate::bundle::oci::{Descriptor, INDEX_TYPE, MANIFEST_TYPE};
use crate::bundle::{Layout, LayoutError};
use crate::model::json::CanonicalJsonError;
use crate::spec::{Base, ImageRecipe, ImageUser};

/// How many layers an image may have: Docker's limit (`layer/layer.go`, `maxLayerDepth`, is 125).
const MOST_LAYERS: usize = 125;

/// Builds images into a layout.
#[derive(Debug)]
pub struct Builder<'a> {
    /// Where blobs go.
    pub layout: &'a Layout,
    /// What was built before.
    pub actions: &'a Actions,
    /// How many threads compress.
    pub threads: NonZeroUsize,
}

/// What a recipe needs from elsewhere, for one architecture.
#[derive(Debug, Default)]
pub struct Parts {
    /// The image that it is built on, if that is an image.
    pub base: Option<BaseImage>,
    /// The layers of its packages, the lowest first.
    pub packages: Vec<Vec<Entry>>,
}

/// An image that has been built.
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    /// Its index, if it is for several architectures, or else its manifest.
    pub root: Descriptor,
    /// Each architecture's own.
    pub platforms: Vec<Platform>,
    /// How many layers had to be written; the others were known.
    pub written: usize,
}

/// An image for one architecture.
#[derive(Debug, Clone, PartialEq)]
pub struct Platform {
    /// In the words of OCI.
    pub architecture: String,
    /// Its manifest.
    pub manifest: Descriptor,
    /// Its configuration; the digest is the image's content.
    pub config: Descriptor,
    /// The base's layers, which are not in the layout.
    pub base: Vec<Descriptor>,
    /// The layers that were built.
    pub layers: Vec<Layer>,
}

/// Why an image could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Files that cannot be copied.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Entries that are no layer.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A layer that could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A path that no image can have.
    #[error(transparent)]
    Path(#[from] EntryPathError),
    /// The layout cannot be written.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A file that was there a moment ago.
    #[error("a file that goes into the image cannot be looked at")]
    Look(#[source] io::Error),
    /// Users where nobody knows who is there already.
    #[error(
        "`users` needs packages, or nothing, below it: what the base's `/etc/passwd` says is not known here; write numbers in `user` instead"
    )]
    Users,
    /// Too many layers.
    #[error("the image would have {0} layers; Docker takes {MOST_LAYERS}")]
    TooManyLayers(usize),
    /// A base's configuration that cannot be written canonically.
    #[error("the base's configuration has a number that is not whole")]
    Json(#[from] CanonicalJsonError),
}

/// A layer to be.
enum Plan {
    /// Of these entries, with what it is for people.
    Entries(String, Vec<Entry>),
    /// A tarball as it is.
    Tarball(PathBuf),
}

impl Builder<'_> {
    /// Builds a recipe, with the parts of each of its architectures.
    pub fn build(&self, recipe: &ImageRecipe, parts: Vec<(String, Parts)>) -> Result<Built, BuildError> {
        let mut platforms = Vec::new();
        let mut written = 0;
        for (architecture, parts) in parts {
            let plans = plan(recipe, parts.packages)?;
            let below = parts.base.as_ref().map_or(0, |base| base.layers.len());
            if below + plans.len() > MOST_LAYERS {
                return Err(BuildError::TooManyLayers(below + plans.len()));
            }
            let layers = self.layers(&plans)?;
            written += layers.iter().filter(|(_, new)| *new).count();
            let noted: Vec<(String, Layer)> =
                plans.iter().zip(layers).map(|(plan, (layer, _))| (plan.note(), layer)).collect();
            let bytes = document::config(&recipe.config, &architecture, parts.base.as_ref(), &noted)?;
            let config = self.document(document::CONFIG_TYPE, &bytes)?;
            let bytes = document::manifest(&config, parts.base.as_ref(), &noted)?;
            platforms.push(Platform {
                architecture,
                manifest: self.document(MANIFEST_TYPE, &bytes)?,
                config,
                base: parts.base.map(|base| base.layers).unwrap_or_default(),
                layers: noted.into_iter().map(|(_, layer)| layer).collect(),
            });
        }
        let root = match platforms.as_slice() {
            [only] => only.manifest.clone(),
            several => {
                let named = several.iter().map(|one| (one.architecture.clone(), one.manifest.clone()));
                self.document(INDEX_TYPE, &document::index(&named.collect::<Vec<_>>())?)?
            }
        };
        Ok(Built { root, platforms, written })
    }

    fn document(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor, BuildError> {
        self.layout.write_blob(bytes)?;
        Ok(Descriptor::of(media_type, bytes))
    }

    /// The layers of the plans, in their order, and whether each is new. Several are written at once: one waits for the
    /// disk while another is compressed, and no hash has to keep up with all processors.
    fn layers(&self, plans: &[Plan]) -> Result<Vec<(Layer, bool)>, BuildError> {
        let at_once = (self.threads.get() / 4).max(2).min(plans.len());
        let each =
            NonZeroUsize::new(self.threads.get().div_ceil(at_once.max(1))).unwrap_or(NonZeroUsize::MIN);
        // The large ones first: what is left at the end, when a thread may have nothing more to do, is soon done.
        let mut order: Vec<usize> = (0..plans.len()).collect();
        order.sort_by_key(|&nth| std::cmp::Reverse(plans[nth].size()));
        let next = AtomicUsize::new(0);
        let results = Mutex::new(BTreeMap::new());
        thread::scope(|scope| {
            for _ in 0..at_once {
                scope.spawn(|| {
                    loop {
                        let taken = next.fetch_add(1, Ordering::Relaxed);
                        let Some(&nth) = order.get(taken) else { return };
                        let result = self.layer(&plans[nth], each);
                        if result.is_err() {
                            // Nobody needs what comes after it.
                            next.store(plans.len(), Ordering::Relaxed);
                        }
                        results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(nth, result);
                    }
                });
            }
        });
        results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).into_values().collect()
    }

    fn layer(&self, plan: &Plan, threads: NonZeroUsize) -> Result<(Layer, bool), BuildError> {
        let key = match plan {
            Plan::Entries(_, entries) => Key::of(entries),
            Plan::Tarball(path) => Key::of_file(path),
        };
        let key = key.map_err(BuildError::Look)?;
        if let Some(layer) = self.actions.look(&key, self.layout) {
            return Ok((layer, false));
        }
        let begun = self.layout.new_blob()?.made().map_err(BuildError::Look)?;
        let layer = match plan {
            Plan::Entries(_, entries) => write::write(entries, self.layout, threads)?,
            Plan::Tarball(path) => rootfs::write(path, self.layout, threads)?,
        };
        self.actions.keep(&key, begun, &layer).map_err(BuildError::Look)?;
        Ok((layer, true))
    }
}

impl Plan {
    fn note(&self) -> String {
        match self {
            Self::Entries(note, _) => format!("bundle: {note}"),
            Self::Tarball(_) => "bundle: rootfs".to_owned(),
        }
    }

    /// About how many bytes are compressed.
    fn size(&self) -> u64 {
        match self {
            Self::Entries(_, entries) => entries
                .iter()
                .filter_map(|entry| match &entry.kind {
                    Kind::File(content) => Some(content.size()),
                    _ => None,
                })
                .sum(),
            Self::Tarball(_) => u64::MAX,
        }
    }
}

/// All layers of a recipe above its base.
fn plan(recipe: &ImageRecipe, packages: Vec<Vec<Entry>>) -> Result<Vec<Plan>, BuildError> {
    let mut plans = Vec::new();
    // Above a base whose files nobody has looked at, a directory is left as it is there.
    let mut lower = matches!(recipe.base, Base::Scratch).then(Lower::default);
    if let Base::Rootfs { path } = &recipe.base {
        plans.push(Plan::Tarball(path.clone()));
    }
    let has_packages = !packages.is_empty();
    let mut add = |note: &str, entries: Vec<Entry>| -> Result<(), BuildError> {
        let arranged = layer::arrange(entries, lower.as_mut())?;
        plans.extend(layer::cut(arranged).into_iter().map(|cut| Plan::Entries(note.to_owned(), cut)));
        Ok(())
    };
    for layer in packages {
        add("packages", layer)?;
    }
    let own = own(recipe, has_packages)?;
    if !own.is_empty() {
        add("recipe", own)?;
    }
    for copy in &recipe.layers {
        add(&format!("copy to {}", copy.to), files::gather(copy)?)?;
    }
    Ok(plans)
}

/// What the recipe itself puts into the image.
fn own(recipe: &ImageRecipe, has_packages: bool) -> Result<Vec<Entry>, BuildError> {
    let mut entries = Vec::new();
    let path = |text: &str| -> Result<EntryPath, BuildError> {
        EntryPath::absolute(text)?.map_or_else(|| Ok(EntryPath::new("")?), Ok)
    };
    // Where there are packages, their users and the recipe's stand in one file.
    if !recipe.users.is_empty() && !has_packages {
        if recipe.base != Base::Scratch {
            return Err(BuildError::Users);
        }
        entries.extend(accounts(&recipe.users)?);
    }
    for directory in &recipe.directories {
        let entry = Entry::new(path(&directory.path)?, Kind::Directory, directory.mode);
        entries.push(entry.owned_by(directory.uid, directory.gid));
    }
    for link in &recipe.links {
        entries.push(Entry::new(path(&link.path)?, Kind::Symlink(link.target.clone().into_bytes()), 0o777));
    }
    Ok(entries)
}

/// `/etc/passwd` and `/etc/group` of root and these users (`passwd(5)`, `group(5)`).
fn accounts(users: &[ImageUser]) -> Result<Vec<Entry>, BuildError> {
    let mut passwd = "root:x:0:0:root:/root:/sbin/nologin\n".to_owned();
    let mut group = "root:x:0:\n".to_owned();
    for ImageUser { name, uid, gid, home, shell } in users {
        passwd.push_str(&[name, "x", &uid.to_string(), &gid.to_string(), "", home, shell].join(":"));
        passwd.push('\n');
        group.push_str(&[name, "x", &gid.to_string(), ""].join(":"));
        group.push('\n');
    }
    let file = |name: &str, text: String| -> Result<Entry, BuildError> {
        Ok(Entry::new(EntryPath::new(name)?, Kind::File(Content::from(text.into_bytes())), 0o644))
    };
    Ok(vec![file("etc/passwd", passwd)?, file("etc/group", group)?])
}
