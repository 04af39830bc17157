//! `bundle.lock`: what every name that the network could change meant when somebody asked, and the address of each
//! service. Written by `bundle lock`, read by everything.

mod dockerfiles;
mod packages;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use toml::Spanned;

use crate::model::{Digest, ServiceName};
use crate::spec::{Activator, DockerfileLock, Hosts, PackageLock};

use super::diagnostics::Diagnostics;
use super::read::{Fields, as_table, parse};
use super::source::{Sources, Span, Table, Value};
use super::units::ImageReference;

/// The first number given to a service. Those below are left to the gateway and to people.
const FIRST_HOST: u16 = 10;

const HEADER: &str = "\
# Written by `bundle lock`. Every input that the network could change, as it was when somebody last asked, and the
# address of every service. Addresses are never given twice: the entry of a service that is gone stays.
";

/// A parsed lock. Like a profile it may carry faults, which [`resolve`](super::resolve()) reports with its own.
#[derive(Debug, Clone)]
pub struct Lock {
    faults: Diagnostics,
    pub(crate) missing: bool,
    images: BTreeMap<String, Pin>,
    hosts: BTreeMap<ServiceName, PlacedHosts>,
    activator: Option<Activator>,
    /// By image and architecture.
    packages: BTreeMap<(String, String), PackageLock>,
    dockerfiles: BTreeMap<String, DockerfileLock>,
}

/// What droplets run on, as a lock and an index name it.
const PLATFORM: &str = "linux/amd64";

/// What a tag meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The digest of the index or manifest.
    pub digest: Digest,
    /// If it is an index: the manifest that it has for droplets, so that an index that moved for the sake of other
    /// machines can be told from an image that did.
    pub manifest: Option<Digest>,
    /// The digest stands for an image that does not exist yet. Such a profile can be built and looked at, not deployed.
    pub placeholder: bool,
}

#[derive(Debug, Clone)]
struct PlacedHosts {
    hosts: Hosts,
    span: Option<Span>,
}

impl Lock {
    fn empty(sources: &Sources) -> Self {
        Self {
            faults: Diagnostics::new(sources),
            missing: false,
            images: BTreeMap::new(),
            hosts: BTreeMap::new(),
            activator: None,
            packages: BTreeMap::new(),
            dockerfiles: BTreeMap::new(),
        }
    }

    /// Reads the lock's table.
    pub(crate) fn of_table(sources: &Sources, table: &Table<'_>) -> Self {
        let mut lock = Self::empty(sources);
        let mut faults = Diagnostics::new(sources);
        lock.read(&sources.lock_path(), table, &mut faults);
        lock.faults = faults;
        lock
    }

    /// Reads the lock among the sources. One that is not there is empty.
    pub fn parse(sources: &Sources) -> Self {
        let mut lock = Self::empty(sources);
        let path = sources.lock_path();
        let Some(source) = sources.source(&path) else {
            lock.missing = true;
            if let Some(reason) =
                sources.unreadable(&path).filter(|reason| *reason != "there is no such file")
            {
                lock.faults.error_in(&path, format!("the lock cannot be read: {reason}"));
            }
            return lock;
        };
        let (table, errors) = source.parse();
        for (span, message) in &errors {
            lock.faults.error(span.clone(), message.as_str());
        }
        if errors.is_empty() { Self::of_table(sources, &table) } else { lock }
    }

    fn read(&mut self, path: &str, table: &Table<'_>, faults: &mut Diagnostics) {
        let mut top = Fields::new("the lock", table, faults);
        match top.integer("schema") {
            Some(schema) if *schema.get_ref() != 1 => {
                top.faults
                    .error(
                        schema.span(),
                        format!("this lock has schema {}, and this program reads 1", schema.get_ref()),
                    )
                    .help("use the version of `bundle` that wrote it, or a later one");
            }
            None if !table.contains_key("schema") => {
                top.faults.error_in(path, "`schema` is missing").help("write `schema = 1`");
            }
            _ => {}
        }
        for (key, value) in top.table("images").into_iter().flatten() {
            let text = Spanned::new(key.span(), key.get_ref().to_string());
            let Some(reference) = parse::<ImageReference>(top.faults, &text) else { continue };
            let pin = pin(top.faults, &text, value);
            self.images.extend(pin.map(|pin| (reference.get_ref().to_string(), pin)));
        }
        for (key, value) in top.table("hosts").into_iter().flatten() {
            let text = Spanned::new(key.span(), key.get_ref().to_string());
            let Some(name) = parse::<ServiceName>(top.faults, &text) else { continue };
            if let Some(hosts) = hosts(top.faults, &text, value) {
                self.hosts.insert(name.into_inner(), PlacedHosts { hosts, span: Some(key.span()) });
            }
        }
        if let Some(value) = top.get("activator") {
            self.activator = activator(top.faults, value);
        }
        for (image, value) in top.table("packages").into_iter().flatten() {
            let what = format!("`packages.{}`", image.get_ref());
            for (architecture, value) in as_table(top.faults, &what, value).into_iter().flatten() {
                let key = (image.get_ref().to_string(), architecture.get_ref().to_string());
                let read = packages::read(top.faults, &key.0, &key.1, value);
                self.packages.extend(read.map(|read| (key, read)));
            }
        }
        for (image, value) in top.table("dockerfiles").into_iter().flatten() {
            let read = dockerfiles::read(top.faults, image.get_ref(), value);
            self.dockerfiles.extend(read.map(|read| (image.get_ref().to_string(), read)));
        }
        top.finish();
        self.unique(faults);
    }

    /// No number may belong to two services.
    fn unique(&self, faults: &mut Diagnostics) {
        let mut seen: BTreeMap<u16, (&ServiceName, &PlacedHosts)> = BTreeMap::new();
        for (name, placed) in &self.hosts {
            for number in numbers(placed.hosts) {
                let first = seen.insert(number, (name, placed)).filter(|(first, _)| *first != name);
                if let (Some((first, other)), Some(span)) = (first, &placed.span) {
                    let fault = faults.error(
                        span.clone(),
                        format!("host number {number} belongs to `{first}` and `{name}`"),
                    );
                    fault.help("take the entry of the newer service out, and run `bundle lock`");
                    if let Some(place) = &other.span {
                        fault.also(place.clone(), "given first here");
                    }
                }
            }
        }
    }

    /// What is wrong with it, if anything is.
    pub fn faults(&self) -> &Diagnostics {
        &self.faults
    }

    /// What a tag meant.
    pub fn image(&self, reference: &ImageReference) -> Option<&Pin> {
        self.images.get(&reference.to_string())
    }

    /// Records what a tag means.
    pub fn pin(&mut self, reference: &ImageReference, pin: Pin) {
        self.images.insert(reference.to_string(), pin);
    }

    /// A service's numbers.
    pub fn hosts(&self, service: &ServiceName) -> Option<Hosts> {
        self.hosts.get(service).map(|placed| placed.hosts)
    }

    pub(crate) fn hosts_span(&self, service: &ServiceName) -> Option<Span> {
        self.hosts.get(service)?.span.clone()
    }

    /// The program that activates the bundle on a fresh droplet.
    pub fn activator(&self) -> Option<&Activator> {
        self.activator.as_ref()
    }

    /// Pins the program that activates the bundle on a fresh droplet.
    pub fn set_activator(&mut self, activator: Activator) {
        self.activator = Some(activator);
    }

    /// The packages of an image for an architecture, in Debian's word for it.
    pub fn packages(&self, image: &str, architecture: &str) -> Option<&PackageLock> {
        self.packages.get(&(image.to_owned(), architecture.to_owned()))
    }

    /// Records the packages of an image, for their architecture.
    pub fn set_packages(&mut self, image: &str, lock: PackageLock) {
        self.packages.insert((image.to_owned(), lock.architecture.clone()), lock);
    }

    /// What the Dockerfile of an image came to.
    pub fn dockerfile(&self, image: &str) -> Option<&DockerfileLock> {
        self.dockerfiles.get(image)
    }

    /// Records what the Dockerfile of an image came to.
    pub fn set_dockerfile(&mut self, image: &str, lock: DockerfileLock) {
        self.dockerfiles.insert(image.to_owned(), lock);
    }

    /// Gives numbers to the services (each with whether it is stateful) that have none, or whose kind of placement
    /// changed. A number once given is never given again, not even when its service is gone: another profile beside
    /// this one, or a machine that still runs an older generation, may know it.
    ///
    /// `false` if the numbers are used up; then nothing more is given.
    pub fn allocate<'n>(&mut self, services: impl IntoIterator<Item = (&'n ServiceName, bool)>) -> bool {
        let used = self.hosts.values().flat_map(|placed| numbers(placed.hosts)).max();
        let mut next = used.map_or(Some(FIRST_HOST), |used| used.max(FIRST_HOST - 1).checked_add(1));
        for (name, stateful) in services {
            if self.hosts(name).is_some_and(|hosts| fits_placement(hosts, stateful)) {
                continue;
            }
            let Some(first) = next else { return false };
            let Some(second) = (if stateful { Some(first) } else { first.checked_add(1) }) else {
                return false;
            };
            let hosts = Hosts { data_blue: first, data_green: second, slot: first };
            self.hosts.insert(name.clone(), PlacedHosts { hosts, span: None });
            next = second.checked_add(1);
        }
        true
    }

    /// The file's text: sorted, one byte form for one content.
    pub fn write(&self) -> String {
        let mut text = format!("{HEADER}schema = 1\n");
        for (reference, pin) in &self.images {
            let _ = write!(text, "\n[images.\"{reference}\"]\ndigest = \"{}\"\n", pin.digest);
            if let Some(manifest) = pin.manifest {
                let _ = writeln!(text, "\"{PLATFORM}\" = \"{manifest}\"");
            }
            if pin.placeholder {
                text.push_str("placeholder = true\n");
            }
        }
        for (name, PlacedHosts { hosts: Hosts { data_blue, data_green, slot }, .. }) in &self.hosts {
            // A name may have dots, which a bare key may not.
            let key = if name.as_str().contains('.') { format!("\"{name}\"") } else { name.to_string() };
            let _ = write!(
                text,
                "\n[hosts.{key}]\ndata_blue = {data_blue}\ndata_green = {data_green}\nslot = {slot}\n"
            );
        }
        if let Some(Activator { digest, size }) = &self.activator {
            let _ = write!(text, "\n[activator]\ndigest = \"{digest}\"\nsize = {size}\n");
        }
        for ((image, _), lock) in &self.packages {
            packages::write(&mut text, image, lock);
        }
        for (image, lock) in &self.dockerfiles {
            dockerfiles::write(&mut text, image, lock);
        }
        text
    }
}

/// Whether numbers are of the form that a placement needs: one on `data` for a stateful service, two for a slot's.
pub(crate) fn fits_placement(hosts: Hosts, stateful: bool) -> bool {
    (hosts.data_blue == hosts.data_green) == stateful
}

/// The numbers that belong to a service, each once.
fn numbers(hosts: Hosts) -> impl Iterator<Item = u16> {
    let mut numbers = vec![hosts.data_blue, hosts.data_green, hosts.slot];
    numbers.sort_unstable();
    numbers.dedup();
    numbers.into_iter()
}

fn pin(faults: &mut Diagnostics, name: &Spanned<String>, value: &Value<'_>) -> Option<Pin> {
    let what = format!("`images.\"{}\"`", name.get_ref());
    let table = as_table(faults, &what, value)?;
    let mut fields = Fields::new(what, table, faults);
    fields.require("digest", Some(name.span()), "`digest = \"sha256:…\"`");
    let digest = fields.parsed::<Digest>("digest");
    let manifest = fields.parsed::<Digest>(PLATFORM).map(Spanned::into_inner);
    let placeholder = fields.boolean("placeholder").unwrap_or_default();
    fields.finish();
    Some(Pin { digest: digest?.into_inner(), manifest, placeholder })
}

fn hosts(faults: &mut Diagnostics, name: &Spanned<String>, value: &Value<'_>) -> Option<Hosts> {
    let what = format!("`hosts.{}`", name.get_ref());
    let table = as_table(faults, &what, value)?;
    let mut fields = Fields::new(what, table, faults);
    let [data_blue, data_green, slot] = ["data_blue", "data_green", "slot"].map(|key| {
        fields.require(key, Some(name.span()), "a host number");
        let number = fields.integer(key)?;
        let host = u16::try_from(*number.get_ref()).ok().filter(|host| *host >= 2);
        if host.is_none() {
            fields
                .faults
                .error(number.span(), format!("`{}` is not a host number", number.get_ref()))
                .help("0 is the network and 1 its gateway; `bundle lock` counts from 10");
        }
        host
    });
    fields.finish();
    Some(Hosts { data_blue: data_blue?, data_green: data_green?, slot: slot? })
}

fn activator(faults: &mut Diagnostics, value: &Value<'_>) -> Option<Activator> {
    let table = as_table(faults, "`activator`", value)?;
    let mut fields = Fields::new("`activator`", table, faults);
    fields.require("digest", Some(value.span()), "`digest = \"sha256:…\"`");
    fields.require("size", Some(value.span()), "the size in bytes");
    let digest = fields.parsed::<Digest>("digest");
    let size = fields.integer("size").and_then(|size| {
        let bytes = u64::try_from(*size.get_ref()).ok().filter(|bytes| *bytes > 0);
        if bytes.is_none() {
            fields.faults.error(size.span(), format!("`{}` is not a size in bytes", size.get_ref()));
        }
        bytes
    });
    fields.finish();
    Some(Activator { digest: digest?.into_inner(), size: size? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Lock {
        let mut sources = Sources::new("p.toml");
        sources.add("bundle.lock", text);
        Lock::parse(&sources)
    }

    fn name(text: &str) -> ServiceName {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_written_is_read_and_written_again_the_same() {
        let mut lock = parse("schema = 1");
        let (a, b) = (name("a"), name("b.c"));
        assert!(lock.allocate([(&a, true), (&b, false)]));
        let reference = "postgres:16".parse().unwrap();
        lock.pin(
            &reference,
            Pin { digest: Digest::of(b"x"), manifest: Some(Digest::of(b"y")), placeholder: true },
        );
        lock.set_activator(Activator { digest: Digest::of(b"y"), size: 3 });
        let (inputs, digest) = (Digest::of(b"in"), Digest::of(b"out"));
        let builder = "buildx 0.13.1, \"BuildKit\"".to_owned();
        lock.set_dockerfile("app.x", DockerfileLock { inputs, digest, builder });
        let text = lock.write();
        let again = parse(&text);
        assert!(again.faults().is_empty(), "{}", again.faults());
        assert_eq!(again.write(), text);
        assert_eq!(again.hosts(&b), Some(Hosts { data_blue: 11, data_green: 12, slot: 11 }));
        let pin = again.image(&reference).unwrap();
        assert!(pin.placeholder && pin.manifest == Some(Digest::of(b"y")));
        assert_eq!(again.dockerfile("app.x"), lock.dockerfile("app.x"));
    }

    #[test]
    fn an_entry_of_a_dockerfile_is_whole_or_refused() {
        let digest = Digest::of(b"x");
        let text = format!(
            "schema = 1\n[dockerfiles.app]\ninputs = '{digest}'\ndigest = '{digest}'\nbuilder = 'b'\n"
        );
        assert!(parse(&text).faults().is_empty());
        for (from, to) in [
            ("inputs", "input"),
            ("digest = 'sha256:", "digest = 'sha1:"),
            ("'b'", "3"),
            ("[dockerfiles.app]", "[dockerfiles]"),
        ] {
            assert!(parse(&text.replacen(from, to, 1)).faults().has_errors(), "{from} {to}");
        }
    }

    #[test]
    fn a_number_is_never_given_again() {
        let mut lock = parse("schema = 1\n[hosts.gone]\ndata_blue = 40\ndata_green = 41\nslot = 40\n");
        let (a, gone) = (name("a"), name("gone"));
        assert!(lock.allocate([(&a, true)]));
        assert_eq!(lock.hosts(&a).unwrap().data_blue, 42);
        let before = lock.write();
        assert!(lock.allocate([(&a, true), (&gone, false)]));
        assert_eq!(lock.write(), before);
        assert!(lock.allocate([(&a, false)]));
        assert_eq!(lock.hosts(&a).unwrap(), Hosts { data_blue: 43, data_green: 44, slot: 43 });
    }

    #[test]
    fn numbers_can_be_used_up() {
        let mut lock = parse("schema = 1\n[hosts.x]\ndata_blue = 65535\ndata_green = 65535\nslot = 65535\n");
        assert!(!lock.allocate([(&name("a"), true)]));
        assert_eq!(lock.hosts(&name("a")), None);
    }
}
