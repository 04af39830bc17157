//! Every way in which a registry or the line to it may fail, at every request that a pull makes: manifest, config, layer,
//! the lookup of a tag, the token. Each is a clean error that says where and why, or a retry that succeeds; either way
//! in bounded time, with nothing wrong on disk and no credential anywhere but where it belongs.
#![allow(
    clippy::enum_glob_use,
    clippy::match_same_arms,
    clippy::too_many_lines,
    clippy::unnested_or_patterns,
    reason = "a table is read best in one piece"
)]

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use bundle::bundle::Layout;
use bundle::model::Digest;
use bundle::registry::{Environment, Image, Options, Patience, Registry as Client};
use serde_json::json;

use crate::hostile_server::{Answer, Hostile, Request, Then};
use crate::words;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Manifest,
    Config,
    Layer,
    Tag,
    Token,
}

/// The faults, and a list of them all.
macro_rules! faults {
    ($($fault:ident,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Fault {
            $($fault,)*
        }

        const FAULTS: &[Fault] = &[$(Fault::$fault,)*];
    };
}

faults! {
    ConnectRefused,
    ConnectHangs,
    UnknownCertificate,
    ExpiredCertificate,
    ResetBeforeHeaders,
    ResetInTheMiddle,
    OneByteNowAndThen,
    StallAtTheEnd,
    Truncated,
    LongerThanContentLength,
    LongerThanDescriptor,
    Bomb,
    FlippedBit,
    OtherContent,
    HtmlPage,
    TooManyWithWait,
    TooManyWithoutWait,
    TooManyForever,
    InternalError,
    BadGatewayThenGood,
    UnavailableForever,
    UnauthorizedForever,
    RealmElsewhere,
    RedirectElsewhere,
    RedirectCircle,
    TwoThingsAtOnce,
    OtherContentType,
    RangeIgnored,
    ChangesInBetween,
}

use Fault::*;

/// What must come of it: success, or an error with one of these words.
fn expected(fault: Fault, target: Target) -> Option<&'static [&'static str]> {
    use Target::*;
    let changed: &[&str] = match target {
        Manifest => &["gives other bytes"],
        Config | Layer => &["gives other bytes", "longer than", "breaks off after", "no answer from"],
        Tag => &["is refused, because", "does not have it", "gives other bytes"],
        Token => &["gives no token", "asks for credentials", "is refused, because"],
    };
    match (fault, target) {
        (ConnectRefused | ConnectHangs | Truncated, _) => Some(&["no answer from"]),
        (UnknownCertificate | ExpiredCertificate, _) => Some(&["certificate"]),
        (OneByteNowAndThen | StallAtTheEnd, _) => Some(&["is too slow"]),
        (LongerThanDescriptor, Config | Layer) => Some(&["longer than"]),
        (OtherContent, Tag) | (TwoThingsAtOnce, Config | Layer | Token) => None,
        (LongerThanDescriptor | Bomb | FlippedBit | OtherContent | HtmlPage, _) => Some(changed),
        (ChangesInBetween, Tag | Token) | (OtherContentType, Config | Layer | Tag | Token) => None,
        (ChangesInBetween, _) => Some(changed),
        (TooManyForever, _) => Some(&["left alone for 1000000000 s"]),
        (InternalError, _) => Some(&["answers 500"]),
        (UnavailableForever, _) => Some(&["answers 503"]),
        (UnauthorizedForever, _) | (RealmElsewhere, Tag | Token) => Some(&["asks for credentials"]),
        (RealmElsewhere, _) => Some(&["an address inside of a network"]),
        (RedirectElsewhere | RedirectCircle, Token) => Some(&["answers 307"]),
        (RedirectCircle, _) => Some(&["redirects more than"]),
        (TwoThingsAtOnce, Manifest | Tag) => Some(&["neither an index nor a manifest, or both"]),
        (OtherContentType, Manifest) => Some(&["is announced as"]),
        (
            ResetBeforeHeaders
            | ResetInTheMiddle
            | LongerThanContentLength
            | TooManyWithWait
            | TooManyWithoutWait
            | BadGatewayThenGood
            | RedirectElsewhere
            | RangeIgnored,
            _,
        ) => None,
    }
}

/// What becomes a thousand times as large when somebody unpacks it.
static BOMB: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), 16 << 20), &mut bomb).unwrap();
    bomb.finish().unwrap()
});

/// What an honest registry has.
struct World {
    manifest: Vec<u8>,
    config: Vec<u8>,
    layer: Vec<u8>,
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

impl World {
    fn new(fault: Fault, target: Target) -> Self {
        let layer: Vec<u8> =
            (0..200_000_u32).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
        let config =
            json!({ "architecture": "amd64", "os": "linux", "manifests": [], "layers": [] }).to_string();
        let part = |media_type: &str, bytes: &[u8]| {
            json!({ "mediaType": format!("application/vnd.oci.image.{media_type}"), "digest": Digest::of(bytes),
                "size": bytes.len() })
        };
        let mut manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST,
            "config": part("config.v1+json", config.as_bytes()), "layers": [part("layer.v1.tar", &layer)] });
        if fault == TwoThingsAtOnce && matches!(target, Target::Manifest | Target::Tag) {
            manifest["manifests"] = json!([]);
        }
        Self { manifest: manifest.to_string().into_bytes(), config: config.into_bytes(), layer }
    }

    /// Another image's manifest, whose blobs are the same.
    fn other(&self) -> Vec<u8> {
        let text = String::from_utf8(self.manifest.clone()).unwrap();
        format!("{} ", text.replacen('{', "{\"annotations\":{\"other\":\"yes\"},", 1)).into_bytes()
    }

    fn honest(&self, request: &Request) -> Answer {
        let target = request.target.as_str();
        let manifest = |bytes: &[u8]| {
            Answer::new("200 OK", bytes)
                .header("Content-Type", MANIFEST)
                .header("Docker-Content-Digest", Digest::of(bytes).to_string())
        };
        for bytes in [&self.manifest, &self.other()] {
            if target.ends_with(&format!("/manifests/{}", Digest::of(bytes))) {
                return manifest(bytes);
            }
        }
        for bytes in [&self.config, &self.layer] {
            if target.ends_with(&format!("/blobs/{}", Digest::of(bytes))) {
                return ranged(request, bytes);
            }
        }
        match target {
            _ if target.ends_with("/manifests/v1") => manifest(&self.manifest),
            _ if target.starts_with("/token") => {
                Answer::new("200 OK", r#"{"token":"t0ken","access_token":"t0ken"}"#)
            }
            _ => Answer::new("404 Not Found", ""),
        }
    }

    fn target(&self, request: &Request) -> Option<Target> {
        let has = |bytes: &[u8]| request.target.contains(&Digest::of(bytes).to_string());
        match request.target.as_str() {
            text if text.starts_with("/token") => Some(Target::Token),
            text if text.ends_with("/manifests/v1") => Some(Target::Tag),
            _ if has(&self.manifest) => Some(Target::Manifest),
            _ if has(&self.config) => Some(Target::Config),
            _ if has(&self.layer) => Some(Target::Layer),
            _ => None,
        }
    }
}

/// What a Range asks for, or all.
fn ranged(request: &Request, bytes: &[u8]) -> Answer {
    let from = request
        .header("range")
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    match from {
        Some(from) if from < bytes.len() => {
            let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            Answer::new("206 Partial Content", &bytes[from..]).header("Content-Range", range)
        }
        _ => Answer::new("200 OK", bytes),
    }
}

/// Hosts that the registry may send us to.
#[derive(Clone)]
struct Elsewhere {
    good: String,
    refusing: String,
    hanging: String,
    tls: String,
}

/// What a faulty registry answers to the `count`th request of the target.
fn faulty(fault: Fault, world: &World, request: &Request, count: usize, elsewhere: &Elsewhere) -> Answer {
    let mut good = world.honest(request);
    let (head, half) = (request.method == "HEAD", good.body.len() / 2);
    let token = request.target.starts_with("/token");
    // A tag is looked up with HEAD. What is wrong with a body shows when the registry does not say the digest there.
    let hide = |mut answer: Answer| {
        answer.headers.retain(|(name, _)| !(head && *name == "Docker-Content-Digest"));
        answer
    };
    let to = |scheme: &str, host: &str| {
        Answer::new("307 Temporary Redirect", "")
            .header("Location", format!("{scheme}://{host}{}", request.target))
    };
    let error = |status: &'static str| Answer::new(status, r#"{"errors":[{"code":"X","message":"no"}]}"#);
    let too_many = || error("429 Too Many Requests");
    let body = |bytes: Vec<u8>| Answer { body: bytes, ..hide(world.honest(request)) };
    match fault {
        ConnectRefused => to("http", &elsewhere.refusing),
        ConnectHangs => to("http", &elsewhere.hanging),
        UnknownCertificate | ExpiredCertificate => to("https", &elsewhere.tls),
        ResetBeforeHeaders if count < 2 => good.cut(None, Then::Reset),
        ResetInTheMiddle if count < 2 => hide(good).cut(half, Then::Reset),
        OneByteNowAndThen => hide(good).cut(1, Then::Drip),
        StallAtTheEnd => {
            let most = good.body.len() * 99 / 100;
            hide(good).cut(most, Then::Stall)
        }
        Truncated => hide(good).cut(half, Then::Close),
        LongerThanContentLength => {
            let length = good.body.len().to_string();
            good.body.extend(b"and more");
            good.header("Content-Length", length)
        }
        LongerThanDescriptor => body([&good.body[..], b"!"].concat()),
        Bomb => body(BOMB.clone()).header("Content-Encoding", "gzip"),
        FlippedBit => {
            let mut bytes = good.body.clone();
            let at = if token { 11 } else { half };
            bytes[at] ^= 1;
            body(bytes)
        }
        OtherContent if token => Answer::new("200 OK", r#"{"token":"for another scope"}"#),
        OtherContent if request.target.ends_with("/v1") => {
            let other = world.other();
            Answer::new("200 OK", &other[..]).header("Docker-Content-Digest", Digest::of(&other).to_string())
        }
        OtherContent => body(b"right bytes, for another digest".to_vec()),
        HtmlPage => {
            let page = Answer::new("200 OK", "<html><body>Please log in</body></html>");
            page.header("Content-Type", "text/html")
                .header("Docker-Content-Digest", Digest::of(b"page").to_string())
        }
        TooManyWithWait if count < 2 => too_many().header("Retry-After", "1"),
        TooManyWithoutWait if count < 2 => too_many(),
        TooManyForever => too_many().header("Retry-After", "1000000000"),
        InternalError => error("500 Internal Server Error"),
        BadGatewayThenGood if count < 1 => error("502 Bad Gateway"),
        UnavailableForever => error("503 Service Unavailable"),
        UnauthorizedForever => unauthorized(request.header("host").unwrap()),
        RealmElsewhere => {
            let realm = r#"Bearer realm="https://169.254.169.254/latest",service="x""#;
            Answer::new("401 Unauthorized", "").header("WWW-Authenticate", realm)
        }
        RedirectElsewhere => to("http", &elsewhere.good),
        RedirectCircle => to("http", request.header("host").unwrap()),
        OtherContentType => {
            good.headers.retain(|(name, _)| *name != "Content-Type");
            good.header("Content-Type", INDEX)
        }
        RangeIgnored if count == 0 => hide(good).cut(half, Then::Reset),
        RangeIgnored => {
            let mut whole = [&world.config, &world.layer].into_iter();
            let whole = whole.find(|bytes| request.target.ends_with(&Digest::of(bytes).to_string()));
            whole.map_or(good, |bytes| Answer::new("200 OK", &bytes[..]))
        }
        ChangesInBetween if count == 0 => hide(good).cut(half, Then::Close),
        ChangesInBetween if token || request.target.ends_with("/v1") => good,
        ChangesInBetween => Answer::new("200 OK", vec![b'x'; good.body.len()]),
        _ => good,
    }
}

fn unauthorized(host: &str) -> Answer {
    let realm = format!(r#"Bearer realm="http://{host}/token",service="x""#);
    Answer::new("401 Unauthorized", "").header("WWW-Authenticate", realm)
}

/// A port at which nobody listens.
fn refusing() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A port at which connections are never made: its queue is full (listen(2)).
fn hanging() -> (TcpListener, Vec<TcpStream>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = listener.local_addr().unwrap();
    let connect = |address: SocketAddr| TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
    let full: Vec<TcpStream> = std::iter::from_fn(|| connect(address)).take(8).collect();
    (listener, full, address.to_string())
}

/// A server that speaks TLS with a certificate that nobody knows, or that is over. Says the CA, too.
fn tls(expired: bool) -> (String, Option<Vec<u8>>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    if expired {
        parameters.not_after = rcgen::date_time_ymd(2020, 2, 1);
    }
    let certificate = parameters.self_signed(&key).unwrap();
    let chain = vec![certificate.der().clone()];
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            thread::spawn(move || {
                let mut connection = rustls::ServerConnection::new(config).unwrap();
                while connection.is_handshaking() && connection.complete_io(&mut stream).is_ok() {}
            });
        }
    });
    (address, expired.then(|| certificate.pem().into_bytes()))
}

/// Has a registry fail in one way at one request, pulls from it, and says what is wrong with what comes of it.
fn run(fault: Fault, target: Target) -> Result<(), String> {
    let world = Arc::new(World::new(fault, target));
    let (_listener, _full, hanging) = hanging();
    let (tls, extra_ca) = tls(fault == ExpiredCertificate);
    let storage = {
        let world = Arc::clone(&world);
        Hostile::start(move |request| world.honest(request))
    };
    let elsewhere = Elsewhere { good: storage.host(), refusing: refusing(), hanging, tls };
    let registry = {
        let (world, elsewhere, count) = (Arc::clone(&world), elsewhere.clone(), AtomicUsize::new(0));
        Hostile::start(move |request| {
            let host = request.header("host").unwrap_or_default();
            let token = request.target.starts_with("/token");
            if !token && request.authorization.as_deref() != Some("Bearer t0ken") {
                return match (fault, target) {
                    // A token service is somewhere: here it is where it cannot be had.
                    (ConnectRefused, Target::Token) => realm("http", &elsewhere.refusing),
                    (ConnectHangs, Target::Token) => realm("http", &elsewhere.hanging),
                    (UnknownCertificate | ExpiredCertificate, Target::Token) => {
                        realm("https", &elsewhere.tls)
                    }
                    _ => unauthorized(host),
                };
            }
            if world.target(request) == Some(target) {
                return faulty(fault, &world, request, count.fetch_add(1, Ordering::SeqCst), &elsewhere);
            }
            world.honest(request)
        })
    };
    let dir = tempfile::tempdir().unwrap();
    let host = registry.host();
    let auth = base64::engine::general_purpose::STANDARD.encode("ana:secret");
    let file = dir.path().join("auth.json");
    fs::write(&file, format!(r#"{{"auths": {{"{host}": {{"auth": "{auth}"}}}}}}"#)).unwrap();
    let environment = Environment { registry_auth_file: Some(file), ..Environment::default() };
    let patience = Patience {
        connect: Duration::from_secs(1),
        answer: Duration::from_secs(5),
        window: Duration::from_secs(1),
        attempts: 3,
        first_wait: Duration::from_millis(20),
        longest_wait: Duration::from_secs(5),
        ..Patience::default()
    };
    let options = Options { extra_ca, plain_http: true, environment, patience, progress: None };
    let client = Client::new(options).unwrap();
    let layout = Layout::create(&dir.path().join("layout")).unwrap();
    let image: Image = format!("{host}/team/image:v1").parse().unwrap();

    let began = Instant::now();
    let digest = client.resolve_tag(&image).map_err(|error| words(&error));
    let pulled =
        digest.and_then(|digest| client.pull_image(&image, digest, &layout).map_err(|error| words(&error)));
    let mut wrong = Vec::new();
    if began.elapsed() > Duration::from_mins(1) {
        wrong.push(format!("it takes {:?}", began.elapsed()));
    }
    match (expected(fault, target), pulled) {
        (None, Ok(_)) => {}
        (None, Err(message)) => wrong.push(format!("fails: {message}")),
        (Some(_), Ok(_)) => wrong.push("succeeds".to_owned()),
        (Some(causes), Err(message)) => {
            let digest = match target {
                Target::Manifest => Digest::of(&world.manifest).to_string(),
                Target::Config => Digest::of(&world.config).to_string(),
                Target::Layer => Digest::of(&world.layer).to_string(),
                Target::Tag | Target::Token => String::new(),
            };
            if !message.contains(&host) || !message.contains("team/image") || !message.contains(&digest) {
                wrong.push(format!("does not say where: {message}"));
            }
            if !causes.iter().any(|cause| message.contains(cause)) {
                wrong.push(format!("says another cause than {causes:?}: {message}"));
            }
            if message.contains("secret") || message.contains("t0ken") || message.contains(&auth) {
                wrong.push(format!("tells secrets: {message}"));
            }
        }
    }
    wrong.extend(misplaced(&layout));
    wrong.extend(leaked(&registry.requests(), &storage.requests()));
    if wrong.is_empty() { Ok(()) } else { Err(format!("{fault:?} at {target:?}: {}", wrong.join("; "))) }
}

fn realm(scheme: &str, host: &str) -> Answer {
    let realm = format!(r#"Bearer realm="{scheme}://{host}/token",service="x""#);
    Answer::new("401 Unauthorized", "").header("WWW-Authenticate", realm)
}

/// Blobs with other bytes than their name says.
fn misplaced(layout: &Layout) -> Vec<String> {
    let files = fs::read_dir(layout.root().join("blobs/sha256")).unwrap().flatten();
    files
        .filter(|file| {
            let name = file.file_name().into_string().unwrap();
            !name.ends_with(".partial") && Digest::of(&fs::read(file.path()).unwrap()).hex() != name
        })
        .map(|file| format!("{} has other bytes", file.path().display()))
        .collect()
}

/// The password goes to the token service and the token to the registry; another host gets neither.
fn leaked(registry: &[Request], storage: &[Request]) -> Vec<String> {
    let fine = |request: &&Request| match request.authorization.as_deref() {
        None => true,
        Some(text) if request.target.starts_with("/token") => text.starts_with("Basic "),
        Some(text) => text.starts_with("Bearer ") && request.target.starts_with("/v2/"),
    };
    let here = registry.iter().filter(|request| !fine(request));
    let there = storage.iter().filter(|request| request.authorization.is_some());
    here.chain(there).map(|request| format!("a credential goes to {}", request.target)).collect()
}

/// All faults at one target at once: most of them wait.
fn all(target: Target) {
    LazyLock::force(&BOMB);
    let wrong: Vec<String> = thread::scope(|scope| {
        let running: Vec<_> = FAULTS.iter().map(|&fault| scope.spawn(move || run(fault, target))).collect();
        running.into_iter().filter_map(|thread| thread.join().unwrap().err()).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_manifest_comes_right_or_with_a_clean_error() {
    all(Target::Manifest);
}

#[test]
fn a_config_comes_right_or_with_a_clean_error() {
    all(Target::Config);
}

#[test]
fn a_layer_comes_right_or_with_a_clean_error() {
    all(Target::Layer);
}

#[test]
fn a_tag_is_looked_up_right_or_with_a_clean_error() {
    all(Target::Tag);
}

#[test]
fn a_token_comes_right_or_with_a_clean_error() {
    all(Target::Token);
}

#[test]
fn a_host_that_does_not_exist_is_named() {
    let client = Client::new(Options {
        patience: Patience { attempts: 1, ..Patience::default() },
        ..Options::default()
    })
    .unwrap();
    let image = "registry.invalid/team/image:v1".parse().unwrap();
    let message = words(&client.resolve_tag(&image).unwrap_err());
    assert!(message.contains("no answer from `registry.invalid`") && message.contains("name"), "{message}");
}
