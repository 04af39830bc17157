//! One request, done properly: which scheme, which credentials, which redirects, and when to try again.
//!
//! Credentials go to the registry and to the token service that it names over TLS, and to nobody else: redirects are
//! followed by hand, and the `Authorization` header stays behind when the host changes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Method, Response, StatusCode, Url};
use serde::Deserialize;

use super::auth::Lookup;
use super::challenge::{self, Challenge};
use super::error::is_no_tls;
use super::names::Names;
use super::reference::{Repository, is_loopback};
use super::source::Outgoing;
use super::{Options, RegistryError};

const CONNECT: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(30);
const ATTEMPTS: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
const REDIRECTS: usize = 5;
const MAX_TOKEN: usize = 1 << 20;
const MAX_COMPLAINT: usize = 64 << 10;

/// Sends requests.
#[derive(Debug)]
pub(super) struct Transport {
    /// For everything with a short body.
    client: reqwest::Client,
    /// Without the idle timeout, which also runs while a body is being sent.
    uploader: reqwest::Client,
    options: Options,
    /// Authorizations by origin and scope.
    authorizations: RefCell<BTreeMap<(String, String), HeaderValue>>,
    /// The base URLs of loopback hosts, which have to be found out.
    bases: RefCell<BTreeMap<String, Url>>,
}

/// One request to a registry.
#[derive(Debug, Clone)]
pub(super) struct Call<'a> {
    pub(super) repository: &'a Repository,
    /// What is being tried: `cannot {action} "repository"`.
    pub(super) action: &'a str,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) push: bool,
    /// A repository of the same registry that is read besides.
    pub(super) from: Option<&'a Repository>,
    /// What is sent, with the time that sending it may take.
    pub(super) body: Option<(Outgoing<'a>, Duration)>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

#[derive(Deserialize)]
struct Complaints {
    errors: Vec<Complaint>,
}

#[derive(Deserialize)]
struct Complaint {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl<'a> Call<'a> {
    /// A call that reads, with nothing besides.
    pub(super) fn new(repository: &'a Repository, action: &'a str, method: Method, url: Url) -> Self {
        Self { repository, action, method, url, headers: Vec::new(), push: false, from: None, body: None }
    }
    pub(super) fn refused(&self, reason: impl Into<String>) -> RegistryError {
        RegistryError::Refused {
            action: self.action.to_owned(),
            repository: self.repository.to_string(),
            host: self.repository.api_host().to_owned(),
            reason: reason.into(),
        }
    }

    pub(super) fn no_answer(&self, url: &Url, source: reqwest::Error) -> RegistryError {
        RegistryError::Request {
            action: self.action.to_owned(),
            repository: self.repository.to_string(),
            host: authority(url),
            // The URL may carry an upload's state, and the host has been named.
            source: source.without_url(),
        }
    }

    /// The error for an answer that is not the expected one.
    pub(super) async fn wrong(&self, response: Response) -> RegistryError {
        let (status, host) = (response.status(), authority(response.url()));
        let (action, repository) = (self.action.to_owned(), self.repository.to_string());
        let retry_after = retry_after(&response);
        let detail = complaint(response).await.map(|text| format!(": {text}")).unwrap_or_default();
        match status {
            StatusCode::NOT_FOUND => RegistryError::NotFound { action, repository, host, detail },
            // GitHub's registry says 403 when it is asked too often.
            StatusCode::FORBIDDEN if !detail.contains("rate limit") => {
                RegistryError::Forbidden { action, repository, host, detail }
            }
            _ => RegistryError::Status { action, repository, host, status, detail, retry_after },
        }
    }
}

impl Transport {
    pub(super) fn new(options: Options) -> Result<Self, RegistryError> {
        // Fails only if a provider is installed already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = |idle: Option<Duration>| {
            let mut builder = reqwest::Client::builder()
                .user_agent(concat!("bundle/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .dns_resolver(Arc::new(Names))
                .connect_timeout(CONNECT);
            if let Some(idle) = idle {
                builder = builder.read_timeout(idle);
            }
            if let Some(pem) = &options.extra_ca {
                builder = builder.tls_certs_merge(reqwest::Certificate::from_pem_bundle(pem)?);
            }
            builder.build()
        };
        let (short, long) = (client(Some(IDLE)), client(None));
        Ok(Self {
            client: short.map_err(RegistryError::Setup)?,
            uploader: long.map_err(RegistryError::Setup)?,
            options,
            authorizations: RefCell::default(),
            bases: RefCell::default(),
        })
    }

    /// Does `work` again while it fails in ways that pass, unless the registry asks for more patience than we have.
    pub(super) async fn retry<T>(
        &self,
        work: impl AsyncFn() -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let mut wait = FIRST_WAIT;
        for _ in 1..ATTEMPTS {
            match work().await {
                Err(error)
                    if error.is_passing()
                        && error.retry_after().is_none_or(|asked| asked <= LONGEST_WAIT) =>
                {
                    tokio::time::sleep(error.retry_after().unwrap_or(wait)).await;
                    wait *= 2;
                }
                done => return done,
            }
        }
        work().await
    }

    /// `https://host/v2/<name>/<rest>`.
    pub(super) async fn url(&self, repository: &Repository, rest: &str) -> Result<Url, RegistryError> {
        let base = self.base(repository).await?;
        base.join(&format!("/v2/{}/{rest}", repository.name())).map_err(|_| bad_host(repository))
    }

    /// TLS, except where the caller says otherwise, or on this machine if nobody speaks it there.
    async fn base(&self, repository: &Repository) -> Result<Url, RegistryError> {
        let parse = |scheme: &str| {
            Url::parse(&format!("{scheme}://{}/", repository.api_host())).map_err(|_| bad_host(repository))
        };
        if self.options.plain_http {
            return parse("http");
        }
        let secure = parse("https")?;
        if !repository.is_loopback() {
            return Ok(secure);
        }
        if let Some(known) = self.bases.borrow().get(repository.host()) {
            return Ok(known.clone());
        }
        let ask = async |base: &Url| {
            let url = base.join("/v2/").unwrap_or_else(|_| base.clone());
            self.client.get(url).send().await
        };
        let base = match ask(&secure).await {
            Err(error) if is_no_tls(&error) => parse("http")?,
            Err(error) if error.is_connect() => {
                let plain = parse("http")?;
                match ask(&plain).await.map(|answer| answer.status()) {
                    Ok(StatusCode::OK | StatusCode::UNAUTHORIZED) => plain,
                    // What went wrong with TLS is what has to be mended.
                    _ => secure,
                }
            }
            _ => secure,
        };
        self.bases.borrow_mut().insert(repository.host().to_owned(), base.clone());
        Ok(base)
    }

    /// Sends a call with the right credentials. Answers that pass with time are errors; all others are the caller's.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Response, RegistryError> {
        let key = (origin(&self.base(call.repository).await?), scopes(call).join(" "));
        let known = self.authorizations.borrow().get(&key).cloned();
        let mut response = self.follow(call, known.as_ref(), &key.0).await?;
        if response.status() == StatusCode::UNAUTHORIZED && origin(response.url()) == key.0 {
            let lookup = self.options.environment.lookup(call.repository)?;
            let authorization = self.answer(call, &response, &lookup).await?;
            response = self.follow(call, Some(&authorization), &key.0).await?;
            if response.status() == StatusCode::UNAUTHORIZED {
                return Err(unauthorized(call, &lookup));
            }
            self.authorizations.borrow_mut().insert(key, authorization);
        }
        if matches!(response.status().as_u16(), 403 | 408 | 429 | 500..) {
            return Err(call.wrong(response).await);
        }
        Ok(response)
    }

    /// Sends a call and follows its redirects, without the authorization once the origin is another.
    async fn follow(
        &self,
        call: &Call<'_>,
        authorization: Option<&HeaderValue>,
        home: &str,
    ) -> Result<Response, RegistryError> {
        let mut url = call.url.clone();
        for _ in 0..=REDIRECTS {
            if !self.is_allowed(&url) {
                return Err(call.refused(format!("it leads to `{}` without TLS", authority(&url))));
            }
            let client = if call.body.is_some() { &self.uploader } else { &self.client };
            let mut request = client.request(call.method.clone(), url.clone());
            for (name, value) in &call.headers {
                request = request.header(name, value);
            }
            if let Some(authorization) = authorization.filter(|_| origin(&url) == home) {
                request = request.header(AUTHORIZATION, authorization.clone());
            }
            if let Some((body, time)) = &call.body {
                request = request.body(self.open(body).await?).timeout(*time);
            }
            let response = request.send().await.map_err(|error| call.no_answer(&url, error))?;
            let reads = matches!(call.method, Method::GET | Method::HEAD);
            if !(reads && matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308)) {
                return Ok(response);
            }
            url = location(call, &response)?;
        }
        Err(call.refused(format!("it redirects more than {REDIRECTS} times")))
    }

    fn is_allowed(&self, url: &Url) -> bool {
        match url.scheme() {
            "https" => true,
            "http" => self.options.plain_http || url.host_str().is_some_and(is_loopback),
            _ => false,
        }
    }

    /// Turns a 401 into something to authorize with.
    async fn answer(
        &self,
        call: &Call<'_>,
        response: &Response,
        lookup: &Lookup,
    ) -> Result<HeaderValue, RegistryError> {
        let headers = response.headers().get_all(WWW_AUTHENTICATE);
        let challenges: Vec<Challenge> =
            headers.iter().filter_map(|value| value.to_str().ok()).flat_map(challenge::parse).collect();
        let bearer = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer { realm, service } => Some((realm, service.as_deref())),
            Challenge::Basic => None,
        });
        let text = match (bearer, lookup) {
            (Some((realm, service)), _) => {
                let token = self.token(call, response.url(), realm, service, lookup).await?;
                format!("Bearer {token}")
            }
            (None, Lookup::Found(credentials)) if challenges.contains(&Challenge::Basic) => {
                format!("Basic {}", credentials.basic())
            }
            _ => return Err(unauthorized(call, lookup)),
        };
        sensitive(&text).ok_or_else(|| call.refused("its token is not a header's text"))
    }

    /// Gets a token for this repository and access, with the credentials if there are any.
    async fn token(
        &self,
        call: &Call<'_>,
        registry: &Url,
        realm: &str,
        service: Option<&str>,
        lookup: &Lookup,
    ) -> Result<String, RegistryError> {
        let mut url = Url::parse(realm).map_err(|_| call.refused("its token realm is not a URL"))?;
        let local = url.host_str().is_some_and(is_loopback) && call.repository.is_loopback();
        let same = self.options.plain_http && url.host_str() == registry.host_str();
        if !(url.scheme() == "https" || url.scheme() == "http" && (local || same)) {
            return Err(
                call.refused(format!("it wants credentials sent to `{}` without TLS", authority(&url)))
            );
        }
        url.query_pairs_mut()
            .extend_pairs(service.map(|service| ("service", service)))
            .extend_pairs(scopes(call).iter().map(|scope| ("scope", scope)));
        let mut request = self.client.get(url.clone());
        if let Lookup::Found(credentials) = lookup {
            let value = sensitive(&format!("Basic {}", credentials.basic()));
            request = request.header(AUTHORIZATION, value.ok_or_else(|| unauthorized(call, lookup))?);
        }
        let response = request.send().await.map_err(|error| call.no_answer(&url, error))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(unauthorized(call, lookup)),
            _ => return Err(call.wrong(response).await),
        }
        let bytes = read_at_most(response, MAX_TOKEN).await.map_err(|error| call.no_answer(&url, error))?;
        let token: Option<Token> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        token
            .and_then(|token| token.token.or(token.access_token))
            .filter(|token| !token.is_empty())
            .ok_or_else(|| call.refused("its token service gives no token"))
    }
}

fn bad_host(repository: &Repository) -> RegistryError {
    RegistryError::Refused {
        action: "ask".to_owned(),
        repository: repository.to_string(),
        host: repository.host().to_owned(),
        reason: "its name is not one that a URL can have".to_owned(),
    }
}

fn unauthorized(call: &Call<'_>, lookup: &Lookup) -> RegistryError {
    let host = call.repository.host().to_owned();
    let hint = match lookup {
        Lookup::Nothing => format!("log in with `docker login {host}`"),
        Lookup::Found(credentials) => format!(
            "those of user `{}` were refused, or do not suffice here; log in again with `docker login {host}`",
            credentials.user
        ),
        Lookup::Unusable { file, what } => format!(
            "`{}` has {what} for it, which bundle cannot use; write the password into a file of its own with \
             `skopeo login --authfile FILE {host}` and set REGISTRY_AUTH_FILE=FILE",
            file.display()
        ),
    };
    let (action, repository) = (call.action.to_owned(), call.repository.to_string());
    RegistryError::Unauthorized { action, repository, host, hint }
}

/// What a call needs (distribution's "Token Scope Documentation").
fn scopes(call: &Call<'_>) -> Vec<String> {
    let actions = if call.push { "pull,push" } else { "pull" };
    let own = format!("repository:{}:{actions}", call.repository.name());
    [own].into_iter().chain(call.from.map(|from| format!("repository:{}:pull", from.name()))).collect()
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Where an answer sends us.
pub(super) fn location(call: &Call<'_>, response: &Response) -> Result<Url, RegistryError> {
    let text = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    text.and_then(|text| response.url().join(text).ok())
        .ok_or_else(|| call.refused("it has no `Location` that is a URL"))
}

/// Scheme, host and port: what a credential is good for.
fn origin(url: &Url) -> String {
    format!("{}://{}", url.scheme(), authority(url))
}

fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// `Retry-After` in seconds. The form with a date would need a clock, and registries do not use it.
fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// A body of at most `limit` bytes; nothing if there are more.
pub(super) async fn read_at_most(
    mut response: Response,
    limit: usize,
) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if bytes.len() + chunk.len() > limit {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Some(bytes))
}

/// What the registry says about its error (distribution-spec, "Error Codes"), made fit for a terminal.
async fn complaint(response: Response) -> Option<String> {
    let bytes = read_at_most(response, MAX_COMPLAINT).await.ok()??;
    let Complaints { errors } = serde_json::from_slice(&bytes).ok()?;
    let Complaint { code, message } = errors.into_iter().next()?;
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    Some(format!("{code} {message}").trim().chars().map(clean).take(200).collect())
}
