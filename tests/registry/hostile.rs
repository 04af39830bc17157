//! Against a registry that lies.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use bundle::registry::{Environment, Options, Patience, Registry as Client};
use tempfile::TempDir;

use crate::hostile_server::{Answer, Hostile, Request};
use crate::{files, layout, sample, words};

/// A client that has logged in to `host` as `ana`.
fn client(host: &str) -> (TempDir, Client) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("auth.json");
    let auth = base64::engine::general_purpose::STANDARD.encode("ana:secret");
    fs::write(&file, format!(r#"{{"auths": {{"{host}": {{"auth": "{auth}"}}}}}}"#)).unwrap();
    let environment = Environment { registry_auth_file: Some(file), ..Environment::default() };
    let patience = Patience { first_wait: Duration::from_millis(20), ..Patience::default() };
    (dir, Client::new(Options { environment, patience, ..Options::default() }).unwrap())
}

fn resolve(client: &Client, host: &str) -> Result<String, String> {
    let image = format!("{host}/app:v1").parse().unwrap();
    client.resolve_tag(&image).map(|digest| digest.to_string()).map_err(|error| words(&error))
}

/// Pulls `v1` and says what went wrong and what was left behind.
fn pull(client: &Client, host: &str) -> (String, Vec<String>) {
    let into = tempfile::tempdir().unwrap();
    let reference = format!("{host}/app:v1").parse().unwrap();
    let error =
        client.pull_bundle(&reference, None, into.path()).map(|(_, opened)| opened.digest()).unwrap_err();
    (words(&error), files(into.path()))
}

fn is_probe(request: &Request) -> bool {
    request.target == "/v2/"
}

#[test]
fn a_token_is_fetched_once_with_the_credentials_and_used_for_the_registry_only() {
    let service = Hostile::start(|_| Answer::new("200 OK", r#"{"token": "t0ken"}"#));
    let realm = service.host();
    let digest = format!("sha256:{}", "0".repeat(64));
    let found = digest.clone();
    let registry = Hostile::start(move |request| match request.authorization.as_deref() {
        Some("Bearer t0ken") => Answer::new("200 OK", "").header("Docker-Content-Digest", found.clone()),
        _ => Answer::new("401 Unauthorized", "")
            .header("WWW-Authenticate", format!(r#"Bearer realm="http://{realm}/token?a=b",service="x y""#)),
    });
    let (_dir, client) = client(&registry.host());
    assert_eq!(resolve(&client, &registry.host()), Ok(digest.clone()));
    assert_eq!(resolve(&client, &registry.host()), Ok(digest));
    let tokens = service.requests();
    assert_eq!(tokens.len(), 1, "{tokens:?}");
    assert_eq!(tokens[0].target, "/token?a=b&service=x+y&scope=repository%3Aapp%3Apull");
    assert!(tokens[0].authorization.as_deref().unwrap().starts_with("Basic "));
    let basic =
        |request: &Request| request.authorization.as_deref().is_some_and(|text| text.starts_with("Basic"));
    assert!(!registry.requests().iter().any(basic), "{:?}", registry.requests());
}

#[test]
fn credentials_are_not_sent_to_a_realm_without_tls() {
    let registry = Hostile::start(|_| {
        Answer::new("401 Unauthorized", "")
            .header("WWW-Authenticate", r#"Bearer realm="http://attacker.example/token""#)
    });
    let (_dir, client) = client(&registry.host());
    let message = resolve(&client, &registry.host()).unwrap_err();
    assert!(message.contains("`attacker.example` without TLS"), "{message}");
}

#[test]
fn the_authorization_stays_behind_when_a_redirect_leaves_the_host() {
    let storage = Hostile::start(|_| Answer::new("200 OK", "not what was asked for"));
    let bundle = sample::bundle("x\n");
    let (elsewhere, manifest) = (storage.host(), bundle.oci_manifest().to_vec());
    let registry = Hostile::start(move |request| {
        if is_probe(request) || request.authorization.is_none() {
            Answer::new("401 Unauthorized", "").header("WWW-Authenticate", r#"Basic realm="x""#)
        } else if request.target.contains("/manifests/") {
            Answer::new("200 OK", manifest.clone())
        } else {
            Answer::new("307 Temporary Redirect", "").header("Location", format!("http://{elsewhere}/blob"))
        }
    });
    let (_dir, client) = client(&registry.host());
    let (message, left) = pull(&client, &registry.host());
    assert!(message.contains("gives other bytes"), "{message}");
    assert_eq!(left, Vec::<String>::new());
    assert_eq!(storage.requests().len(), 1);
    assert_eq!(storage.requests()[0].authorization, None);
}

#[test]
fn an_upload_elsewhere_goes_without_the_authorization_and_is_begun_again_when_it_fails() {
    let failures = AtomicUsize::new(1);
    let storage = Hostile::start(move |_| {
        let fails =
            failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        Answer::new(if fails { "503 Service Unavailable" } else { "201 Created" }, "")
    });
    let elsewhere = storage.host();
    let registry = Hostile::start(move |request| match (request.method.as_str(), &request.authorization) {
        (_, None) => Answer::new("401 Unauthorized", "").header("WWW-Authenticate", r#"Basic realm="x""#),
        ("HEAD", _) => Answer::new("404 Not Found", ""),
        ("POST", _) => {
            Answer::new("202 Accepted", "").header("Location", format!("http://{elsewhere}/up?state=a%2Fb"))
        }
        _ => Answer::new("201 Created", ""),
    });
    let (dir, client) = client(&registry.host());
    let bundle = sample::bundle("x\n");
    let source = layout(&bundle, &dir.path().join("source"));
    let repository = format!("{}/app", registry.host()).parse().unwrap();
    let pushed =
        client.push_bundle(&source, bundle.oci_digest(), &repository, &"shop".parse().unwrap()).unwrap();
    assert_eq!((pushed.blobs_sent, pushed.tags_moved), (2, 2));

    let puts = storage.requests();
    let target = |digest: &str| format!("/up?state=a%2Fb&digest={}", digest.replace(':', "%3A"));
    let (layer, config) = (target(&bundle.layer_digest().to_string()), target(&bundle.digest().to_string()));
    let count = |target: &str| puts.iter().filter(|put| put.target == target).count();
    let counts = [count(&layer), count(&config)];
    assert!(matches!(counts, [1, 2] | [2, 1]) && puts.len() == 3, "{puts:?}");
    assert!(puts.iter().all(|put| put.method == "PUT" && put.authorization.is_none()), "{puts:?}");
    let posts = registry.requests().iter().filter(|request| request.method == "POST").count();
    assert_eq!(posts, 3, "each try begins anew");
}

#[test]
fn a_redirect_to_a_host_without_tls_and_a_circle_of_them_are_refused() {
    for (location, words) in [("http://attacker.example/x", "without TLS"), ("/again", "redirects more than")]
    {
        let registry = Hostile::start(move |request| {
            if is_probe(request) {
                return Answer::new("200 OK", "");
            }
            Answer::new("302 Found", "").header("Location", location)
        });
        let (_dir, client) = client(&registry.host());
        let message = resolve(&client, &registry.host()).unwrap_err();
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn a_busy_registry_is_asked_again_and_not_for_ever() {
    let busy = |limit: usize| {
        let count = AtomicUsize::new(0);
        Hostile::start(move |request| {
            if is_probe(request) {
                return Answer::new("200 OK", "");
            }
            if count.fetch_add(1, Ordering::SeqCst) < limit {
                return Answer::new("429 Too Many Requests", "").header("Retry-After", "0");
            }
            Answer::new("200 OK", "").header("Docker-Content-Digest", format!("sha256:{}", "1".repeat(64)))
        })
    };
    let registry = busy(3);
    let (_dir, patient) = client(&registry.host());
    assert!(resolve(&patient, &registry.host()).is_ok());
    let registry = busy(1000);
    let (_dir, patient) = client(&registry.host());
    let message = resolve(&patient, &registry.host()).unwrap_err();
    assert!(message.contains("429"), "{message}");
    assert_eq!(registry.requests().iter().filter(|request| !is_probe(request)).count(), 5);
}

#[test]
fn a_registry_that_asks_for_an_hour_is_not_asked_again() {
    let registry = Hostile::start(|request| {
        if is_probe(request) {
            return Answer::new("200 OK", "");
        }
        Answer::new("503 Service Unavailable", "").header("Retry-After", "3600")
    });
    let (_dir, client) = client(&registry.host());
    assert!(resolve(&client, &registry.host()).unwrap_err().contains("503"));
    assert_eq!(registry.requests().iter().filter(|request| !is_probe(request)).count(), 1);
}

#[test]
fn a_registry_that_does_not_say_the_digest_is_asked_for_the_bytes() {
    let manifest = sample::bundle("x\n").oci_manifest().to_vec();
    let digest = bundle::model::Digest::of(&manifest).to_string();
    let registry = Hostile::start(move |_| Answer::new("200 OK", manifest.clone()));
    let (_dir, client) = client(&registry.host());
    assert_eq!(resolve(&client, &registry.host()), Ok(digest));
}

#[test]
fn a_403_is_final_unless_it_is_about_the_rate() {
    for (message, tries) in [("denied", 1), ("You have exceeded a secondary rate limit", 5)] {
        let registry = Hostile::start(move |request| {
            if is_probe(request) || request.method == "HEAD" {
                return Answer::new("200 OK", "");
            }
            let body = format!(r#"{{"errors": [{{"code": "DENIED", "message": "{message}"}}]}}"#);
            Answer::new("403 Forbidden", body)
        });
        let (_dir, client) = client(&registry.host());
        let error = resolve(&client, &registry.host()).unwrap_err();
        assert!(error.contains(message), "{error}");
        let asked = registry
            .requests()
            .iter()
            .filter(|request| request.method == "GET" && !is_probe(request))
            .count();
        assert_eq!(asked, tries);
    }
}

#[test]
fn what_the_registry_complains_about_is_shown_without_control_characters() {
    let registry = Hostile::start(|request| {
        if is_probe(request) || request.method == "HEAD" {
            return Answer::new("200 OK", "");
        }
        Answer::new("400 Bad Request", r#"{"errors": [{"code": "NO", "message": "because\u001b[31m"}]}"#)
    });
    let (_dir, client) = client(&registry.host());
    let message = resolve(&client, &registry.host()).unwrap_err();
    assert!(message.contains("400 Bad Request: NO because [31m"), "{message}");
}

#[test]
fn more_bytes_than_announced_are_not_read_and_fewer_are_not_taken() {
    let bundle = sample::bundle("x\n");
    for (extra, words) in [(1_isize, "longer than"), (-1, "no answer"), (5_000_000, "longer than")] {
        let (manifest, config, layer) =
            (bundle.oci_manifest().to_vec(), bundle.config().to_vec(), bundle.layer().to_vec());
        let config_at = format!("/blobs/{}", bundle.digest());
        let registry = Hostile::start(move |request| {
            if request.target.contains("/manifests/") {
                return Answer::new("200 OK", manifest.clone());
            }
            if request.target.ends_with(&config_at) {
                return Answer::new("200 OK", config.clone());
            }
            let mut body = layer.clone();
            body.resize(body.len().checked_add_signed(extra).unwrap(), 0);
            if extra < 0 {
                return Answer::new("200 OK", body).header("Content-Length", layer.len().to_string());
            }
            Answer::new("200 OK", body)
        });
        let (_dir, client) = client(&registry.host());
        let (message, left) = pull(&client, &registry.host());
        assert!(message.contains(words), "{extra}: {message}");
        // What is right so far is kept for the next try, but never under the blob's name.
        let kept = |name: &String| name == "oci-layout" || extra < 0 && name.ends_with(".partial");
        assert!(left.iter().all(kept), "{left:?}");
    }
}

#[test]
fn an_endless_manifest_is_not_read_to_its_end() {
    let registry = Hostile::start(|_| Answer::new("200 OK", vec![b' '; (4 << 20) + 1]));
    let (_dir, client) = client(&registry.host());
    let (message, left) = pull(&client, &registry.host());
    assert!(message.contains("longer than 4194304"), "{message}");
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn an_image_is_not_a_bundle() {
    let registry = Hostile::start(|_| {
        Answer::new(
            "200 OK",
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#,
        )
    });
    let (_dir, client) = client(&registry.host());
    let (message, _) = pull(&client, &registry.host());
    assert!(message.contains("not a bundle"), "{message}");
}
