#![expect(clippy::disallowed_methods, reason = "a test may use the disk")]

use super::*;
use crate::bundle::sample;

/// A layout with the sample's bundle, and one with an image for each of its pins: the pins are made for the test.
struct Here {
    _dir: tempfile::TempDir,
    bundles: Layout,
    images: Layout,
    pins: Vec<ImagePin>,
}

fn here() -> Here {
    let dir = tempfile::tempdir().unwrap();
    let bundles = Layout::create(&dir.path().join("bundles")).unwrap();
    let images = Layout::create(&dir.path().join("images")).unwrap();
    bundles.add(&sample::bundle()).unwrap();
    let pins = sample::bundle().manifest().images.clone();
    Here { _dir: dir, bundles, images, pins }
}

/// The parcel with the bundle alone, without its end.
fn bundle_only(here: &Here) -> Vec<u8> {
    let mut out = Vec::new();
    Writer::begin(&mut out, &here.bundles, sample::bundle().oci_digest()).unwrap();
    out
}

#[derive(Default)]
struct Taken {
    room: u64,
    images: Vec<(String, usize)>,
}

impl Taker for Taken {
    fn room(&mut self, _pin: &ImagePin, bytes: u64) -> Result<(), String> {
        if bytes > self.room { Err("the disk is too full".to_owned()) } else { Ok(()) }
    }

    fn take(&mut self, pin: &ImagePin, files: &ImageFiles, layout: &Layout) -> Result<(), String> {
        for blob in [&files.config].into_iter().chain(&files.layers) {
            layout.read_blob(blob.digest, blob.size).map_err(|error| error.to_string())?;
        }
        self.images.push((pin.local.clone(), files.layers.len()));
        Ok(())
    }
}

/// Reads it on a machine of its own; gives what was taken and how many files of the bundle and of images it left.
fn there(bytes: &[u8], bundle: Digest) -> (Result<Digest, ParcelError>, Taken, [usize; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let into = Layout::create(&dir.path().join("bundle")).unwrap();
    let images = Layout::create(&dir.path().join("images")).unwrap();
    let mut taken = Taken { room: 1 << 20, images: Vec::new() };
    let read = read(bytes, bundle, &into, &images, &mut taken).map(|opened| opened.digest());
    let count = |layout: &Layout| std::fs::read_dir(layout.root().join("blobs/sha256")).unwrap().count();
    (read, taken, [count(&into), count(&images)])
}

/// An image's documents and blobs as parcel text, for a pin whose digest is the index's.
fn image() -> (Vec<(&'static str, Vec<u8>)>, Digest) {
    let descriptor = |kind: &str, bytes: &[u8], more: &str| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{}","size":{}{more}}}"#,
            Digest::of(bytes),
            bytes.len()
        )
    };
    let (config, layer) = (b"{}".to_vec(), b"a layer".to_vec());
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[{1},{1}]}}"#,
        descriptor("config.v1+json", &config, ""),
        descriptor("layer.v1.tar+gzip", &layer, "")
    )
    .into_bytes();
    let platform = r#","platform":{"os":"linux","architecture":"amd64"}"#;
    let entry = descriptor("manifest.v1+json", &manifest, platform);
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#).into_bytes();
    let digest = Digest::of(&index);
    (vec![("index", index), ("manifest", manifest), ("config", config), ("layer", layer)], digest)
}

#[test]
fn a_bundle_alone_arrives_and_anything_after_its_end_does_not() {
    let here = here();
    let bundle = sample::bundle().digest();
    let mut bytes = bundle_only(&here);
    bytes.extend(b"end\n");
    let (read, taken, left) = there(&bytes, bundle);
    assert_eq!((read.unwrap(), taken.images.len(), left), (bundle, 0, [3, 0]));
    bytes.push(b'x');
    assert!(matches!(there(&bytes, bundle).0, Err(ParcelError::Unexpected { .. })));
}

#[test]
fn what_breaks_off_or_is_another_bundle_is_refused() {
    let here = here();
    let bundle = sample::bundle().digest();
    let bytes = bundle_only(&here);
    for end in [0, 5, 16, 100, bytes.len() / 2, bytes.len() - 1, bytes.len()] {
        assert!(there(&bytes[..end], bundle).0.is_err(), "cut at {end}");
    }
    let mut whole = bytes.clone();
    whole.extend(b"end\n");
    assert!(matches!(there(&whole, Digest::of(b"other")).0, Err(ParcelError::OtherBundle { .. })));
    // One bit of any blob, or of any line.
    for at in (0..bytes.len()).step_by(bytes.len() / 97) {
        let mut bad = whole.clone();
        bad[at] ^= 1;
        assert!(there(&bad, bundle).0.is_err(), "bit at {at}");
    }
}

#[test]
fn an_image_arrives_with_what_its_digest_leads_to_and_nothing_else_does() {
    let here = here();
    // The bundle pins digests of its own; the reader is asked directly.
    let (blobs, digest) = image();
    for (_, bytes) in &blobs {
        here.images.write_blob(bytes).unwrap();
    }
    let pin = ImagePin { digest, ..here.pins[0].clone() };
    let mut out = Vec::new();
    let mut writer = Writer { out: &mut out, sent: BTreeSet::new() };
    writer.image(&here.images, &pin).unwrap();
    let text = String::from_utf8(out.clone()).unwrap();
    assert_eq!(text.matches("blob sha256:").count(), 4, "a layer that stands twice comes once: {text}");

    let documents = |bytes: &[u8]| {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path()).unwrap();
        let mut reader = Reader { input: bytes };
        assert_eq!(reader.line().unwrap(), format!("image {}", pin.local));
        reader.documents(&layout, digest).map(|files| files.config.digest)
    };
    assert_eq!(documents(&out).unwrap(), Digest::of(b"{}"));
    for (from, to) in [
        (digest.to_string(), Digest::of(b"other").to_string()),
        ("manifest.v1".to_owned(), "manifest.v2".to_owned()),
        (format!("{} ", Digest::of(&blobs[1].1)), format!("{} 9", Digest::of(&blobs[1].1))),
    ] {
        assert!(documents(text.replacen(&from, &to, 1).as_bytes()).is_err(), "{from} -> {to}");
    }
}

#[test]
fn an_image_that_the_bundle_does_not_have_is_refused_before_a_byte_of_it() {
    let here = here();
    let mut bytes = bundle_only(&here);
    bytes.extend(b"image bundle.local/other:00\nblob ");
    let (read, taken, left) = there(&bytes, sample::bundle().digest());
    assert!(matches!(read, Err(ParcelError::Unexpected { .. })));
    assert_eq!((taken.images.len(), left), (0, [3, 0]));
    // One that it has, with bytes that are not what it pins.
    let mut bytes = bundle_only(&here);
    bytes.extend(format!("image {}\nblob {} 2\n{{}}end\n", here.pins[0].local, Digest::of(b"{}")).bytes());
    let (read, _, left) = there(&bytes, sample::bundle().digest());
    assert!(matches!(read, Err(ParcelError::Unexpected { .. })));
    assert_eq!(left, [3, 0]);
}

#[test]
fn a_line_without_an_end_takes_no_memory() {
    let bytes = vec![b'x'; 1 << 20];
    let error = there(&bytes, sample::bundle().digest()).0.unwrap_err().to_string();
    assert!(error.len() < 2000, "{}", error.len());
}
