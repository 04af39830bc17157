#![expect(clippy::disallowed_methods, reason = "layouts are damaged here on disk")]

use std::error::Error;
use std::fs;

use tempfile::TempDir;

use super::*;
use crate::bundle::oci::{CONFIG_TYPE, LAYER_TYPE};
use crate::bundle::{Bundle, sample};

fn layout() -> (TempDir, Layout) {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::create(dir.path()).unwrap();
    layout.add(&sample::bundle()).unwrap();
    (dir, layout)
}

/// All that an error says, cause by cause.
fn words(error: &dyn Error) -> String {
    std::iter::successors(Some(error), |&error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

fn refusal(opened: Result<Verified<OpenedBundle>, VerifyError>) -> String {
    words(&opened.map(|bundle| bundle.digest()).unwrap_err())
}

/// A layout with this manifest, and these files in its layer, all digests right.
fn forged(
    manifest: &Manifest,
    files: &BTreeMap<StorePath, (Mode, Vec<u8>)>,
) -> (TempDir, Verified<OpenedBundle>) {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::create(dir.path()).unwrap();
    let archive =
        archive::write(files.iter().map(|(path, (mode, content))| (path, *mode, content.as_slice())))
            .unwrap();
    let layer = gz1::encode(&archive).unwrap();
    let config = json::to_vec(manifest).unwrap();
    layout.write_blob(&layer).unwrap();
    layout.write_blob(&config).unwrap();
    let oci = OciManifest::new(Descriptor::of(CONFIG_TYPE, &config), Descriptor::of(LAYER_TYPE, &layer));
    let digest = layout.write_blob(&json::to_vec(&oci).unwrap()).unwrap();
    let opened = Verified::by_manifest(&layout, digest).unwrap();
    (dir, opened)
}

fn files(bundle: &Bundle) -> BTreeMap<StorePath, (Mode, Vec<u8>)> {
    let mut files = BTreeMap::new();
    archive::read(gz1::Reader::new(bundle.layer(), 1 << 20), |header, content| {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).map_err(ArchiveError::Read)?;
        files.insert(header.path.clone(), (header.mode, bytes));
        Ok::<_, ArchiveError>(())
    })
    .unwrap();
    files
}

#[test]
fn a_bundle_is_found_by_either_digest_and_unpacks_to_its_files() {
    let (_dir, layout) = layout();
    let sealed = sample::bundle();
    for opened in [
        Verified::by_manifest(&layout, sealed.oci_digest()).unwrap(),
        Verified::by_bundle(&layout, sealed.digest()).unwrap(),
    ] {
        assert_eq!((opened.manifest(), opened.digest()), (sealed.manifest(), sealed.digest()));
        for _ in 0..2 {
            let mut seen = BTreeMap::new();
            opened
                .unpack(|path, mode, bytes| {
                    seen.insert(path.clone(), (mode, bytes.to_vec()));
                    Ok(())
                })
                .unwrap();
            assert_eq!(seen, files(&sealed));
        }
    }
}

#[test]
fn a_flipped_bit_in_any_blob_is_refused() {
    let sealed = sample::bundle();
    let config = sealed.digest();
    for blob in [sealed.oci_digest(), config, sealed.layer_digest()] {
        let (_dir, layout) = layout();
        let path = layout.blob_path(blob);
        let good = fs::read(&path).unwrap();
        for at in [0, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, bad).unwrap();
            let message = refusal(Verified::by_manifest(&layout, sealed.oci_digest()));
            assert!(message.contains("tampered with") && message.contains(&blob.to_string()), "{message}");
        }
        for other in [&good[..good.len() - 1], &[&good[..], b" "].concat()] {
            fs::write(&path, other).unwrap();
            assert!(Verified::by_manifest(&layout, sealed.oci_digest()).is_err());
        }
        fs::remove_file(&path).unwrap();
        let message = refusal(Verified::by_manifest(&layout, sealed.oci_digest()));
        assert!(message.contains("has no blob"), "{message}");
    }
}

#[test]
fn what_the_layout_does_not_have_is_said_so() {
    let (_dir, layout) = layout();
    let message = refusal(Verified::by_bundle(&layout, Digest::of(b"other")));
    assert!(message.contains("does not have the bundle"), "{message}");
    // A bundle's digest is not its OCI manifest's.
    assert!(Verified::by_manifest(&layout, sample::bundle().digest()).is_err());
}

#[test]
fn a_document_that_is_both_index_and_manifest_is_refused() {
    let (_dir, layout) = layout();
    let text = String::from_utf8(sample::bundle().oci_manifest().to_vec()).unwrap();
    let both = text.replacen(
        r#""mediaType":"application/vnd.oci.image"#,
        r#""manifests":[],"mediaType":"application/vnd.oci.image"#,
        1,
    );
    assert_ne!(both, text);
    let digest = layout.write_blob(both.as_bytes()).unwrap();
    let message = refusal(Verified::by_manifest(&layout, digest));
    assert!(message.contains("both an index and a manifest"), "{message}");
}

#[test]
fn a_config_size_that_is_not_the_blobs_is_refused() {
    let (_dir, layout) = layout();
    let sealed = sample::bundle();
    let mut config = Descriptor::of(CONFIG_TYPE, sealed.config());
    config.size += 1;
    let oci = OciManifest::new(config, Descriptor::of(LAYER_TYPE, sealed.layer()));
    let digest = layout.write_blob(&json::to_vec(&oci).unwrap()).unwrap();
    let message = refusal(Verified::by_manifest(&layout, digest));
    assert!(message.contains("its descriptor says"), "{message}");
}

#[test]
fn a_manifest_that_is_not_canonical_or_contradicts_itself_is_refused() {
    let sealed = sample::bundle();
    let spaced = [sealed.config(), b"\n"].concat();
    let error = Verified::<Manifest>::of_bytes(&spaced, Digest::of(&spaced)).unwrap_err();
    assert!(words(&error).contains("canonical form"), "{}", words(&error));
    let error = Verified::<Manifest>::of_bytes(sealed.config(), Digest::of(b"")).unwrap_err();
    assert!(matches!(error, VerifyError::Digest { .. }));
    let mut wrong = sealed.manifest().clone();
    wrong.schema = 2;
    let bytes = json::to_vec(&wrong).unwrap();
    let error = Verified::<Manifest>::of_bytes(&bytes, Digest::of(&bytes)).unwrap_err();
    assert!(words(&error).contains("schema 2"), "{}", words(&error));
}

#[test]
fn a_layer_with_other_files_than_the_manifest_is_refused() {
    let sealed = sample::bundle();
    let unpack = |manifest: &Manifest, files: &BTreeMap<_, _>| {
        let (_dir, opened) = forged(manifest, files);
        opened.unpack(|_, _, _| Ok(())).unwrap_err().to_string()
    };
    let good = files(&sealed);

    let mut missing = good.clone();
    missing.pop_last();
    assert!(unpack(sealed.manifest(), &missing).contains("does not have"));

    let mut extra = good.clone();
    extra.insert(StorePath::of("x", Mode::Read, Digest::of(b"x")), (Mode::Read, b"x".to_vec()));
    assert!(unpack(sealed.manifest(), &extra).contains("which the manifest does not have"));

    for (what, change) in [
        ("content", (|file| file.1[0] ^= 1) as fn(&mut (Mode, Vec<u8>))),
        ("size", |file| file.1.push(0)),
        ("mode", |file| file.0 = if file.0 == Mode::Read { Mode::Run } else { Mode::Read }),
    ] {
        let mut other = good.clone();
        change(other.values_mut().next().unwrap());
        assert!(unpack(sealed.manifest(), &other).contains(&format!("another {what}")));
    }
}

#[test]
fn a_layer_that_changes_after_it_was_verified_is_refused() {
    let (_dir, layout) = layout();
    let sealed = sample::bundle();
    let opened = Verified::by_manifest(&layout, sealed.oci_digest()).unwrap();
    // The gzip header's OS byte: every file stays right, the layer does not.
    let mut other = sealed.layer().to_vec();
    other[9] = 3;
    fs::write(layout.blob_path(sealed.layer_digest()), other).unwrap();
    let error = opened.unpack(|_, _, _| Ok(())).unwrap_err();
    assert!(matches!(error, UnpackError::Changed), "{error}");
}

#[test]
fn a_damaged_manifest_under_the_right_name_is_not_reported_as_missing() {
    let (_dir, layout) = layout();
    let sealed = sample::bundle();
    fs::write(layout.blob_path(sealed.oci_digest()), "damaged").unwrap();
    let message = refusal(Verified::by_bundle(&layout, sealed.digest()));
    assert!(message.contains("tampered with"), "{message}");
}

#[test]
fn a_layout_with_two_bundles_does_not_say_which_is_meant() {
    let (_dir, layout) = layout();
    assert!(Verified::the_only(&layout).is_ok());
    layout.enter(Digest::of(b"other"), 5, Digest::of(b"other")).unwrap();
    let message = refusal(Verified::the_only(&layout));
    assert!(message.contains("2 manifests where one is needed"), "{message}");
}

#[test]
fn the_sinks_own_failure_names_the_file() {
    let (_dir, layout) = layout();
    let opened = Verified::by_bundle(&layout, sample::bundle().digest()).unwrap();
    let error = opened.unpack(|_, _, _| Err(io::ErrorKind::StorageFull.into())).unwrap_err();
    assert!(matches!(error, UnpackError::Sink { .. }));
}
