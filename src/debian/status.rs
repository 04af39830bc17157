//! dpkg's own data. Scanners read which packages an image has from `var/lib/dpkg/status`, and which files are theirs from
//! `info/*.list` and `*.md5sums`; so does `dpkg -l --root`. `status.d`, where images without dpkg sometimes keep the same,
//! is not written: dpkg does not read it, and who reads both would count every package twice.

use std::fmt::Write as _;

use md5::{Digest as _, Md5};

use super::DebianError;
use super::leftovers::file;
use super::package::{self, Package};
use super::tree::{Tree, place};
use crate::image::{Entry, EntryPath, Kind};

const DATABASE: &str = "var/lib/dpkg";
/// Control files that dpkg keeps and that are no scripts: nothing of theirs was run, and nothing ever shall be.
const KEPT: [&str; 5] = ["conffiles", "shlibs", "symbols", "templates", "triggers"];

/// Writes it into the tree, last of all.
pub(crate) fn write(tree: &mut Tree, packages: &[Package], architecture: &str) -> Result<(), DebianError> {
    let mut sorted: Vec<_> = packages.iter().collect();
    sorted.sort_by(|a, b| a.pin.name.cmp(&b.pin.name));
    let mut status = String::new();
    for package in sorted {
        status.push_str(&paragraph(tree, package)?);
        let info = format!("{DATABASE}/info/{}", package.qualified());
        let mut list = b"/.\n".to_vec();
        for entry in &package.entries {
            let path = place(&entry.path, &entry.kind);
            if tree.nodes().contains_key(&path) {
                list.extend([b"/", path.as_bytes(), b"\n"].concat());
            }
        }
        file(tree, &format!("{info}.list"), list)?;
        if let Some(sums) = package.files.get("md5sums") {
            file(tree, &format!("{info}.md5sums"), present(tree, sums))?;
        }
        for name in KEPT {
            if let Some(bytes) = package.files.get(name) {
                file(tree, &format!("{info}.{name}"), bytes.clone())?;
            }
        }
    }
    file(tree, &format!("{DATABASE}/status"), status.into_bytes())?;
    file(tree, &format!("{DATABASE}/info/format"), b"1\n".to_vec())?;
    file(tree, &format!("{DATABASE}/arch-native"), format!("{architecture}\n").into_bytes())?;
    // dpkg looks here for what an earlier run has not finished.
    for directory in ["triggers", "updates"] {
        let path = EntryPath::new(format!("{DATABASE}/{directory}"));
        let path = path.map_err(|error| DebianError::Lock(error.to_string()))?;
        tree.put(Entry::new(path, Kind::Directory, 0o755));
    }
    Ok(())
}

/// The package's own words, that it is installed, and what its configuration files were like, by which dpkg and scanners
/// tell whether somebody changed them.
fn paragraph(tree: &Tree, package: &Package) -> Result<String, DebianError> {
    let control = package.files.get("control").map(Vec::as_slice).unwrap_or_default();
    let control = String::from_utf8_lossy(control);
    let mut text = format!("Package: {}\nStatus: install ok installed\n", package.pin.name);
    let lines = control.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    for line in lines.filter(|line| !line.get(..8).is_some_and(|name| name.eq_ignore_ascii_case("package:")))
    {
        text.push_str(line);
        text.push('\n');
    }
    let mut heading = "Conffiles:\n";
    for path in conffiles(package) {
        let found = EntryPath::absolute(path).ok().flatten();
        let found = found.and_then(|at| tree.nodes().get(&place(&at, &Kind::Symlink(Vec::new()))));
        if let Some(Kind::File(content)) = found.map(|node| &node.entry.kind) {
            let sum = Md5::digest(package::bytes(content)?);
            let _ = write!(text, "{heading} {path} ");
            for byte in sum {
                let _ = write!(text, "{byte:02x}");
            }
            text.push('\n');
            heading = "";
        }
    }
    Ok(text + "\n")
}

/// The files that are the administrator's to change (Debian Policy, 10.7). Others in that list are there to be removed.
fn conffiles(package: &Package) -> Vec<&str> {
    let list = package.files.get("conffiles").map(Vec::as_slice).unwrap_or_default();
    let list = std::str::from_utf8(list).unwrap_or_default();
    list.lines().map(str::trim).filter(|line| line.starts_with('/')).collect()
}

/// Of the sums those of files that the image has.
fn present(tree: &Tree, sums: &[u8]) -> Vec<u8> {
    let lines = sums.split_inclusive(|&byte| byte == b'\n').filter(|line| {
        let path = line.get(34..).map(<[u8]>::trim_ascii_end);
        let path = path.and_then(|path| EntryPath::new(path).ok());
        path.is_none_or(|path| tree.nodes().contains_key(&place(&path, &Kind::Symlink(Vec::new()))))
    });
    lines.flatten().copied().collect()
}
