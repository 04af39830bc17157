//! What maintainer scripts would have left and images need, synthesised from what the packages bring: users, directories
//! and their owners, copies, links, alternatives (`update-alternatives(1)`), and the certificates.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::known::{COPIED, GROUPS, LINKED, OWNED};
use super::package::Package;
use super::tree::{Tree, place};
use super::users::{Accounts, User};
use super::{DebianError, certificates, scripts};
use crate::image::{Entry, EntryPath, Kind};

/// Puts all of it into the tree.
pub(crate) fn leave(tree: &mut Tree, packages: &[Package], users: &[User]) -> Result<(), DebianError> {
    let has = |name: &str| packages.iter().any(|package| package.pin.name == name);
    let mut accounts = Accounts::collect(tree, packages, users)?;
    for (package, group) in GROUPS {
        if has(package) {
            accounts.group(group, None);
        }
    }
    accounts.write(tree)?;
    for (_, from, to) in COPIED.iter().filter(|(package, _, _)| has(package)) {
        if let Some(bytes) = tree.read(from)? {
            file(tree, to, bytes)?;
        }
    }
    for (_, path, target) in LINKED.iter().filter(|(package, _, _)| has(package)) {
        link(tree, path, target)?;
    }
    for (_, path, mode, user, group) in OWNED.iter().filter(|(package, ..)| has(package)) {
        let (uid, gid) = (accounts.uid(user).unwrap_or_default(), accounts.gid(group).unwrap_or_default());
        match path.strip_suffix('/') {
            Some(directory) if !tree.has(directory) => {
                tree.put(Entry::new(at(directory)?, Kind::Directory, *mode).owned_by(uid, gid));
            }
            directory => tree.own(directory.unwrap_or(path), *mode, uid, gid),
        }
    }
    if has("netbase") {
        file(
            tree,
            "etc/networks",
            b"default\t\t0.0.0.0\nloopback\t127.0.0.0\nlink-local\t169.254.0.0\n".to_vec(),
        )?;
    }
    alternatives(tree, packages)?;
    certificates::install(tree)
}

fn at(path: &str) -> Result<EntryPath, DebianError> {
    EntryPath::new(path.trim_start_matches('/')).map_err(|error| DebianError::Lock(error.to_string()))
}

/// A file that everybody may read.
pub(crate) fn file(tree: &mut Tree, path: &str, bytes: Vec<u8>) -> Result<(), DebianError> {
    tree.put(Entry::new(at(path)?, Kind::File(bytes.into()), 0o644));
    Ok(())
}

/// A symbolic link.
pub(crate) fn link(tree: &mut Tree, path: &str, target: &str) -> Result<(), DebianError> {
    tree.put(Entry::new(at(path)?, Kind::Symlink(target.as_bytes().to_vec()), 0o777));
    Ok(())
}

/// One group of alternatives: its link, and each choice with its priority and its slaves, by name.
#[derive(Default)]
struct Alternative {
    link: String,
    slaves: BTreeMap<String, String>,
    choices: BTreeMap<String, (i64, BTreeMap<String, String>)>,
}

fn alternatives(tree: &mut Tree, packages: &[Package]) -> Result<(), DebianError> {
    let mut groups: BTreeMap<String, Alternative> = BTreeMap::new();
    for package in packages {
        let script = package.files.get("postinst").map(Vec::as_slice).unwrap_or_default();
        for call in scripts::alternatives(script) {
            let [link, name, path, priority, rest @ ..] = &call[..] else { continue };
            let Ok(priority) = priority.parse() else { continue };
            if !there(tree, path) {
                continue;
            }
            let group = groups.entry(name.clone()).or_default();
            group.link.clone_from(link);
            let mut slaves = BTreeMap::new();
            for slave in rest.chunks(4) {
                if let [word, link, name, path] = slave
                    && word == "--slave"
                {
                    group.slaves.insert(name.clone(), link.clone());
                    slaves.insert(name.clone(), path.clone());
                }
            }
            group.choices.insert(path.clone(), (priority, slaves));
        }
    }
    for (name, group) in &groups {
        // The highest priority; of several the first by name, as nothing else is sure.
        let best =
            group.choices.iter().max_by_key(|(path, (priority, _))| (*priority, std::cmp::Reverse(*path)));
        let Some((path, (_, slaves))) = best else { continue };
        choose(tree, name, &group.link, path)?;
        for (slave, path) in slaves {
            if let Some(link) = group.slaves.get(slave).filter(|_| there(tree, path)) {
                choose(tree, slave, link, path)?;
            }
        }
        file(tree, &format!("var/lib/dpkg/alternatives/{name}"), group.text().into_bytes())?;
    }
    Ok(())
}

fn there(tree: &Tree, path: &str) -> bool {
    let path = at(path).map(|path| place(&path, &Kind::Symlink(Vec::new())));
    path.is_ok_and(|path| tree.nodes().contains_key(&path))
}

fn choose(tree: &mut Tree, name: &str, from: &str, to: &str) -> Result<(), DebianError> {
    link(tree, from, &format!("/etc/alternatives/{name}"))?;
    link(tree, &format!("etc/alternatives/{name}"), to)
}

impl Alternative {
    /// As `update-alternatives` keeps it in `/var/lib/dpkg/alternatives`.
    fn text(&self) -> String {
        let mut text = format!("auto\n{}\n", self.link);
        for (name, link) in &self.slaves {
            let _ = write!(text, "{name}\n{link}\n");
        }
        text.push('\n');
        for (path, (priority, slaves)) in &self.choices {
            let _ = write!(text, "{path}\n{priority}\n");
            for name in self.slaves.keys() {
                text.push_str(slaves.get(name).map_or("", String::as_str));
                text.push('\n');
            }
        }
        text + "\n"
    }
}
