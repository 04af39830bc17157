//! From a lock to layers: fetch what is not in the cache, decode, put together, leave what scripts would have left.

use super::cache::Cache;
use super::fetch::{Fetch, Wanted};
use super::package::Package;
use super::tree::{Exclude, Tree};
use super::users::User;
use super::{DebianError, deb, grouping, ldconfig, leftovers, scripts, status};
use crate::image::Entry;
use crate::spec::{PackageLock, PackagePin, Past};

/// The scripts of a package that run when it is installed. Those of removal never do.
const SCRIPTS: [&str; 2] = ["preinst", "postinst"];
/// Whose directories are as it says, whatever others say.
const FIRST: &str = "base-files";

/// How an image is made of its packages.
#[derive(Debug, Clone, Default)]
pub struct Options<'a> {
    /// Patterns of paths that are left out: of several that fit the last counts, and `!` in front keeps.
    pub exclude: &'a [String],
    /// Packages whose scripts may be left out although they are not known.
    pub accept_scripts: &'a [String],
    /// Users besides those that packages bring; one of the same name counts instead.
    pub users: &'a [User],
    /// How many packages are decoded at once; at least one is.
    pub threads: usize,
}

/// How many packages were fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetched {
    /// All that the cache did not have.
    pub all: usize,
    /// Those that their archive had dropped, and that came from its past.
    pub past: usize,
}

/// Fetches the packages that the cache does not have. What an archive has dropped since is taken from its `past`.
pub fn fetch(
    lock: &PackageLock,
    fetch: &dyn Fetch,
    cache: &Cache,
    past: &Past,
) -> Result<Fetched, DebianError> {
    let mut wanted = Vec::new();
    for pin in lock.packages.iter().filter(|pin| !cache.has(pin.digest, pin.size)) {
        let url = lock.url(pin).ok_or_else(|| {
            DebianError::Lock(format!("`{}` is of the suite `{}`, which is not there", pin.name, pin.suite))
        })?;
        let also = lock.past(pin, past);
        wanted.push(Wanted { url, also, path: cache.path(pin.digest), size: pin.size, digest: pin.digest });
    }
    let past = fetch.files(&wanted)?;
    Ok(Fetched { all: wanted.len(), past })
}

/// The layers of an image with these packages, which are all in the cache.
pub fn layers(
    lock: &PackageLock,
    cache: &Cache,
    options: &Options<'_>,
) -> Result<Vec<Vec<Entry>>, DebianError> {
    let packages = packages(lock, cache, options.threads)?;
    known(&packages, options.accept_scripts)?;
    let mut tree = Tree::merge(&packages, Exclude::new(options.exclude)?)?;
    leftovers::leave(&mut tree, &packages, options.users)?;
    ldconfig::run(&mut tree, &packages, &lock.architecture)?;
    status::write(&mut tree, &packages, &lock.architecture)?;
    Ok(grouping::split(&tree, &packages))
}

/// What one package brings, in its own order and as it says: neither merged nor moved.
pub fn entries(pin: &PackagePin, cache: &Cache) -> Result<Vec<Entry>, DebianError> {
    let decoded = deb::decode(std::slice::from_ref(pin), cache, 1)?;
    decoded.iter().try_fold(Vec::new(), |_, decoded| Ok(Package::read(pin, decoded)?.entries))
}

fn packages(lock: &PackageLock, cache: &Cache, threads: usize) -> Result<Vec<Package>, DebianError> {
    let mut pins = lock.packages.clone();
    pins.sort_by(|a, b| (a.name != FIRST, &a.name).cmp(&(b.name != FIRST, &b.name)));
    if let Some(pair) = pins.windows(2).find(|pair| pair[0].name == pair[1].name) {
        return Err(DebianError::Lock(format!("`{}` is there twice", pair[0].name)));
    }
    let decoded = deb::decode(&pins, cache, threads)?;
    pins.iter().zip(&decoded).map(|(pin, decoded)| Package::read(pin, decoded)).collect()
}

/// Refuses packages with scripts of which nobody knows what they do, all at once.
fn known(packages: &[Package], accepted: &[String]) -> Result<(), DebianError> {
    let mut unknown = Vec::new();
    for package in packages.iter().filter(|package| !accepted.contains(&package.pin.name)) {
        for script in SCRIPTS {
            let text = package.files.get(script);
            unknown.extend(text.and_then(|text| scripts::unknown(&package.pin.name, script, text)));
        }
    }
    if unknown.is_empty() { Ok(()) } else { Err(DebianError::Scripts(unknown)) }
}
