//! Package files (`deb(5)`): an `ar` archive of a version, the package's control files and its data, both compressed
//! tars. They are decoded once, into the cache, and read from there.
#![expect(clippy::disallowed_methods, reason = "what is decoded becomes files of the builder's cache")]

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};

use super::DebianError;
use super::cache::Cache;
use super::fetch::{partial_in, persist};
use crate::model::Digest;
use crate::spec::PackagePin;

/// What an xz stream may ask for, in bytes: enough for `xz -9`, of which only what the data fills is ever touched.
const MAX_DICTIONARY: u64 = 96 << 20;
/// The largest decoded data, in bytes.
const MAX_DATA: u64 = 16 << 30;
/// The largest decoded control files, in bytes.
const MAX_CONTROL: u64 = 64 << 20;

/// Undoes the compression that a file's name speaks of.
pub(crate) fn decoder<'r>(name: &str, reader: impl BufRead + 'r) -> Result<Box<dyn Read + 'r>, String> {
    match name.rsplit('.').next().unwrap_or_default() {
        "xz" => {
            let stream = Stream::new_stream_decoder(MAX_DICTIONARY, CONCATENATED);
            Ok(Box::new(XzDecoder::new_stream(reader, stream.map_err(|error| error.to_string())?)))
        }
        "gz" => Ok(Box::new(flate2::bufread::MultiGzDecoder::new(reader))),
        // Of Ubuntu and some others; a decoder for what no package of Debian's archive needs is not worth its size.
        "zst" => Err("it is compressed with zstd, which Debian's own packages are not".to_owned()),
        "tar" => Ok(Box::new(reader)),
        _ => Err(format!("`{}` is compressed in a way that is not known", name.escape_debug())),
    }
}

/// Where a package's decoded tars are.
#[derive(Debug, Clone)]
pub(crate) struct Decoded {
    pub(crate) control: PathBuf,
    pub(crate) data: PathBuf,
}

impl Decoded {
    fn of(cache: &Cache, digest: Digest) -> Self {
        Self { control: cache.decoded(digest, "control"), data: cache.decoded(digest, "data") }
    }

    fn is_there(&self) -> bool {
        fs::exists(&self.data).unwrap_or(false) && fs::exists(&self.control).unwrap_or(false)
    }
}

/// Decodes packages that are in the cache, on several threads, and says where. Whatever is there already is left.
pub(crate) fn decode(
    packages: &[PackagePin],
    cache: &Cache,
    threads: usize,
) -> Result<Vec<Decoded>, DebianError> {
    let mut work: Vec<_> = packages.iter().filter(|pin| !Decoded::of(cache, pin.digest).is_there()).collect();
    // The largest first, so that none is left over when the others are done.
    work.sort_by_key(|pin| std::cmp::Reverse(pin.size));
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<DebianError>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, work.len().max(1)) {
            scope.spawn(|| {
                while let Some(pin) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = decode_one(pin, cache) {
                        if let Ok(mut failed) = failed.lock() {
                            failed.get_or_insert(error);
                        }
                        next.store(work.len(), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    match failed.into_inner() {
        Ok(None) => Ok(packages.iter().map(|pin| Decoded::of(cache, pin.digest)).collect()),
        Ok(Some(error)) => Err(error),
        Err(_) => Err(DebianError::package("a package", "its decoder died")),
    }
}

/// Nothing is decoded of which the SHA-256 is not right, neither of what was just fetched nor of what lay here.
fn decode_one(pin: &PackagePin, cache: &Cache) -> Result<(), DebianError> {
    let path = cache.path(pin.digest);
    let open = || File::open(&path).map_err(DebianError::io("read", &path));
    let (found, _) = Digest::of_reader(open()?).map_err(DebianError::io("read", &path))?;
    if found != pin.digest {
        let url = path.display().to_string();
        return Err(DebianError::Digest { url, expected: pin.digest, found });
    }
    let to = Decoded::of(cache, pin.digest);
    unpack(open()?, &pin.name, cache, &to)
}

/// Decodes an open package file into two tars.
pub(super) fn unpack(file: File, name: &str, cache: &Cache, to: &Decoded) -> Result<(), DebianError> {
    let fault = |reason: String| DebianError::package(name, reason);
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut magic = [0; 8];
    reader.read_exact(&mut magic).map_err(|error| fault(error.to_string()))?;
    if magic != *b"!<arch>\n" {
        return Err(fault("it is no `ar` archive".to_owned()));
    }
    let mut seen = 0;
    while let Some(member) = Member::read(&mut reader).map_err(&fault)? {
        let mut body = (&mut reader).take(member.size);
        match (seen, member.name.as_str()) {
            (0, "debian-binary") => {
                let mut text = String::new();
                (&mut body).take(64).read_to_string(&mut text).map_err(|error| fault(error.to_string()))?;
                if !text.starts_with("2.") {
                    return Err(fault(format!("its format is `{}`, not 2.0", text.trim().escape_debug())));
                }
                seen = 1;
            }
            (1, control) if control.starts_with("control.tar") => {
                pour(control, &mut body, MAX_CONTROL, cache, &to.control, &fault)?;
                seen = 2;
            }
            (2, data) if data.starts_with("data.tar") => {
                pour(data, &mut body, MAX_DATA, cache, &to.data, &fault)?;
                seen = 3;
                break;
            }
            // `deb(5)`: what begins with an underscore may be passed over.
            (_, other) if other.starts_with('_') => {}
            (_, other) => return Err(fault(format!("it has `{}` in a wrong place", other.escape_debug()))),
        }
        let padding = member.size % 2;
        io::copy(&mut body, &mut io::sink()).map_err(|error| fault(error.to_string()))?;
        io::copy(&mut (&mut reader).take(padding), &mut io::sink())
            .map_err(|error| fault(error.to_string()))?;
    }
    if seen == 3 { Ok(()) } else { Err(fault("it has no `data.tar`".to_owned())) }
}

/// Decodes one member into a file, complete or absent.
fn pour(
    name: &str,
    body: &mut impl Read,
    limit: u64,
    cache: &Cache,
    path: &std::path::Path,
    fault: &impl Fn(String) -> DebianError,
) -> Result<(), DebianError> {
    let plain = decoder(name, BufReader::with_capacity(1 << 16, body)).map_err(fault)?;
    let mut file = partial_in(cache.root())?;
    let copied =
        io::copy(&mut plain.take(limit), &mut file).map_err(|error| fault(format!("`{name}`: {error}")))?;
    if copied == limit {
        return Err(fault(format!("`{name}` has more than {limit} bytes")));
    }
    persist(file, path)
}

/// The header of an `ar` archive's member (`ar(5)`).
struct Member {
    name: String,
    size: u64,
}

impl Member {
    fn read(reader: &mut impl Read) -> Result<Option<Self>, String> {
        let mut header = Vec::with_capacity(60);
        reader.by_ref().take(60).read_to_end(&mut header).map_err(|error| error.to_string())?;
        if header.is_empty() {
            return Ok(None);
        }
        let text = std::str::from_utf8(&header).ok().filter(|text| text.len() == 60 && text.ends_with("`\n"));
        let text = text.ok_or("it has a broken header")?;
        let size = text.get(48..58).and_then(|size| size.trim_end().parse().ok());
        let name = text.get(..16).unwrap_or_default().trim_end().trim_end_matches('/');
        Ok(Some(Self { name: name.to_owned(), size: size.ok_or("it has a broken header")? }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = b"!<arch>\n".to_vec();
        for (name, body) in members {
            bytes.extend(
                format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, body.len()).bytes(),
            );
            bytes.extend(*body);
            bytes.extend(vec![b'\n'; body.len() % 2]);
        }
        bytes
    }

    fn unpacked(bytes: &[u8]) -> Result<(Vec<u8>, Vec<u8>), String> {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let path = folder.path().join("deb");
        fs::write(&path, bytes).unwrap();
        let to = Decoded::of(&cache, Digest::of(b"x"));
        unpack(File::open(&path).unwrap(), "p", &cache, &to).map_err(|error| error.to_string())?;
        Ok((fs::read(to.control).unwrap(), fs::read(to.data).unwrap()))
    }

    #[test]
    fn a_package_has_three_members_in_their_order() {
        let version: (&str, &[u8]) = ("debian-binary", b"2.0\n");
        let control: (&str, &[u8]) = ("control.tar", b"c");
        let data: (&str, &[u8]) = ("data.tar/", b"dd");
        assert_eq!(unpacked(&ar(&[version, control, data])).unwrap(), (b"c".to_vec(), b"dd".to_vec()));
        assert!(unpacked(&ar(&[version, ("_x", b"odd"), control, data, ("more", b"")])).is_ok());
        for (bad, why) in [
            (ar(&[control, data]), "wrong place"),
            (ar(&[version, data]), "wrong place"),
            (ar(&[version, control]), "no `data.tar`"),
            (ar(&[("debian-binary", b"3.0\n"), control, data]), "`3.0`"),
            (ar(&[version, ("control.tar.rar", b"c"), data]), "not known"),
            (ar(&[version, ("control.tar.xz", b"no xz at all"), data]), "control.tar.xz"),
            (b"!<arch>\ndebian-binary   0".to_vec(), "broken header"),
            (b"!<arch>".to_vec(), "p"),
            (b"PK\x03\x04 a zip file".to_vec(), "no `ar`"),
        ] {
            let said = unpacked(&bad).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        let mut cut = ar(&[version, control, ("data.tar.gz", b"")]);
        cut.truncate(cut.len() - 1);
        assert!(unpacked(&cut).is_err());
    }
}
