//! What is fed with bytes that come from elsewhere: one function each, which panics where a promise is broken.
//!
//! `drive` mutates a seed corpus and keeps what makes a target answer in a way that it has not answered before.

use std::collections::BTreeSet;
use std::io::{BufReader, Cursor};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use bundle::bundle::image::Document;
use bundle::bundle::oci::OciManifest;
use bundle::bundle::{archive, gz1};
use bundle::image::unpack::archive::{Archive, What};
use bundle::image::unpack::stream::{self, Bounds, Encoding};
use bundle::model::Digest;

use super::mutate::Random;

/// A parser of foreign bytes. It says in kind what it made of them.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    seeds: fn() -> Vec<Vec<u8>>,
    run: fn(&[u8]) -> String,
}

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "archive", seeds: archives, run: bundle_archive },
    Target { name: "tar", seeds: tars, run: tar },
    Target { name: "gzip", seeds: gzips, run: gzip },
    Target { name: "manifest", seeds: manifests, run: manifest },
    Target { name: "journal", seeds: journals, run: journal },
    Target { name: "reference", seeds: references, run: reference },
];

/// One entry of a tar archive, with its checksum.
fn member(name: &str, flag: u8, content: &[u8], format: [u8; 8]) -> Vec<u8> {
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
fn sealed(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

const USTAR: [u8; 8] = *b"ustar\x0000";
const GNU: [u8; 8] = *b"ustar  \0";

fn tars() -> Vec<Vec<u8>> {
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
            Err(at) => return in_kind(&at.fault.to_string()),
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

fn archives() -> Vec<Vec<u8>> {
    let lone =
        member("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef/f", b'0', b"content", USTAR);
    vec![[lone, vec![0; 1024]].concat(), vec![0; 1024]]
}

fn bundle_archive(bytes: &[u8]) -> String {
    let mut sealed_bytes = bytes.to_vec();
    sealed(&mut sealed_bytes);
    let read = archive::read(sealed_bytes.as_slice(), |_, content| {
        std::io::copy(content, &mut std::io::sink()).unwrap_or_default();
        Ok::<(), bundle::bundle::UnpackError>(())
    });
    read.map_or_else(|error| in_kind(&error.to_string()), |()| "read".to_owned())
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
    let bundle =
        OciManifest::parse(bytes).map_or_else(|error| in_kind(&error.to_string()), |_| "a bundle".to_owned());
    assert!(!(image == "an image" && bundle == "a bundle"), "two things at once");
    format!("{image}; {bundle}")
}

fn references() -> Vec<Vec<u8>> {
    let digest = Digest::of(b"x");
    vec![
        b"registry.example.com:5000/team/app:v1".to_vec(),
        format!("[::1]:5000/app@{digest}").into_bytes(),
        b"oci:/tmp/layout".to_vec(),
        b"postgres".to_vec(),
    ]
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

fn journals() -> Vec<Vec<u8>> {
    vec![
        br#"{"txn":1,"event":"begin","from":{"generation":0,"slot":"blue"},"to":{"generation":1,"slot":"green"},"data":true}
{"txn":1,"event":"intent","phase":"data"}
{"txn":1,"event":"commit"}
"#
        .to_vec(),
        b"{\"txn\":1,\"event\":\"settled\",\"committed\":true}\n".to_vec(),
    ]
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
            Ok(Some(_)) => "pending".to_owned(),
            Ok(None) => "nothing".to_owned(),
            Err(error) => in_kind(&error.to_string()),
        }
    })
}

/// A message without names and numbers.
fn in_kind(message: &str) -> String {
    let plain = message.split('`').step_by(2).collect::<Vec<_>>().join("`");
    plain.chars().filter(|c| !c.is_ascii_digit()).take(30).collect()
}

fn mutated(bytes: &[u8], donor: &[u8], random: &mut Random) -> Vec<u8> {
    const ODD: &[&[u8]] = &[
        b"\0", b"\xff", b"/", b"..", b".", b"7777777", b"-1", b"\"", b"{", b"[", b"\n", b" ", b"=", b".wh.",
    ];
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(5) {
        let at = random.below(bytes.len() + 1);
        let length = random.below(40).min(bytes.len() - at.min(bytes.len()));
        match random.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = u8::try_from(random.below(256)).unwrap_or_default(),
            2 => drop(bytes.drain(at..at + length)),
            3 => {
                let piece = bytes[at..at + length].to_vec();
                bytes.splice(at..at, piece);
            }
            // Where tar keeps its fields, aligned.
            4 if bytes.len() >= 512 => {
                let field = [0, 100, 108, 124, 136, 156, 157, 257, 345][random.below(9)];
                let at = random.below(bytes.len() / 512) * 512 + field;
                let odd = ODD[random.below(ODD.len())];
                bytes[at..at + odd.len()].copy_from_slice(odd);
            }
            5 if !donor.is_empty() => {
                let from = random.below(donor.len());
                let to = (from + 1 + random.below(600)).min(donor.len());
                bytes.splice(at..at, donor[from..to].iter().copied());
            }
            _ => {
                let odd = ODD[random.below(ODD.len())];
                bytes.splice(at..at, odd.iter().copied());
            }
        }
        bytes.truncate(64 << 10);
    }
    bytes
}

/// What came of a hunt.
pub(crate) struct Outcome {
    pub(crate) tried: usize,
    pub(crate) kinds: BTreeSet<String>,
}

impl Target {
    pub(crate) fn hunt(&self, seed: u64, time: Duration) -> Outcome {
        let until = Instant::now() + time;
        let mut random = Random::new(seed);
        let mut corpus = (self.seeds)();
        let started = corpus.len();
        let mut outcome = Outcome { tried: 0, kinds: BTreeSet::new() };
        while Instant::now() < until || outcome.tried < 2 * started {
            let input = if outcome.tried < started {
                corpus[outcome.tried].clone()
            } else {
                let (nth, other) = (random.below(corpus.len()), random.below(corpus.len()));
                mutated(&corpus[nth], &corpus[other], &mut random)
            };
            outcome.tried += 1;
            let said = catch_unwind(AssertUnwindSafe(|| (self.run)(&input))).unwrap_or_else(|_| {
                panic!("`{}` with seed {seed}, input {}: {}", self.name, outcome.tried, input.escape_ascii())
            });
            if outcome.kinds.insert(said) && corpus.len() < 1000 {
                corpus.push(input);
            }
        }
        outcome
    }
}
