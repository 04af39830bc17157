//! Layers that are unpacked, on top of one that has links of every kind, beside a canary that must stay as it is.

use std::cell::OnceCell;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use bundle::bundle::{Blob, ImageFiles, Layout};
use bundle::image::unpack::stream::Bounds;
use bundle::image::unpack::{Limits, unpack};
use bundle::model::Digest;
use tempfile::TempDir;

use super::drive::kind_of;
use super::targets::{GNU, USTAR, member, sealed, tars};

pub(crate) const WORDS: &[&str] = &[
    "lib/",
    "usr/lib/",
    "up/",
    "away/",
    "self/",
    "loop/",
    "deep/",
    "../",
    "../../canary",
    "usr",
    "etc/passwd",
    "d/",
    ".wh..wh..opq",
    ".wh.lib",
    ".wh.up",
    ".wh.usr",
    "/proc/self/root",
    "/proc/self/cwd/",
    "11 path=a/b\n",
    "25 SCHILY.xattr.user.a=b\n",
    "21 linkpath=../../x\n",
];
const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// Where images are unpacked, and what is beside.
struct Disk {
    dir: TempDir,
    layout: Layout,
    below: Blob,
    manifest: Blob,
    canary: Vec<String>,
}

thread_local! {
    static DISK: OnceCell<Disk> = const { OnceCell::new() };
}

fn on_disk<T>(run: impl FnOnce(&Disk) -> T) -> T {
    DISK.with(|disk| run(disk.get_or_init(Disk::new)))
}

/// A symbolic or hard link.
fn link(name: &str, flag: u8, to: &str) -> Vec<u8> {
    let mut bytes = member(name, flag, b"", USTAR);
    bytes[157..157 + to.len()].copy_from_slice(to.as_bytes());
    sealed(&mut bytes);
    bytes
}

fn layer(members: &[Vec<u8>]) -> Vec<u8> {
    [members.concat(), vec![0; 1024]].concat()
}

impl Disk {
    fn new() -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let canary = dir.path().join("canary");
        fs::create_dir_all(canary.join("d")).unwrap();
        fs::write(canary.join("f"), "alive").unwrap();
        fs::write(canary.join("d/g"), "too").unwrap();
        symlink("f", canary.join("l")).unwrap();
        let layout = Layout::create(&dir.path().join("layout")).unwrap();
        let away = canary.display().to_string();
        let below = layer(&[
            member("usr/", b'5', b"", USTAR),
            member("usr/lib/", b'5', b"", USTAR),
            member("usr/lib/f", b'0', b"below", USTAR),
            member("d/", b'5', b"", USTAR),
            link("lib", b'2', "usr/lib"),
            link("up", b'2', "../canary"),
            link("away", b'2', &away),
            link("self", b'2', "."),
            link("loop", b'2', "loop/x"),
            link("deep", b'2', "self/self/../lib"),
            link("proc", b'2', "/proc/self/root"),
        ]);
        let below = blob(&layout, &below, TAR);
        let manifest = blob(&layout, b"{}", "application/vnd.oci.image.manifest.v1+json");
        let canary = beside(dir.path());
        Self { dir, layout, below, manifest, canary }
    }

    fn into(&self) -> PathBuf {
        self.dir.path().join("into")
    }
}

fn blob(layout: &Layout, bytes: &[u8], media_type: &str) -> Blob {
    let digest = layout.write_blob(bytes).unwrap();
    Blob { media_type: media_type.to_owned(), digest, size: bytes.len() as u64 }
}

/// Everything beside the layout and the unpacked directory: name, mode, owner, time of change, links, content.
fn beside(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let walk = walkdir::WalkDir::new(root).sort_by_file_name().into_iter();
    let ours = |entry: &walkdir::DirEntry| {
        entry.depth() != 1 || !matches!(entry.file_name().to_str(), Some("layout" | "into"))
    };
    for entry in walk.filter_entry(ours).map(Result::unwrap) {
        let meta = fs::symlink_metadata(entry.path()).unwrap();
        let content = if meta.is_file() { fs::read(entry.path()).unwrap() } else { Vec::new() };
        let time = if entry.depth() == 0 { 0 } else { meta.mtime_nsec() };
        found.push(format!(
            "{:?} {:o} {}:{} {time} {} {content:?}",
            entry.path(),
            meta.mode(),
            meta.uid(),
            meta.gid(),
            if meta.is_file() { meta.nlink() } else { 1 }
        ));
    }
    found
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let away = on_disk(|disk| disk.dir.path().join("canary").display().to_string());
    let file = |name: &str| member(name, b'0', b"content", USTAR);
    let mut all = tars();
    all.extend([
        layer(&[file("lib/f"), file("usr/lib/g"), link("lib/h", b'1', "usr/lib/f")]),
        layer(&[file("up/f"), file("away/f")]),
        layer(&[link("x", b'2', &away), file("x/f")]),
        layer(&[link("x", b'2', ".."), link("y", b'1', "x/canary/f"), file("y")]),
        layer(&[file("self/a"), file("deep/f"), member("lib/", b'5', b"", USTAR), file("loop/f")]),
        layer(&[file("up/.wh.f"), file("away/.wh..wh..opq"), file("lib/.wh.f"), file(".wh.usr")]),
        layer(&[file("proc/f"), link("d/p", b'2', "/proc/self/cwd"), file("d/p/x")]),
        layer(&[member("././@LongLink", b'K', away.as_bytes(), GNU), link("z", b'1', "cut")]),
    ]);
    // An empty content is what a whiteout has.
    for bytes in &mut all {
        sealed(bytes);
    }
    all.push(layer(&[member("lib/.wh.f", b'0', b"", USTAR), member("up/.wh.f", b'0', b"", USTAR)]));
    all.push(layer(&[member("away/.wh..wh..opq", b'0', b"", USTAR), member("up/d/", b'5', b"", USTAR)]));
    all
}

/// Unpacks it above the other layer. Whatever comes of that, nothing beside has changed, and what failed left nothing.
pub(crate) fn run(bytes: &[u8]) -> String {
    let mut bytes = bytes.to_vec();
    sealed(&mut bytes);
    on_disk(|disk| {
        let upper = blob(&disk.layout, &bytes, TAR);
        let diff_ids = [disk.below.digest, Digest::of(&bytes)].map(|digest| format!("\"{digest}\""));
        let config = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#, diff_ids.join(","));
        let config = blob(&disk.layout, config.as_bytes(), "application/vnd.oci.image.config.v1+json");
        let (upper_digest, config_digest) = (upper.digest, config.digest);
        let image =
            ImageFiles { manifest: disk.manifest.clone(), config, layers: vec![disk.below.clone(), upper] };
        let limits = Limits { members: 1000, layer: Bounds { bytes: 1 << 20, ratio: 1 << 20 } };
        let into = disk.into();
        let said = match unpack(&disk.layout, &image, &into, limits) {
            Ok(done) => {
                let kept = done.members > 11;
                fs::remove_dir_all(&into).unwrap();
                format!("unpacked, with something: {kept}")
            }
            Err(error) => {
                assert!(!into.exists(), "something is left");
                kind_of(&error)
            }
        };
        for digest in [upper_digest, config_digest] {
            if digest != disk.below.digest {
                let _gone = fs::remove_file(disk.layout.blob_path(digest));
            }
        }
        assert_eq!(beside(disk.dir.path()), disk.canary, "something beside has changed");
        said
    })
}
