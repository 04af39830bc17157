//! What is attached to an image: in a registry that keeps no list (Debian's), and in those that say they do.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bundle::bundle::oci::{Descriptor, MANIFEST_TYPE};
use bundle::model::Digest;
use bundle::registry::{Attachment, Options, Registry as Client, Repository};
use serde_json::{Value, json};

use crate::hostile_server::{Answer, Hostile};
use crate::registry::Registry;
use crate::{layout, sample, words};

const KIND: &str = "application/spdx+json";

fn attachment<'a>(subject: &'a Descriptor, bytes: &'a [u8]) -> Attachment<'a> {
    let annotations = BTreeMap::from([("org.example.note".to_owned(), "yes".to_owned())]);
    Attachment { subject, artifact_type: KIND, media_type: KIND, bytes, annotations }
}

#[test]
fn an_attachment_is_found_again_in_a_registry_that_keeps_no_list() {
    let registry = Registry::plain();
    let client = Client::new(Options::default()).unwrap();
    let repository: Repository = format!("{}/app", registry.host()).parse().unwrap();
    let (dir, bundle) = (tempfile::tempdir().unwrap(), sample::bundle("x\n"));
    let source = layout(&bundle, dir.path());
    let (subject, manifest) = (bundle.oci_digest(), Descriptor::of(MANIFEST_TYPE, bundle.oci_manifest()));
    client.push_bundle(&source, subject, &repository, &"v1".parse().unwrap()).unwrap();
    assert_eq!(client.referrers(&repository, subject).unwrap(), []);

    let attach = |bytes: &[&[u8]]| {
        let all: Vec<_> = bytes.iter().map(|bytes| attachment(&manifest, bytes)).collect();
        client.attach(&repository, &all).unwrap()
    };
    assert_eq!(attach(&[]), []);
    let [first] = attach(&[b"a list"])[..] else { panic!() };
    let [same, second] = attach(&[b"a list", b"another"])[..] else { panic!() };
    assert_eq!((same, attach(&[b"a list"])), (first, vec![first]));
    let found = client.referrers(&repository, subject).unwrap();
    let mut digests = [first, second];
    digests.sort();
    assert_eq!(found.iter().map(|found| found.digest).collect::<Vec<_>>(), digests);
    let found = found.into_iter().find(|found| found.digest == first).unwrap();
    assert_eq!((found.artifact_type.as_str(), found.annotations["org.example.note"].as_str()), (KIND, "yes"));
    assert_eq!(client.attached(&repository, &found.layers[0], 100).unwrap(), b"a list");
    let small = client.attached(&repository, &found.layers[0], 3).unwrap_err();
    assert!(words(&small).contains("longer than 3 bytes"), "{}", words(&small));
}

/// An attachment's manifest for `subject`.
fn manifest(subject: Digest) -> String {
    let part = |media_type: &str, bytes: &[u8]| json!(Descriptor::of(media_type, bytes));
    json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": KIND,
        "config": part("application/vnd.oci.empty.v1+json", b"{}"), "layers": [part(KIND, b"a list")],
        "subject": { "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": subject, "size": 7 } })
    .to_string()
}

fn index(entries: &[Value]) -> String {
    json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries })
        .to_string()
}

/// What a registry with this list, or this tag, leads to.
fn found(list: Option<String>, tag: Option<String>) -> Result<Vec<String>, String> {
    let subject = Digest::of(b"subject");
    let registry = Hostile::start(move |request| {
        let bytes = match request.target.as_str() {
            text if text.contains("/referrers/") => list.clone(),
            text if text.contains("/manifests/sha256-") => tag.clone(),
            text => [manifest(Digest::of(b"subject")), manifest(Digest::of(b"other subject"))]
                .into_iter()
                .find(|manifest| text.ends_with(&Digest::of(manifest.as_bytes()).to_string())),
        };
        bytes.map_or_else(|| Answer::new("404 Not Found", ""), |bytes| Answer::new("200 OK", bytes))
    });
    let client = Client::new(Options { plain_http: true, ..Options::default() }).unwrap();
    let repository = format!("{}/app", registry.host()).parse().unwrap();
    let found = client.referrers(&repository, subject).map_err(|error| words(&error))?;
    Ok(found.into_iter().map(|found| found.artifact_type).collect())
}

#[test]
fn the_list_is_where_to_look_and_the_manifest_is_what_is_believed() {
    let entry = |manifest: &str, artifact_type: &str| {
        json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": artifact_type,
            "digest": Digest::of(manifest.as_bytes()), "size": manifest.len() })
    };
    let right = manifest(Digest::of(b"subject"));
    let list = || Some(index(&[entry(&right, "application/wrong")]));
    let ours = Ok(vec![KIND.to_owned()]);
    assert_eq!(found(list(), None), ours, "the type is the manifest's");
    assert_eq!(found(None, list()), ours, "no list");
    assert_eq!(found(Some(index(&[])), list()), ours, "an empty list and a tag");
    assert_eq!(found(None, None), Ok(vec![]));
    let other = manifest(Digest::of(b"other subject"));
    assert_eq!(found(Some(index(&[entry(&other, KIND), entry("gone", KIND)])), None), Ok(vec![]));
    let many: Vec<Value> = (0..4097).map(|n: i32| entry(&n.to_string(), KIND)).collect();
    assert!(found(Some(index(&many)), None).unwrap_err().contains("more than 4096 entries"));
    assert!(found(Some("<html>".to_owned()), None).unwrap_err().contains("not an image index"));
}

#[test]
fn attachments_go_together_and_a_list_is_written_once() {
    let (one, other) = (Descriptor::of(MANIFEST_TYPE, b"one"), Descriptor::of(MANIFEST_TYPE, b"other"));
    let all = [
        attachment(&one, b"a list"),
        attachment(&one, b"another"),
        attachment(&other, b"third"),
        attachment(&other, b"fourth"),
    ];
    let client = Client::new(Options { plain_http: true, ..Options::default() }).unwrap();
    let lists: Mutex<BTreeMap<String, Vec<u8>>> = Mutex::default();
    let registry = Hostile::start(move |request| match request.method.as_str() {
        "POST" => Answer::new("202 Accepted", "").header("Location", "/up"),
        "PUT" => {
            if request.target.contains("/manifests/sha256-") {
                lists.lock().unwrap().insert(request.target.clone(), request.body.clone());
            }
            Answer::new("201 Created", "")
        }
        _ => match lists.lock().unwrap().get(&request.target) {
            Some(list) => Answer::new("200 OK", list.clone()),
            None => Answer::new("404 Not Found", ""),
        },
    });
    let repository = format!("{}/app", registry.host()).parse().unwrap();
    assert_eq!(client.attach(&repository, &all).unwrap().len(), 4);
    let requests = registry.requests();
    let count = |method: &str, part: &str| {
        requests.iter().filter(|request| request.method == method && request.target.contains(part)).count()
    };
    assert_eq!(
        (count("POST", ""), count("PUT", "/up"), count("HEAD", "")),
        (5, 5, 0),
        "what is empty is sent once"
    );
    assert_eq!((count("PUT", "/manifests/sha256:"), count("PUT", "/manifests/sha256-")), (4, 2));
    assert_eq!(count("GET", ""), 4, "each list before and after");
}

#[test]
fn a_registry_that_keeps_the_list_is_not_given_a_tag() {
    let (dir, bundle) = (tempfile::tempdir().unwrap(), sample::bundle("x\n"));
    drop(layout(&bundle, dir.path()));
    let subject = bundle.oci_manifest().to_vec();
    let written = Mutex::new(());
    let registry = Hostile::start(move |request| {
        let _one = written.lock();
        match request.method.as_str() {
            "GET" => Answer::new("200 OK", subject.clone()),
            "POST" => Answer::new("202 Accepted", "").header("Location", "/up"),
            "PUT" => Answer::new("201 Created", "").header("OCI-Subject", Digest::of(&subject).to_string()),
            _ => Answer::new("404 Not Found", ""),
        }
    });
    let client = Client::new(Options { plain_http: true, ..Options::default() }).unwrap();
    let repository = format!("{}/app", registry.host()).parse().unwrap();
    let subject = Descriptor::of(MANIFEST_TYPE, bundle.oci_manifest());
    client.attach(&repository, &[attachment(&subject, b"a list")]).unwrap();
    let tags = registry.requests().iter().filter(|request| request.target.contains("sha256-")).count();
    assert_eq!(tags, 0, "{:?}", registry.requests());
}
