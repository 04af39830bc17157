//! What is fed with bytes that come from elsewhere: one function each, which panics where a promise is broken.

use std::io::{BufReader, Cursor};

use bundle::bundle::image::Document;
use bundle::bundle::oci::OciManifest;
use bundle::bundle::{archive, gz1};
use bundle::image::unpack::archive::{Archive, What};
use bundle::image::unpack::stream::{self, Bounds, Encoding};
use bundle::model::{Digest, Mode, StorePath};
use bundle::profile::{Lock, Sources};

use super::drive::{Target, in_kind, kind_of};

const TAR: &[&str] =
    &["./", "../", "/", ".wh..wh..opq", ".wh.", "size=", "11 path=a/b\n", "SCHILY.xattr.", "ustar  "];
const JSON: &[&str] = &[
    "mediaType",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "config",
    "layers",
    "manifests",
    "digest",
    "size",
    "platform",
    "null",
    "{}",
    "[]",
    "sha256:",
    "18446744073709551615",
    "artifactType",
    "annotations",
    "schemaVersion",
    "urls",
    "data",
    "subject",
];
const JOURNAL: &[&str] = &[
    "\"begin\"",
    "\"intent\"",
    "\"done\"",
    "\"commit\"",
    "\"rollback\"",
    "\"settled\"",
    "\"txn\":2",
    "\"phase\":",
    "null",
];
const REFERENCE: &[&str] =
    &["@sha256:", ":", "oci:", "docker.io/", "localhost", "[::1]", "library/", "--", "__"];
const LOCK: &[&str] = &[
    "[packages.web.amd64]\n",
    "[images]\n",
    "[hosts]\n",
    "[activator]\n",
    "schema = 1\n",
    "requested = []\n",
    "indexes = []\n",
    "packages = []\n",
    "keys = []",
    "digest = \"sha256:\"",
    "../",
    "%2e",
    "http://",
    "\"\"",
    "{}",
    "true",
    "-1",
];

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "archive", seeds: archives, words: TAR, run: bundle_archive, least: 10 },
    Target { name: "tar", seeds: tars, words: TAR, run: tar, least: 10 },
    Target { name: "gzip", seeds: gzips, words: &[], run: gzip, least: 3 },
    Target { name: "manifest", seeds: manifests, words: JSON, run: manifest, least: 20 },
    Target { name: "journal", seeds: Vec::new, words: JOURNAL, run: journal, least: 4 },
    Target { name: "reference", seeds: Vec::new, words: REFERENCE, run: reference, least: 4 },
    Target { name: "lock", seeds: Vec::new, words: LOCK, run: lock, least: 20 },
    Target {
        name: "unpack",
        seeds: super::unpacked::seeds,
        words: super::unpacked::WORDS,
        run: super::unpacked::run,
        least: 6,
    },
];

/// One entry of a tar archive, with its checksum.
pub(super) fn member(name: &str, flag: u8, content: &[u8], format: [u8; 8]) -> Vec<u8> {
    let mut head = [0; 512];
    head[..name.len()].copy_from_slice(name.as_bytes());
    head[100..108].copy_from_slice(b"0000644\0");
    head[108..116].copy_from_slice(b"0000000\0");
    head[116..124].copy_from_slice(b"0000000\0");
    head[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    head[136..148].copy_from_slice(b"00000000000\0");
    head[156] = flag;
    head[257..265].copy_from_slice(&format);
    let mut bytes = head.to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    sealed(&mut bytes);
    bytes
}

/// Sets the checksum of each header that can be found, so that a mutation is not lost on it.
pub(super) fn sealed(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

pub(super) const USTAR: [u8; 8] = *b"ustar\x0000";
pub(super) const GNU: [u8; 8] = *b"ustar  \0";

pub(super) fn tars() -> Vec<Vec<u8>> {
    let end = vec![0; 1024];
    let records = b"12 path=abc\n30 mtime=1000000000.123456789\n9 size=3\n";
    let plain = [
        member("d/", b'5', b"", USTAR),
        member("d/f", b'0', b"content", USTAR),
        member("d/l", b'2', b"", USTAR),
    ];
    let long = [member("././@LongLink", b'L', &[b'n'; 200], GNU), member("cut", b'0', b"x", GNU)];
    let extended = [member("PaxHeaders/x", b'x', records, USTAR), member("cut", b'0', b"abc", USTAR)];
    let whiteouts = [member("d/.wh..wh..opq", b'0', b"", USTAR), member("d/.wh.f", b'0', b"", USTAR)];
    [&plain[..], &long, &extended, &whiteouts]
        .iter()
        .map(|members| [members.concat(), end.clone()].concat())
        .collect()
}

fn tar(bytes: &[u8]) -> String {
    let mut bytes = bytes.to_vec();
    sealed(&mut bytes);
    let mut reader = Archive::new(BufReader::new(Cursor::new(&bytes)), 1000);
    let mut content = 0;
    loop {
        match reader.advance() {
            Ok(Some(member)) => {
                if let Some(path) = &member.path {
                    let parts = path.as_bytes().split(|&byte| byte == b'/');
                    assert!(parts.clone().all(|part| !part.is_empty() && part != b"." && part != b".."));
                    assert!(!path.as_bytes().contains(&0) && parts.count() <= 200);
                }
                if let What::File(size) = member.what {
                    content += size;
                }
            }
            Ok(None) => {
                assert!(content <= bytes.len() as u64, "more content than bytes");
                return "read".to_owned();
            }
            Err(at) => return kind_of(&at.fault),
        }
    }
}

fn gzips() -> Vec<Vec<u8>> {
    let text: Vec<u8> = (0..3000).flat_map(|n: u32| n.to_le_bytes()).collect();
    let two = [gz1::encode(&text[..500]).unwrap(), gz1::encode(&text[500..]).unwrap()].concat();
    vec![gz1::encode(b"").unwrap(), gz1::encode(&text).unwrap(), two]
}

/// Whatever libdeflate and the search for headers make of it, flate2 makes the same.
fn gzip(bytes: &[u8]) -> String {
    let bounds = Bounds { bytes: 1 << 20, ratio: 1 << 20 };
    let read = |pieces: &mut stream::Pieces| {
        let mut out = Vec::new();
        std::io::Read::read_to_end(pieces, &mut out).map_err(bundle::image::unpack::Fault::Read)?;
        Ok(out)
    };
    let ours = stream::decoded(bytes, bytes.len() as u64, Encoding::Gzip, bounds, read);
    let mut theirs = Vec::new();
    let judged = std::io::Read::read_to_end(&mut gz1::Reader::new(bytes, 1 << 20), &mut theirs);
    match (ours, judged) {
        (Ok((ours, digest)), Ok(_)) => {
            assert!(ours == theirs, "two contents");
            assert_eq!(digest, Digest::of(&ours));
            "read".to_owned()
        }
        (Err(_), Err(error)) => in_kind(&error.to_string()),
        (Err(at), Ok(_)) if bytes.is_empty() => in_kind(&at.fault.to_string()),
        (ours, theirs) => panic!("we say {:?}, flate2 {theirs:?}", ours.map(|(bytes, _)| bytes.len())),
    }
}

/// What `bundle` writes: of no files, of one, and of three in their order.
fn archives() -> Vec<Vec<u8>> {
    let names = ["web.service", "run.sh", "a-name-that-is-long-but-allowed"];
    let mut files: Vec<_> = (names.iter().enumerate())
        .map(|(nth, name)| {
            let mode = if nth == 1 { Mode::Run } else { Mode::Read };
            let bytes = vec![b'x'; 511 * nth];
            (StorePath::of(name, mode, Digest::of(&bytes)), mode, bytes)
        })
        .collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    (0..=3)
        .map(|end| {
            archive::write(files[..end].iter().map(|(path, mode, bytes)| (path, *mode, bytes.as_slice())))
                .unwrap()
        })
        .collect()
}

fn bundle_archive(bytes: &[u8]) -> String {
    let mut sealed_bytes = bytes.to_vec();
    sealed(&mut sealed_bytes);
    let read = archive::read(sealed_bytes.as_slice(), |_, content| {
        std::io::copy(content, &mut std::io::sink()).unwrap_or_default();
        Ok::<(), bundle::bundle::UnpackError>(())
    });
    read.map_or_else(|error| kind_of(&error), |()| "read".to_owned())
}

fn manifests() -> Vec<Vec<u8>> {
    let digest = Digest::of(b"x");
    let blob = |kind: &str| {
        format!(r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":7}}"#)
    };
    vec![
        format!(r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#, blob("config.v1+json"), blob("layer.v1.tar+gzip")).into_bytes(),
        format!(r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":7,"platform":{{"os":"linux","architecture":"amd64"}}}}]}}"#).into_bytes(),
    ]
}

fn manifest(bytes: &[u8]) -> String {
    let image = Document::parse(bytes).map_or_else(|error| in_kind(&error.reason), |_| "an image".to_owned());
    let bundle = OciManifest::parse(bytes).map_or_else(|error| kind_of(&error), |_| "a bundle".to_owned());
    assert!(!(image == "an image" && bundle == "a bundle"), "two things at once");
    format!("{image}; {bundle}")
}

/// What was read means the same when it is written and read again.
fn reference(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else { return "no text".to_owned() };
    match text.parse::<bundle::registry::Image>() {
        Ok(image) => {
            let again: bundle::registry::Repository = image.repository.to_string().parse().unwrap();
            assert_eq!(again, image.repository);
            "an image".to_owned()
        }
        Err(error) => error.to_string().rsplit(": ").next().unwrap_or_default().to_owned(),
    }
}

/// A machine whose journal has these bytes says so or goes on from there; it does not fall over.
fn journal(bytes: &[u8]) -> String {
    thread_local! {
        static DISK: tempfile::TempDir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    }
    DISK.with(|disk| {
        let state = disk.path().join("var/lib/bundle");
        std::fs::create_dir_all(&state).unwrap();
        // Each line with its check, so that a mutation is not lost on it.
        let text = String::from_utf8_lossy(bytes);
        let checked = |line: &str| format!("{} {line}\n", &Digest::of(line.as_bytes()).hex()[..16]);
        let lines: String = text.lines().map(checked).collect();
        std::fs::write(state.join("journal"), lines).unwrap();
        let store = bundle::store::Store::new(disk.path().to_owned());
        let events = store.pending();
        assert_eq!(format!("{events:?}"), format!("{:?}", store.pending()), "read in two ways");
        match events {
            Ok(Some(pending)) => {
                let said = format!("{pending:?}");
                let words = [
                    "Some(Data",
                    "Some(Slot",
                    "Some(Arm",
                    "Some(Flip",
                    "Some(Trial",
                    "committed: true",
                    "reason: Some",
                ];
                words.iter().filter(|word| said.contains(**word)).copied().collect::<Vec<_>>().join(" ")
            }
            Ok(None) => "nothing".to_owned(),
            Err(error) => kind_of(&error),
        }
    })
}

/// A lock is read, or everything that is wrong with it is said; what was read is written again as the same.
fn lock(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else { return "no text".to_owned() };
    let read = |text: &str| {
        let mut sources = Sources::new("profiles/p.toml");
        sources.add("profiles/bundle.lock", text);
        Lock::parse(&sources)
    };
    let lock = read(text);
    if let Some(first) = lock.faults().iter().next() {
        return in_kind(first.message());
    }
    let written = lock.write();
    let again = read(&written);
    assert!(again.faults().iter().next().is_none(), "its own text is refused:\n{written}");
    assert_eq!(again.write(), written, "written in two ways");
    "read".to_owned()
}
