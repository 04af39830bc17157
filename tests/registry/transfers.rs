//! What moves, and how: resumed pulls, uploads in one piece, mounts, tokens that end in the middle.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use bundle::bundle::Layout;
use bundle::model::Digest;
use bundle::registry::{Environment, Image, Options, Patience, PushedImage, Registry as Client, Shipment};
use serde_json::json;
use tempfile::TempDir;

use crate::hostile_server::{Answer, Hostile, Request, Then};
use crate::words;

fn client(host: &str, dir: &TempDir) -> Client {
    let file = dir.path().join("auth.json");
    let auth = base64::engine::general_purpose::STANDARD.encode("ana:secret");
    fs::write(&file, format!(r#"{{"auths": {{"{host}": {{"auth": "{auth}"}}}}}}"#)).unwrap();
    let environment = Environment { registry_auth_file: Some(file), ..Environment::default() };
    let patience = Patience { first_wait: Duration::from_millis(20), ..Patience::default() };
    Client::new(Options { environment, plain_http: true, patience, ..Options::default() }).unwrap()
}

/// An image with layers of these sizes, in a layout.
fn image(dir: &TempDir, sizes: &[usize]) -> (Layout, Digest, Vec<Vec<u8>>) {
    let layout = Layout::create(&dir.path().join("source")).unwrap();
    let part = |media_type: &str, bytes: &[u8]| {
        json!({ "mediaType": format!("application/vnd.oci.image.{media_type}"),
            "digest": layout.write_blob(bytes).unwrap(), "size": bytes.len() })
    };
    let fill = |(n, size): (usize, &usize)| {
        (0..*size).map(|at| u8::try_from(((at * (n + 3)) >> 5) % 256).unwrap()).collect()
    };
    let blobs: Vec<Vec<u8>> = sizes.iter().enumerate().map(fill).collect();
    let layers: Vec<_> = blobs.iter().map(|layer| part("layer.v1.tar", layer)).collect();
    let config = part("config.v1+json", br#"{"architecture":"amd64","os":"linux"}"#);
    let manifest = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config, "layers": layers });
    let digest = layout.write_blob(manifest.to_string().as_bytes()).unwrap();
    (layout, digest, blobs)
}

#[test]
fn a_pull_that_is_cut_goes_on_where_it_was() {
    const SIZE: usize = 4 << 20;
    for percent in [10, 50, 90] {
        let dir = tempfile::tempdir().unwrap();
        let (source, digest, blobs) = image(&dir, &[SIZE]);
        let layer = blobs[0].clone();
        let (served, cuts) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
        let count = Arc::clone(&served);
        let registry = Hostile::start(move |request| {
            let name = request.target.rsplit("sha256:").next().unwrap();
            let Ok(digest) = Digest::from_hex(name) else { return Answer::new("200 OK", "") };
            if digest != Digest::of(&layer) {
                return Answer::new("200 OK", source.read_blob(digest, 1 << 20).unwrap());
            }
            let from = request.header("range").map_or(0, |range| range[6..range.len() - 1].parse().unwrap());
            let range = format!("bytes {from}-{}/{SIZE}", SIZE - 1);
            let answer =
                Answer::new(if from == 0 { "200 OK" } else { "206 Partial Content" }, &layer[from..]);
            let answer = answer.header("Content-Range", range);
            if cuts.fetch_add(1, Ordering::SeqCst) == 0 {
                let end = SIZE * percent / 100;
                count.fetch_add(end, Ordering::SeqCst);
                return answer.cut(end, Then::Close);
            }
            count.fetch_add(SIZE - from, Ordering::SeqCst);
            answer
        });
        let into = Layout::create(&dir.path().join("into")).unwrap();
        let image: Image = format!("{}/app@{digest}", registry.host()).parse().unwrap();
        client(&registry.host(), &dir).pull_image(&image, digest, &into).unwrap();
        let served = served.load(Ordering::SeqCst);
        assert!(served * 100 <= SIZE * 102, "cut at {percent} %: {served} bytes came");
        assert!(into.has_blob(Digest::of(&blobs[0]), SIZE as u64));
        let partial = |file: fs::DirEntry| file.file_name().to_string_lossy().ends_with(".partial");
        assert!(!fs::read_dir(into.root().join("blobs/sha256")).unwrap().flatten().any(partial));
    }
}

#[test]
fn what_an_earlier_run_left_is_used_and_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let (source, digest, blobs) = image(&dir, &[100_000]);
    let layer = blobs[0].clone();
    let registry = Hostile::start(move |request| {
        let name = request.target.rsplit("sha256:").next().unwrap();
        let bytes = source.read_blob(Digest::from_hex(name).unwrap(), 1 << 20).unwrap();
        match request.header("range") {
            Some(range) => {
                let from: usize = range[6..range.len() - 1].parse().unwrap();
                let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
                Answer::new("206 Partial Content", &bytes[from..]).header("Content-Range", range)
            }
            None => Answer::new("200 OK", bytes),
        }
    });
    for (left, whole) in [(layer[..60_000].to_vec(), 0), (vec![b'x'; 60_000], 1), (vec![b'x'; 200_000], 1)] {
        let into = tempfile::tempdir().unwrap();
        let into = Layout::create(into.path()).unwrap();
        let path = into.blob_path(Digest::of(&layer)).with_added_extension("partial");
        fs::write(&path, left).unwrap();
        let before = registry.requests().len();
        let image: Image = format!("{}/app@{digest}", registry.host()).parse().unwrap();
        client(&registry.host(), &dir).pull_image(&image, digest, &into).unwrap();
        assert!(into.has_blob(Digest::of(&layer), 100_000) && !path.exists());
        let requests = registry.requests().split_off(before);
        let all = requests.iter().filter(|request| {
            request.target.ends_with(&Digest::of(&layer).hex()) && request.header("range").is_none()
        });
        assert_eq!(all.count(), whole);
    }
}

fn push(
    registry: &Hostile,
    dir: &TempDir,
    layout: &Layout,
    digest: Digest,
    from: Option<&str>,
) -> Result<PushedImage, String> {
    let manifest = layout.read_blob(digest, 1 << 20).unwrap();
    let layer =
        serde_json::from_slice::<serde_json::Value>(&manifest).unwrap()["layers"][0]["digest"].clone();
    let from = from.map(|name| format!("{}/{name}", registry.host()).parse().unwrap());
    let mounts = from.into_iter().map(|from| (layer.as_str().unwrap().parse().unwrap(), from)).collect();
    let (repository, tag) = (format!("{}/app", registry.host()).parse().unwrap(), "v1".parse().unwrap());
    let (repository, tag, mounts) = (&repository, &tag, &mounts);
    let shipment = Shipment { layout, digest, repository, tag, mounts, again: false };
    client(&registry.host(), dir).push_image(shipment).map_err(|error| words(&error))
}

/// A registry that takes everything, with tokens that are good for `good` requests each.
fn taking(good: usize, special: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static) -> Hostile {
    // The oldest token that is good, the youngest, and for how many requests more.
    let state = Mutex::new((1, 0, 0));
    Hostile::start(move |request| {
        let mut state = state.lock().unwrap();
        let (oldest, youngest, left) = &mut *state;
        if request.target.starts_with("/token") {
            (*youngest, *left) = (*youngest + 1, good);
            return Answer::new("200 OK", format!(r#"{{"token":"t{youngest}"}}"#));
        }
        let text = request.authorization.as_deref().and_then(|text| text.strip_prefix("Bearer t"));
        let token: Option<usize> = text.and_then(|text| text.parse().ok());
        if *left == 0 {
            *oldest = *youngest + 1;
        }
        if !token.is_some_and(|token| (*oldest..=*youngest).contains(&token)) {
            let host = request.header("host").unwrap();
            let realm = format!(r#"Bearer realm="http://{host}/token",service="x""#);
            return Answer::new("401 Unauthorized", "").header("WWW-Authenticate", realm);
        }
        *left -= 1;
        special(request).unwrap_or_else(|| match request.method.as_str() {
            "POST" => Answer::new("202 Accepted", "").header("Location", "/v2/app/blobs/uploads/1?state=x"),
            "PUT" => Answer::new("201 Created", ""),
            _ => Answer::new("404 Not Found", ""),
        })
    })
}

fn count(registry: &Hostile, method: &str, part: &str) -> usize {
    let requests = registry.requests();
    requests.iter().filter(|request| request.method == method && request.target.contains(part)).count()
}

#[test]
fn eight_blobs_wait_for_one_token_and_go_in_one_piece_each() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, digest, _) = image(&dir, &[1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000]);
    let registry = taking(1000, |_| None);
    let pushed = push(&registry, &dir, &layout, digest, None).unwrap();
    assert_eq!(pushed.blobs_sent, 9);
    assert_eq!(count(&registry, "GET", "/token"), 1);
    assert_eq!((count(&registry, "PUT", "state=x&digest="), count(&registry, "PATCH", "")), (9, 0));
    for request in registry.requests() {
        assert_eq!(request.header("content-range"), None);
        let whole = request.method != "PUT" || request.header("content-length").is_some();
        assert!(whole && request.header("transfer-encoding").is_none(), "{request:?}");
    }
    let last = registry.requests().pop().unwrap();
    assert_eq!(
        (last.method.as_str(), last.target.as_str()),
        ("PUT", "/v2/app/manifests/v1"),
        "the manifest goes last"
    );
}

#[test]
fn a_small_blob_goes_in_one_request_where_the_registry_takes_that() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, digest, _) = image(&dir, &[1000, 300_000]);
    // The config and the first layer are small. Who answers with a beginning goes on from there, others are asked anew.
    for (status, posts, puts) in [
        ("201 Created", 3..=3, 1),
        ("202 Accepted", 3..=3, 3),
        ("405 Method Not Allowed", 4..=5, 3),
        ("500 Internal Server Error", 4..=5, 3),
    ] {
        let registry = taking(1000, move |request| {
            let whole = request.method == "POST" && request.target.contains("?digest=sha256");
            assert!(!whole || !request.body.is_empty());
            let location = "/v2/app/blobs/uploads/whole?state=x";
            whole.then(|| Answer::new(status, "").header("Location", location))
        });
        assert_eq!(push(&registry, &dir, &layout, digest, None).unwrap().blobs_sent, 3, "{status}");
        assert!(posts.contains(&count(&registry, "POST", "")), "{status}: {:#?}", registry.requests());
        assert_eq!(count(&registry, "PUT", "state=x&digest="), puts, "{status}");
    }
}

#[test]
fn a_token_that_ends_in_the_middle_is_renewed_once_for_all() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, digest, _) = image(&dir, &[100_000, 200_000, 300_000]);
    // Manifests by tag and digest, four HEADs, some POSTs: then it is over.
    let registry = taking(9, |_| None);
    let pushed = push(&registry, &dir, &layout, digest, None).unwrap();
    assert_eq!(pushed.blobs_sent, 4);
    let tokens = count(&registry, "GET", "/token");
    assert_eq!(tokens, 2, "{:#?}", registry.requests());
}

#[test]
fn a_mount_that_is_not_done_goes_on_as_an_upload() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, digest, _) = image(&dir, &[1000]);
    for (status, sent, mounted, posts) in
        [("202 Accepted", 2, 0, 2), ("201 Created", 1, 1, 2), ("405 Method Not Allowed", 2, 0, 3)]
    {
        let registry = taking(1000, move |request| {
            let mount =
                request.target.contains("mount=sha256") && request.target.contains("from=base%2Fimage");
            let location = "/v2/app/blobs/uploads/mounting?state=x";
            mount.then(|| Answer::new(status, "").header("Location", location))
        });
        let pushed = push(&registry, &dir, &layout, digest, Some("base/image")).unwrap();
        assert_eq!((pushed.blobs_sent, pushed.blobs_mounted), (sent, mounted), "{status}");
        assert_eq!(count(&registry, "POST", ""), posts, "{status}");
        assert_eq!(count(&registry, "PUT", "uploads/mounting"), usize::from(status.starts_with("202")));
        let scope = "scope=repository%3Aapp%3Apull%2Cpush&scope=repository%3Abase%2Fimage%3Apull";
        assert_eq!(count(&registry, "GET", scope), 1, "{:#?}", registry.requests());
    }
}

#[test]
fn a_push_that_is_turned_away_for_a_while_waits_as_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, digest, _) = image(&dir, &[500_000]);
    let limited =
        r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"retry-after: 300ms, allowed: 2000/minute"}]}"#;
    let secondary = r#"{"errors":[{"code":"DENIED","message":"You have exceeded a secondary rate limit"}]}"#;
    for (status, body, header, least) in [
        ("429 Too Many Requests", limited, None, 300),
        ("429 Too Many Requests", "", Some("1"), 1000),
        ("403 Forbidden", secondary, None, 20),
        ("500 Internal Server Error", "", None, 20),
        ("504 Gateway Timeout", "", None, 20),
    ] {
        let left = AtomicUsize::new(1);
        let registry = taking(1000, move |request| {
            let now = request.method == "PUT" && left.swap(0, Ordering::SeqCst) == 1;
            let answer = Answer::new(status, body);
            now.then(|| match header {
                Some(wait) => answer.header("Retry-After", wait),
                None => answer,
            })
        });
        let began = Instant::now();
        assert_eq!(push(&registry, &dir, &layout, digest, None).unwrap().blobs_sent, 2, "{status}");
        assert!(began.elapsed() >= Duration::from_millis(least), "{status}: {:?}", began.elapsed());
    }
    for (status, words) in [
        ("400 Bad Request", "400"),
        ("403 Forbidden", "does not allow it"),
        ("404 Not Found", "does not have it"),
    ] {
        let registry =
            taking(1000, move |request| (request.method == "POST").then(|| Answer::new(status, "")));
        let message = push(&registry, &dir, &layout, digest, None).unwrap_err();
        assert!(
            message.contains(words) && message.contains(&registry.host()) && message.contains("/app`"),
            "{message}"
        );
        assert!(message.contains("send the blob sha256:"), "{message}");
        assert!(count(&registry, "POST", "") <= 2, "two blobs, one try each");
    }
}

#[test]
fn an_upload_that_is_reset_is_sent_again_from_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, digest, _) = image(&dir, &[3_000_000]);
    let left = AtomicUsize::new(2);
    let registry = taking(1000, move |request| {
        let now = request.method == "PUT"
            && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        now.then(|| Answer::new("201 Created", "").cut(None, Then::Reset))
    });
    assert_eq!(push(&registry, &dir, &layout, digest, None).unwrap().blobs_sent, 2);
}
