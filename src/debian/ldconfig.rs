//! `/etc/ld.so.cache`, as `ldconfig(8)` would have written it when `libc-bin` was configured, byte for byte: which library
//! answers to which name, so that the loader need not look into every directory. And the links from those names to the
//! files, where a package does not bring them.
//!
//! The format is the one of `glibc-ld.so.cache1.1` alone, as `ldconfig` writes it since glibc 2.32: a header, an entry for
//! each library, their names, and extensions (`sysdeps/generic/dl-cache.h` in glibc's source says what each number means).

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet};

use super::elf::{self, Library};
use super::leftovers::file;
use super::package::{self, Package};
use super::tree::{Node, Tree};
use super::{DebianError, version};
use crate::image::{EntryPath, Kind};
use crate::model::Pattern;

/// Of which package the scripts run it.
const BY: &str = "libc-bin";
const CONFIGURATION: &str = "/etc/ld.so.conf";
const CACHE: &str = "etc/ld.so.cache";
/// How many files may include one another.
const MAX_DEPTH: usize = 8;
/// How many links are followed, as Linux does it (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

const HEADER: usize = 48;
const ENTRY: usize = 24;
const LITTLE_ENDIAN: u32 = 2;
const EXTENSIONS: u32 = 0xeaa4_2174;
const GENERATOR: u32 = 0;
const CAPABILITIES: u32 = 1;
/// In an entry's capabilities: the rest is a level of the processor, and the number of a directory's name.
const NAMED: u64 = 1 << 62;

/// What `ldconfig` of an architecture knows: its own directories' name, and which libraries it takes, by machine and
/// width, with the flags that it gives them.
struct Native {
    triplet: &'static str,
    takes: &'static [(u16, bool, u32)],
}

/// A directory with libraries.
struct Directory {
    /// As it was named, which is how the cache names what is in it.
    said: Vec<u8>,
    /// Where it really is.
    at: EntryPath,
    /// The name of the processors that it is for, if it is below `glibc-hwcaps`.
    processors: Option<Vec<u8>>,
}

/// A library that the loader finds.
struct Found {
    soname: Vec<u8>,
    flags: u32,
    processors: Option<Vec<u8>>,
    level: u32,
    path: Vec<u8>,
}

/// One file of a directory that answers to a name.
struct Answer {
    name: Vec<u8>,
    flags: u32,
    level: u32,
    link: bool,
}

/// Writes cache and links, if there is a `libc-bin` that would have done so.
pub(crate) fn run(tree: &mut Tree, packages: &[Package], architecture: &str) -> Result<(), DebianError> {
    let (Some(by), Some(native)) =
        (packages.iter().find(|package| package.pin.name == BY), native(architecture))
    else {
        return Ok(());
    };
    let mut found = Vec::new();
    let mut links = Vec::new();
    let directories = directories(tree, &native)?;
    for directory in &directories {
        for (soname, answer) in answers(tree, directory, &native)? {
            let path = |name: &[u8]| [&directory.said, b"/".as_slice(), name].concat();
            let named = directory.processors.is_some();
            if !named && !answer.link {
                links.extend(missing(tree, directory, &soname, &answer.name));
            }
            let Answer { name, flags, level, .. } = answer;
            let path = path(if named { &name } else { &soname });
            found.push(Found { soname, flags, processors: directory.processors.clone(), level, path });
        }
    }
    for (from, to) in links {
        tree.point(from, to);
    }
    let names = directories.into_iter().filter_map(|directory| directory.processors).collect();
    file(tree, CACHE, cache(found, &names, &generator(&by.pin.version)))
}

/// What `ldconfig` says of itself: Debian builds it with the package's version.
fn generator(version: &str) -> String {
    format!("ldconfig (Debian GLIBC {version}) stable release version {}", version::upstream(version))
}

fn native(architecture: &str) -> Option<Native> {
    match architecture {
        // i386, x32 and x86-64.
        "amd64" => Some(Native {
            triplet: "x86_64-linux-gnu",
            takes: &[(62, true, 0x303), (62, false, 0x803), (3, false, 3)],
        }),
        "arm64" => Some(Native { triplet: "aarch64-linux-gnu", takes: &[(183, true, 0xa03)] }),
        _ => None,
    }
}

impl Native {
    fn flags(&self, library: &Library) -> Option<u32> {
        let fits = |(machine, wide, _): &&_| (*machine, *wide) == (library.machine, library.wide);
        self.takes.iter().find(fits).map(|(_, _, flags)| *flags)
    }
}

/// Where to look, in `ldconfig`'s order: what is configured, then what is built in. Each once, by its first name.
fn directories(tree: &Tree, native: &Native) -> Result<Vec<Directory>, DebianError> {
    let mut said = Vec::new();
    configured(tree, CONFIGURATION.as_bytes(), 0, &mut said)?;
    for built_in in ["/lib/", "/usr/lib/"] {
        said.push([built_in, native.triplet].concat().into_bytes());
    }
    said.extend([b"/lib".to_vec(), b"/usr/lib".to_vec()]);
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for said in said {
        let Some(at) = directory(tree, &said).filter(|at| seen.insert(at.clone())) else { continue };
        let below = [at.as_bytes(), b"/glibc-hwcaps"].concat();
        all.push(Directory { said: said.clone(), at, processors: None });
        for (name, _) in directory(tree, &below).iter().flat_map(|at| children(tree, at)) {
            let path = [&below, b"/".as_slice(), name].concat();
            if name.starts_with(b".") || name.contains(&b':') {
                continue;
            }
            if let Some(at) = directory(tree, &path).filter(|at| seen.insert(at.clone())) {
                let said = [&said, b"/glibc-hwcaps/".as_slice(), name].concat();
                all.push(Directory { said, at, processors: Some(name.to_vec()) });
            }
        }
    }
    Ok(all)
}

/// Reads a file of directories, and what it includes.
fn configured(tree: &Tree, path: &[u8], depth: usize, into: &mut Vec<Vec<u8>>) -> Result<(), DebianError> {
    let Some((_, Node { entry, .. })) = resolve(tree, path) else { return Ok(()) };
    let Kind::File(content) = &entry.kind else { return Ok(()) };
    let bytes = package::bytes(content)?;
    for line in bytes.split(|&byte| byte == b'\n') {
        let line = line.split(|&byte| byte == b'#').next().unwrap_or_default().trim_ascii();
        let (word, rest) = line.split_at(line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len()));
        match word {
            b"include" if depth < MAX_DEPTH => {
                for pattern in rest.split(u8::is_ascii_whitespace) {
                    for path in included(tree, pattern) {
                        configured(tree, path.as_bytes(), depth + 1, into)?;
                    }
                }
            }
            b"hwcap" | b"" => {}
            _ => {
                let path = line.split(|&byte| byte == b'=').next().unwrap_or_default().trim_ascii();
                let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
                into.extend(Some(path[..end].to_vec()).filter(|path| !path.is_empty()));
            }
        }
    }
    Ok(())
}

/// The files that a pattern means, by name; hidden ones are not meant by a star.
fn included(tree: &Tree, pattern: &[u8]) -> Vec<EntryPath> {
    let pattern = std::str::from_utf8(pattern).ok().and_then(|text| text.strip_prefix('/'));
    let Some(pattern) = pattern.and_then(|text| text.parse::<Pattern>().ok()) else { return Vec::new() };
    let fits = |path: &&EntryPath| pattern.fits(path.as_bytes()) && !path.name().starts_with(b".");
    tree.nodes().keys().filter(fits).cloned().collect()
}

/// Which file of a directory answers to each name: a file before a link, and of several the latest by its own name.
fn answers(
    tree: &Tree,
    directory: &Directory,
    native: &Native,
) -> Result<BTreeMap<Vec<u8>, Answer>, DebianError> {
    let mut answers: BTreeMap<Vec<u8>, Answer> = BTreeMap::new();
    for (name, node) in children(tree, &directory.at) {
        let mut link = matches!(node.entry.kind, Kind::Symlink(_));
        let named = is_library(name) || (link && directory.processors.is_some());
        if !named || is_passing(name) {
            continue;
        }
        let path = [directory.at.as_bytes(), b"/", name].concat();
        let Some((_, Node { entry, .. })) = resolve(tree, &path) else { continue };
        let Kind::File(content) = &entry.kind else { continue };
        let Some(library) = elf::read(content)? else { continue };
        let Some(flags) = native.flags(&library) else { continue };
        let mut soname = library.soname.unwrap_or_else(|| name.to_vec());
        if soname.is_empty() || soname.contains(&b'/') {
            continue;
        }
        // `libx.so`, which is there to link against, is another name beside `libx.so.1`; any other link that is not
        // called as its library calls itself is as good as the file.
        link = link && (name == soname || (name.ends_with(b".so") && soname.starts_with(name)));
        if link {
            soname = name.to_vec();
        }
        let answer = Answer { name: name.to_vec(), flags, level: library.level, link };
        match answers.get_mut(&soname) {
            Some(known) => {
                let later =
                    !link && known.link || link == known.link && compare(&known.name, name) == Ordering::Less;
                if later {
                    // The first one's flags stay.
                    *known = Answer { flags: known.flags, ..answer };
                }
            }
            None => drop(answers.insert(soname, answer)),
        }
    }
    Ok(answers)
}

/// The link from a name to its file, if it leads elsewhere or is not there. What is no link is left alone.
fn missing(tree: &Tree, directory: &Directory, soname: &[u8], name: &[u8]) -> Option<(EntryPath, Vec<u8>)> {
    let (from, to) = (directory.at.join(soname).ok()?, directory.at.join(name).ok()?);
    let same = match (resolve(tree, from.as_bytes()), resolve(tree, to.as_bytes())) {
        (Some((one, a)), Some((other, b))) => one == other || (a.linked && a.entry.kind == b.entry.kind),
        _ => false,
    };
    let free = tree.nodes().get(&from).is_none_or(|node| matches!(node.entry.kind, Kind::Symlink(_)));
    (free && !same).then(|| (from, name.to_vec()))
}

fn is_library(name: &[u8]) -> bool {
    let named = name.starts_with(b"lib") || name.starts_with(b"ld-");
    (named && name.windows(3).any(|part| part == b".so"))
        || name.starts_with(b"ld.so.")
        || name.starts_with(b"ld64.so.")
}

/// What a package manager is only about to install.
fn is_passing(name: &[u8]) -> bool {
    name.contains(&b';') || name.ends_with(b".dpkg-new") || name.ends_with(b".dpkg-tmp")
}

/// What is in a directory, by name.
fn children<'t>(tree: &'t Tree, at: &EntryPath) -> impl Iterator<Item = (&'t [u8], &'t Node)> {
    let prefix = [at.as_bytes(), b"/"].concat();
    let from = EntryPath::new([&prefix, b"\x01".as_slice()].concat()).ok();
    let below = from.map(|from| tree.nodes().range(from..)).into_iter().flatten();
    let length = prefix.len();
    let below = below.take_while(move |(path, _)| path.as_bytes().starts_with(&prefix));
    below
        .map(move |(path, node)| (&path.as_bytes()[length..], node))
        .filter(|(name, _)| !name.contains(&b'/'))
}

fn directory(tree: &Tree, path: &[u8]) -> Option<EntryPath> {
    let (path, node) = resolve(tree, path)?;
    (node.entry.kind == Kind::Directory).then(|| path.clone())
}

/// Follows a path within the image, as `path_resolution(7)` says.
fn resolve<'t>(tree: &'t Tree, path: &[u8]) -> Option<(&'t EntryPath, &'t Node)> {
    let names = |path: &[u8]| path.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec).collect::<Vec<_>>();
    let mut left = names(path);
    let mut at: Vec<Vec<u8>> = Vec::new();
    let mut followed = 0;
    let mut found = None;
    while let Some(name) = left.pop() {
        match &*name {
            b"" | b"." => continue,
            b".." => drop(at.pop()),
            _ => at.push(name),
        }
        if at.is_empty() {
            continue;
        }
        let (path, node) = tree.nodes().get_key_value(&EntryPath::new(at.join(&b'/')).ok()?)?;
        if let Kind::Symlink(target) = &node.entry.kind {
            followed += 1;
            if followed > MAX_LINKS {
                return None;
            }
            if target.starts_with(b"/") {
                at.clear();
            } else {
                at.pop();
            }
            left.extend(names(target));
        }
        found = Some((path, node));
    }
    found.filter(|(_, node)| !at.is_empty() && !matches!(node.entry.kind, Kind::Symlink(_)))
}

/// The order of names in the cache, which the loader searches by halves: numbers in them by their value.
fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (Some(first), Some(second)) = (a.first(), b.first()) else { return a.len().cmp(&b.len()) };
        match (first.is_ascii_digit(), second.is_ascii_digit()) {
            (true, true) => match number(&mut a).cmp(&number(&mut b)) {
                Ordering::Equal => {}
                decided => return decided,
            },
            (true, false) => return Ordering::Greater,
            (false, true) => return Ordering::Less,
            (false, false) if first == second => (a, b) = (&a[1..], &b[1..]),
            // `char` has a sign on x86 and none on ARM; names of libraries are ASCII.
            (false, false) => return first.cmp(second),
        }
    }
}

/// Takes a number off the beginning. The loader counts in `int`.
fn number(text: &mut &[u8]) -> i32 {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest;
    digits.iter().fold(0_i32, |value, digit| value.wrapping_mul(10).wrapping_add(i32::from(digit - b'0')))
}

/// The file. `names` are those of all directories of certain processors, also of such in which there is nothing.
fn cache(mut found: Vec<Found>, names: &BTreeSet<Vec<u8>>, generator: &str) -> Vec<u8> {
    // Those for certain processors first: the loader stops at the first other one.
    found.sort_by(|a, b| {
        let rest = |found: &Found| (Reverse(found.flags), found.processors.is_none());
        compare(&b.soname, &a.soname)
            .then_with(|| rest(a).cmp(&rest(b)))
            .then_with(|| a.processors.cmp(&b.processors))
    });
    let used: BTreeSet<_> = found.iter().filter_map(|one| one.processors.as_ref()).collect();
    let texts = found.iter().flat_map(|one| [&one.soname, &one.path]).chain(names);
    let (offsets, strings) = strings(texts.map(Vec::as_slice).collect());
    let start = HEADER + ENTRY * found.len();
    let at = |text: &[u8]| small(start + offsets.get(text).copied().unwrap_or_default());
    let extensions = (start + strings.len()).next_multiple_of(4);

    let mut bytes = b"glibc-ld.so.cache1.1".to_vec();
    for number in [small(found.len()), small(strings.len()), LITTLE_ENDIAN, small(extensions), 0, 0, 0] {
        bytes.extend(number.to_le_bytes());
    }
    for one in &found {
        for number in [one.flags, at(&one.soname), at(&one.path), 0] {
            bytes.extend(number.to_le_bytes());
        }
        let place = one.processors.as_ref().and_then(|name| used.iter().position(|used| *used == name));
        let processors = place.map_or(0, |place| NAMED | u64::from(one.level) << 32 | place as u64);
        bytes.extend(processors.to_le_bytes());
    }
    bytes.extend(strings);
    bytes.resize(extensions, 0);

    let sections = if used.is_empty() { 1 } else { 2 };
    let after = extensions + 8 + 16 * sections;
    let own = after + 4 * used.len();
    bytes.extend([EXTENSIONS, small(sections)].map(u32::to_le_bytes).concat());
    bytes.extend([GENERATOR, 0, small(own), small(generator.len())].map(u32::to_le_bytes).concat());
    if !used.is_empty() {
        bytes.extend([CAPABILITIES, 0, small(after), small(4 * used.len())].map(u32::to_le_bytes).concat());
    }
    for name in used {
        bytes.extend(at(name).to_le_bytes());
    }
    bytes.extend(generator.bytes());
    bytes
}

/// All texts, each with a NUL behind it, and where each begins. What another ends with lies in that one.
fn strings(texts: BTreeSet<&[u8]>) -> (BTreeMap<&[u8], usize>, Vec<u8>) {
    let mut texts: Vec<_> = texts.into_iter().collect();
    // From the end, backwards, and the longer ones first.
    texts.sort_by(|a, b| b.iter().rev().cmp(a.iter().rev()));
    let mut offsets = BTreeMap::new();
    let mut bytes: Vec<u8> = Vec::new();
    let mut last: &[u8] = b"";
    for text in texts {
        let shared = last.ends_with(text) && !bytes.is_empty();
        if !shared {
            bytes.extend(text);
            bytes.push(0);
        }
        offsets.insert(text, bytes.len() - 1 - text.len());
        last = text;
    }
    (offsets, bytes)
}

/// Numbers of the format have 32 bits, of which no image's libraries need half.
fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_order_in_which_the_loader_searches() {
        let sorted =
            ["ld-linux.so.2", "libX.so", "lib_.so", "liba-1.so", "liba.so.2", "liba.so.10", "liba1.so"];
        for (at, a) in sorted.iter().enumerate() {
            for (other, b) in sorted.iter().enumerate() {
                assert_eq!(compare(a.as_bytes(), b.as_bytes()), at.cmp(&other), "{a} {b}");
            }
        }
        assert_eq!(compare(b"a01", b"a1"), Ordering::Equal);
    }

    #[test]
    fn a_text_that_ends_another_one_takes_no_room() {
        let texts: [&[u8]; 4] = [b"libx.so.1", b"/lib/libx.so.1", b"liby.so.1", b"so"];
        let (offsets, bytes) = strings(texts.into_iter().collect());
        assert_eq!(bytes, b"so\0liby.so.1\0/lib/libx.so.1\0");
        assert_eq!(offsets[texts[0]], offsets[texts[1]] + 5);
    }
}
