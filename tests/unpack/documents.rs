//! What is wrong before an archive is read: manifests, configurations, blobs, encodings.

use std::path::Path;

use bundle::bundle::Layout;
use bundle::bundle::gz1;
use bundle::model::Digest;
use serde_json::{Value, json};

use crate::hostile::{quick, unpacked};
use crate::image::{GZIP, Image, MANIFEST, archive, descriptor, directory, file, gzip};

fn one() -> Vec<u8> {
    archive(&[file("a", "x")])
}

/// An image with one layer, whose manifest something is done to.
fn changed(change: impl FnOnce(&mut Value)) -> Result<(), String> {
    made(|at| Image::of(at, &[one()]).write(change))
}

fn made(make: impl FnOnce(&Path) -> Layout) -> Result<(), String> {
    let (image, dir) = (quick(), quick());
    let layout = make(image.path());
    let found = unpacked(dir.path(), &layout).map(drop);
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    found
}

#[track_caller]
fn refused(found: Result<(), String>, words: &str) {
    let said = found.unwrap_err();
    assert!(said.contains(words), "{said}");
}

#[test]
fn a_plain_image_is_unpacked() {
    changed(|_| {}).unwrap();
    changed(|manifest| manifest["annotations"] = json!({ "a": "b" })).unwrap();
}

#[test]
fn a_manifest_that_could_be_something_else_is_refused() {
    refused(
        changed(|manifest| manifest["manifests"] = json!([])),
        "neither an index nor a manifest, or both",
    );
    refused(changed(|manifest| drop(manifest["layers"].take())), "neither an index nor a manifest");
    refused(changed(|manifest| manifest["schemaVersion"] = 1.into()), "`schemaVersion` is 1");
    refused(
        changed(|manifest| manifest["mediaType"] = "application/vnd.oci.image.index.v1+json".into()),
        "media type",
    );
    refused(changed(|manifest| manifest["mediaType"] = "text/html".into()), "its media type is `text/html`");
    let config = |to: &'static str| changed(move |manifest| manifest["config"]["mediaType"] = to.into());
    refused(config("application/vnd.example.config"), "it is an artifact, not an image");
    refused(config("application/vnd.bundle.manifest.v1+json"), "it is an artifact, not an image");
}

#[test]
fn a_descriptor_that_lies_is_refused() {
    let layer = |key: &'static str, value: Value| changed(move |manifest| manifest["layers"][0][key] = value);
    let size = gz1::encode(&one()).unwrap().len();
    refused(layer("size", (size + 1).into()), "damaged or was tampered with");
    refused(layer("size", (size - 1).into()), "damaged or was tampered with");
    refused(layer("size", 0.into()), "damaged or was tampered with");
    refused(layer("size", (-1).into()), "invalid value");
    refused(layer("size", json!(1.5)), "invalid type");
    refused(layer("size", json!(u64::MAX)), "bytes large");
    refused(layer("digest", "sha256:../../canary".into()), "not a digest");
    refused(layer("digest", "sha512:00".into()), "not a digest");
    refused(layer("digest", Digest::of(b"other").to_string().into()), "has no blob");
    refused(layer("urls", json!(["https://example.com/layer"])), "lies elsewhere");
    refused(
        layer("mediaType", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip".into()),
        "nondistributable",
    );
    refused(
        layer("mediaType", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into()),
        "foreign",
    );
    refused(layer("mediaType", "application/vnd.oci.image.layer.v1.tar+zstd".into()), "is not unpacked");
    refused(layer("mediaType", "application/vnd.oci.image.layer.v1.tar".into()), "is refused");
    let config = |key: &'static str, value: Value| changed(move |manifest| manifest["config"][key] = value);
    refused(config("size", 1.into()), "bytes large");
    refused(config("size", 99_999.into()), "its descriptor says 99999 bytes");
    refused(config("size", (1_u64 << 40).into()), "its config is");
}

#[test]
fn documents_that_use_up_the_machine_are_refused() {
    let many = |count: usize| {
        move |manifest: &mut Value| {
            let layer = manifest["layers"][0].clone();
            manifest["layers"] = vec![layer; count].into();
        }
    };
    refused(changed(many(257)), "it has 257 layers");
    // More than 4 MiB, which is all that is read of a manifest.
    refused(changed(many(30_000)), "is not 4194304 bytes large");
    let text = |text: String| made(|at| Image::of(at, &[one()]).write_text(&text, b"{}"));
    refused(text(format!("{{\"layers\":[{}{{}}]}}", "{},".repeat(1_000_000))), "missing field");
    refused(text("[".repeat(1_000_000)), "");
    refused(
        text(format!("{{\"schemaVersion\":2,\"x\":{}{}}}", "[".repeat(5000), "]".repeat(5000))),
        "neither an index",
    );
    refused(text(String::new()), "EOF while parsing");
    refused(text("\u{feff}{}".to_owned()), "expected value");
    refused(text("{\"schemaVersion\":2}{}".to_owned()), "trailing characters");
    let layers =
        format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","layers":[],"config":{{}},"layers":[]}}"#);
    refused(text(layers), "missing field");
    let twice = r#"{"schemaVersion":2,"schemaVersion":2}"#;
    refused(text(twice.to_owned()), "duplicate field `schemaVersion`");
}

#[test]
fn a_key_twice_in_a_manifest_is_refused() {
    for key in ["layers", "config", "mediaType", "schemaVersion"] {
        let found = made(|at| {
            let image = Image::of(at, &[one()]);
            let config = image.config.to_string().into_bytes();
            let described = descriptor("application/vnd.oci.image.config.v1+json", &config);
            let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": image.layers });
            let again = format!(r#","{key}":{}}}"#, manifest[key]);
            let text = manifest.to_string();
            image.write_text(&(text[..text.len() - 1].to_owned() + &again), &config)
        });
        refused(found, "duplicate field");
    }
}

#[test]
fn a_configuration_that_does_not_fit_is_refused() {
    let config = |change: fn(&mut Value)| {
        made(|at| {
            let mut image = Image::of(at, &[one()]);
            change(&mut image.config);
            image.write(|_| {})
        })
    };
    refused(
        config(|config| config["rootfs"]["diff_ids"] = json!([])),
        "1 layers and the configuration 0 `diff_ids`",
    );
    refused(
        config(|config| {
            let own = config["rootfs"]["diff_ids"][0].clone();
            config["rootfs"]["diff_ids"] = json!([own, own]);
        }),
        "1 layers and the configuration 2 `diff_ids`",
    );
    let other =
        |config: &mut Value| config["rootfs"]["diff_ids"][0] = Digest::of(b"other").to_string().into();
    refused(config(other), "the image's configuration says");
    refused(config(|config| config["rootfs"] = Value::Null), "configuration");
    refused(config(|config| *config = json!([])), "configuration");
    refused(config(|config| config["rootfs"]["diff_ids"] = "x".repeat(5 << 20).into()), "its config is");
}

/// A layer whose blob is not what its archive would be.
fn blob(blob: Vec<u8>, archive: Vec<u8>) -> Result<(), String> {
    made(|at| Image::encoded(at, vec![blob], &[archive]).write(|_| {}))
}

#[test]
fn a_blob_that_is_no_sound_gzip_is_refused() {
    let good = gz1::encode(&one()).unwrap();
    let at = |place: usize, byte: u8| {
        let mut bad = good.clone();
        bad[place] ^= byte;
        blob(bad, one())
    };
    let last = good.len() - 1;
    // In the content, in the checksum, in the size, in the header.
    for place in [12, 20, last - 6, last, 0, 2] {
        refused(at(place, 1), "is refused");
    }
    refused(blob(good[..last].to_vec(), one()), "is refused");
    refused(blob(good[..10].to_vec(), one()), "is refused");
    refused(blob(Vec::new(), one()), "is refused");
    refused(blob([&good[..], b"rubbish"].concat(), one()), "is refused");
    refused(blob([&good[..], &[0; 512]].concat(), one()), "is refused");
    refused(blob([&good[..], &good].concat(), one()), "behind its end");
    // Rubbish between two members that ends as a member does.
    let (first, second) = (gz1::encode(&one()[..512]).unwrap(), gz1::encode(&one()[512..]).unwrap());
    blob([&first[..], &second].concat(), one()).unwrap();
    refused(blob([&first[..], &[7; 30], &second].concat(), one()), "is refused");
}

#[test]
fn any_gzip_is_read() {
    let bytes = archive(&[directory("d"), file("d/a", &"some text, and more of it\n".repeat(10_000))]);
    let mut many = Vec::new();
    for piece in bytes.chunks(7_777) {
        many.extend(gzip(piece));
    }
    // gzip -n of nothing in the middle, and members larger than ours.
    let odd = [gzip(&bytes[..200_000]), gzip(b""), gz1::encode(&bytes[200_000..]).unwrap()].concat();
    for encoded in [gz1::encode(&bytes).unwrap(), gzip(&bytes), many, odd] {
        blob(encoded, bytes.clone()).unwrap();
    }
    let plain = made(|at| {
        let image = Image::encoded(at, vec![bytes.clone()], std::slice::from_ref(&bytes));
        image.write(|manifest| manifest["layers"][0]["mediaType"] = GZIP.trim_end_matches("+gzip").into())
    });
    plain.unwrap();
}

#[test]
fn a_bomb_ends_where_the_bounds_are() {
    // 16 MiB of zeros, in one member and in many; the bound of the tests is 3 MiB.
    let bytes = archive(&[file("zeros", &"\0".repeat(16 << 20))]);
    for bomb in [gzip(&bytes), gz1::encode(&bytes).unwrap()] {
        assert!(bomb.len() < 200_000);
        refused(blob(bomb, bytes.clone()), "unpacks to more than 3145728 bytes");
    }
}

#[test]
fn an_index_must_tell_the_truth() {
    let index = |change: fn(&mut Value)| {
        made(|at| {
            let layout = Image::of(at, &[one()]).write(|_| {});
            let manifest = layout.entries().unwrap()[0].manifest;
            let size = layout.read_blob(manifest, 1 << 20).unwrap().len();
            let platform = json!({ "os": "linux", "architecture": "amd64" });
            let mut index = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
                "manifests": [{ "mediaType": MANIFEST, "digest": manifest, "size": size, "platform": platform }] });
            change(&mut index);
            let bytes = index.to_string().into_bytes();
            layout.write_blob(&bytes).unwrap();
            let mut entry = descriptor("application/vnd.oci.image.index.v1+json", &bytes);
            entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "a" });
            let top = json!({ "schemaVersion": 2, "manifests": [entry] });
            std::fs::write(layout.root().join("index.json"), top.to_string()).unwrap();
            layout
        })
    };
    index(|_| {}).unwrap();
    refused(index(|index| index["manifests"][0]["size"] = 3.into()), "its index says that it has 3 bytes");
    refused(
        index(|index| index["manifests"][0]["platform"]["architecture"] = "s390x".into()),
        "none for linux/amd64",
    );
    refused(index(|index| index["manifests"] = json!([])), "none for linux/amd64");
    refused(index(|index| index["layers"] = json!([])), "or both");
}

#[test]
fn a_taken_directory_stays_as_it_is() {
    let (image, dir) = (quick(), quick());
    let layout = Image::of(image.path(), &[one()]).write(|_| {});
    let files = bundle::image::unpack::find(&layout, None).unwrap();
    let unpack = |into: &Path| {
        bundle::image::unpack::unpack(&layout, &files, into, crate::hostile::LIMITS)
            .map_err(|error| crate::hostile::words(&error))
    };
    let target = dir.path().join("target");
    std::fs::create_dir(&target).unwrap();
    assert_eq!(unpack(&target).unwrap().members, 1, "an empty directory is as good as none");
    assert!(unpack(&target).unwrap_err().contains("not empty"));
    std::os::unix::fs::symlink("elsewhere", dir.path().join("link")).unwrap();
    assert!(unpack(&dir.path().join("link")).unwrap_err().contains("not empty"));
    std::fs::write(dir.path().join("file"), "x").unwrap();
    assert!(unpack(&dir.path().join("file")).unwrap_err().contains("not empty"));
    assert!(unpack(&dir.path().join("nowhere/below")).unwrap_err().contains("cannot open"));
}
