//! Against the real thing.

use std::fs;

use bundle::bundle::{Bundle, Layout, OpenedBundle, Verified};
use bundle::model::Digest;
use bundle::registry::{Environment, Options, Ref, Registry as Client, Repository};
use tempfile::TempDir;

use crate::registry::{PASSWORD, Registry, USER, run};
use crate::{files, layout, sample, words};

struct Pushed {
    registry: Registry,
    client: Client,
    repository: Repository,
    bundle: Bundle,
    dir: TempDir,
}

/// A registry with TLS and a password, to which a bundle has been pushed.
fn pushed() -> Pushed {
    let registry = Registry::with_tls();
    let client = Client::new(registry.options(PASSWORD)).unwrap();
    let repository: Repository = format!("{}/team/app", registry.host()).parse().unwrap();
    let (dir, bundle) = (tempfile::tempdir().unwrap(), sample::bundle("hello\n"));
    let layout = layout(&bundle, &dir.path().join("source"));
    let pushed =
        client.push_bundle(&layout, bundle.oci_digest(), &repository, &"shop".parse().unwrap()).unwrap();
    assert_eq!((pushed.oci_digest, pushed.blobs_sent, pushed.tags_moved), (bundle.oci_digest(), 2, 2));
    Pushed { registry, client, repository, bundle, dir }
}

impl Pushed {
    fn pull(&self, reference: &str, into: &str) -> Result<Digest, String> {
        let reference: Ref = reference.parse().unwrap();
        let into = self.dir.path().join(into);
        match self.client.pull_bundle(&reference, Some(&self.repository), &into) {
            Ok((_, opened)) => Ok(opened.digest()),
            Err(error) => Err(words(&error)),
        }
    }

    fn skopeo(&self, arguments: &[&str]) -> Vec<u8> {
        let certificates = self.registry.certificates().display().to_string();
        let credentials = format!("{USER}:{PASSWORD}");
        let (verb, rest) = arguments.split_first().unwrap();
        let source = if *verb == "copy" { "src-" } else { "" };
        let options =
            [format!("--{source}cert-dir={certificates}"), format!("--{source}creds={credentials}")];
        let all: Vec<&str> = std::iter::once(*verb)
            .chain(options.iter().map(String::as_str))
            .chain(rest.iter().copied())
            .collect();
        run("skopeo", &all)
    }
}

#[test]
fn a_pushed_bundle_comes_back_by_tag_by_manifest_and_by_its_own_digest() {
    let pushed = pushed();
    let (repository, bundle) = (&pushed.repository, &pushed.bundle);
    for (index, reference) in [
        format!("{repository}:shop"),
        format!("{repository}:bundle-{}", bundle.digest().hex()),
        format!("{repository}@{}", bundle.oci_digest()),
        bundle.digest().to_string(),
        format!("oci:{}", pushed.dir.path().join("source").display()),
    ]
    .iter()
    .enumerate()
    {
        assert_eq!(pushed.pull(reference, &format!("to-{index}")), Ok(bundle.digest()), "{reference}");
    }
    let into = Layout::open(&pushed.dir.path().join("to-0")).unwrap();
    let again = Verified::<OpenedBundle>::by_bundle(&into, bundle.digest()).unwrap();
    let mut unpacked = 0;
    again
        .unpack(|_, _, _| {
            unpacked += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(unpacked, 3);
}

#[test]
fn pushing_again_sends_nothing_and_pulling_again_fetches_no_layer() {
    let pushed = pushed();
    let source = Layout::open(&pushed.dir.path().join("source")).unwrap();
    let writes = pushed.registry.writes();
    assert_eq!(writes, 2 * 2 + 3, "two blobs by POST and PUT, a digest, two tags: {}", pushed.registry.log());
    let (tag, before) = ("shop".parse().unwrap(), pushed.registry.requests());
    let again =
        pushed.client.push_bundle(&source, pushed.bundle.oci_digest(), &pushed.repository, &tag).unwrap();
    assert_eq!((again.blobs_sent, again.tags_moved), (0, 0));
    assert_eq!(pushed.registry.writes(), writes);
    assert_eq!(pushed.registry.requests() - before, 2, "{}", pushed.registry.log());

    let layer = format!("\"GET /v2/team/app/blobs/{}", pushed.bundle.layer_digest());
    for _ in 0..2 {
        pushed.pull(&format!("{}:shop", pushed.repository), "to").unwrap();
    }
    assert_eq!(pushed.registry.log().matches(&layer).count(), 1, "{}", pushed.registry.log());
}

#[test]
fn skopeo_agrees_on_the_digest() {
    let pushed = pushed();
    let source = format!("docker://{}:shop", pushed.repository);
    assert_eq!(Digest::of(&pushed.skopeo(&["inspect", "--raw", &source])), pushed.bundle.oci_digest());

    let copy = pushed.dir.path().join("copy");
    pushed.skopeo(&["copy", "--quiet", &source, &format!("oci:{}:shop", copy.display())]);
    let copied = Layout::open(&copy).unwrap();
    let opened = Verified::<OpenedBundle>::by_bundle(&copied, pushed.bundle.digest()).unwrap();
    assert_eq!(opened.oci_digest(), pushed.bundle.oci_digest());
}

#[test]
fn a_tag_is_resolved_to_the_digest_of_its_manifest() {
    let pushed = pushed();
    let image = format!("{}:shop", pushed.repository).parse().unwrap();
    assert_eq!(pushed.client.resolve_tag(&image).unwrap(), pushed.bundle.oci_digest());
    let missing = format!("{}:nothing", pushed.repository).parse().unwrap();
    let message = words(&pushed.client.resolve_tag(&missing).unwrap_err());
    assert!(message.contains("`nothing`") && message.contains("does not have it"), "{message}");
}

#[test]
fn a_wrong_password_names_the_user_and_what_to_do() {
    let pushed = pushed();
    let client = Client::new(pushed.registry.options("wrong")).unwrap();
    let image = format!("{}:shop", pushed.repository).parse().unwrap();
    let message = words(&client.resolve_tag(&image).unwrap_err());
    for part in ["user `ana`", "docker login 127.0.0.1:", "team/app", "`shop`"] {
        assert!(message.contains(part), "{message}");
    }
    let nobody = Options { environment: Environment::default(), ..pushed.registry.options("") };
    let message = words(&Client::new(nobody).unwrap().resolve_tag(&image).unwrap_err());
    assert!(message.contains("asks for credentials; log in with `docker login"), "{message}");
}

#[test]
fn what_is_not_there_is_said_so_and_leaves_nothing() {
    let pushed = pushed();
    let message = pushed.pull(&format!("{}/nobody/nothing:v1", pushed.registry.host()), "to").unwrap_err();
    assert!(message.contains("nobody/nothing") && message.contains("does not have it"), "{message}");
    let message = pushed.pull(&Digest::of(b"other").to_string(), "to").unwrap_err();
    assert!(message.contains("does not have it"), "{message}");
    assert!(!pushed.dir.path().join("to").exists());
}

#[test]
fn a_registry_with_an_unknown_certificate_is_not_spoken_to() {
    let pushed = pushed();
    let options = Options { extra_ca: None, ..pushed.registry.options(PASSWORD) };
    let image = format!("{}:shop", pushed.repository).parse().unwrap();
    let message = words(&Client::new(options).unwrap().resolve_tag(&image).unwrap_err());
    assert!(message.contains("no answer from") && message.contains("certificate"), "{message}");
}

#[test]
fn a_blob_that_was_tampered_with_in_the_registry_is_refused_and_nothing_is_left() {
    let pushed = pushed();
    let reference = format!("{}:shop", pushed.repository);
    for (index, blob) in [pushed.bundle.layer_digest(), pushed.bundle.digest(), pushed.bundle.oci_digest()]
        .into_iter()
        .enumerate()
    {
        let file = pushed.registry.blob(blob);
        let good = fs::read(&file).unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        fs::write(&file, bad).unwrap();
        let into = format!("to-{index}");
        let by_digest = format!("{}@{}", pushed.repository, pushed.bundle.oci_digest());
        let message = pushed.pull(&by_digest, &into).unwrap_err();
        // docker-registry itself hashes manifests, but hands out blobs as they lie there.
        assert!(message.contains("gives other bytes") || message.contains("answers"), "{message}");
        fs::write(&file, &good).unwrap();
        let left = files(&pushed.dir.path().join(&into));
        assert!(left.iter().all(|name| name == "oci-layout"), "{left:?}");
    }
    assert!(pushed.pull(&reference, "to").is_ok(), "the good bytes are taken again");
}

#[test]
fn a_moved_bundle_tag_is_not_believed() {
    let pushed = pushed();
    let other = sample::bundle("other\n");
    let source = layout(&other, &pushed.dir.path().join("other"));
    let tag = format!("bundle-{}", pushed.bundle.digest().hex()).parse().unwrap();
    pushed.client.push_bundle(&source, other.oci_digest(), &pushed.repository, &tag).unwrap();
    let message = pushed.pull(&pushed.bundle.digest().to_string(), "to").unwrap_err();
    assert!(
        message.contains("leads to bundle") && message.contains(&other.digest().to_string()),
        "{message}"
    );
}

#[test]
fn a_plain_registry_on_this_machine_is_spoken_to_without_being_asked() {
    let registry = Registry::plain();
    let client = Client::new(Options::default()).unwrap();
    let repository: Repository = format!("{}/app", registry.host()).parse().unwrap();
    let (dir, bundle) = (tempfile::tempdir().unwrap(), sample::bundle("plain\n"));
    let source = layout(&bundle, &dir.path().join("source"));
    client.push_bundle(&source, bundle.oci_digest(), &repository, &"shop".parse().unwrap()).unwrap();
    let (_, opened) =
        client.pull_bundle(&Ref::Bundle(bundle.digest()), Some(&repository), &dir.path().join("to")).unwrap();
    assert_eq!(opened.digest(), bundle.digest());
}
