//! One request, done properly: which scheme, which credentials, which redirects.
//!
//! Credentials go to the registry and to the token service that it names over TLS, and to nobody else: redirects are
//! followed by hand, and the `Authorization` header stays behind when the host changes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue, LOCATION};
use reqwest::{Method, Response, StatusCode, Url};

use super::error::is_no_tls;
use super::names::Names;
use super::pace::{Counter, Stuck, slow};
use super::reference::{Repository, is_loopback};
use super::source::Outgoing;
use super::tokens::Tokens;
use super::{Options, RegistryError};

const REDIRECTS: usize = 5;

/// Sends requests.
#[derive(Debug)]
pub(super) struct Transport {
    pub(super) client: reqwest::Client,
    pub(super) options: Options,
    pub(super) tokens: Tokens,
    /// The base URLs of loopback hosts, which have to be found out.
    bases: RefCell<BTreeMap<String, Url>>,
    /// The hosts that do not take a blob in one request.
    pub(super) in_two: RefCell<BTreeSet<String>>,
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
    /// What is sent.
    pub(super) body: Option<Outgoing<'a>>,
}

impl<'a> Call<'a> {
    /// A call that reads, with nothing besides.
    pub(super) fn new(repository: &'a Repository, action: &'a str, method: Method, url: Url) -> Self {
        Self { repository, action, method, url, headers: Vec::new(), push: false, from: None, body: None }
    }

    /// What it needs (distribution's "Token Scope Documentation").
    pub(super) fn scopes(&self) -> Vec<String> {
        let actions = if self.push { "pull,push" } else { "pull" };
        let own = format!("repository:{}:{actions}", self.repository.name());
        [own].into_iter().chain(self.from.map(|from| format!("repository:{}:pull", from.name()))).collect()
    }

    pub(super) fn refused(&self, reason: impl Into<String>) -> RegistryError {
        refused(self.repository, self.action, reason)
    }

    /// The error for what broke off, or was too slow.
    pub(super) fn stuck(&self, url: &Url, stuck: Stuck) -> RegistryError {
        let (action, repository) = (self.action.to_owned(), self.repository.to_string());
        let host = authority(url);
        let reason = match stuck {
            Stuck::Failed(error) => {
                // The URL may carry an upload's state, and the host has been named.
                let source = error.without_url();
                return RegistryError::Request { action, repository, host, source };
            }
            Stuck::Silent(long) => format!("has not answered after {} s", long.as_secs_f32()),
            Stuck::Slow(bytes, long) => format!("is too slow: {}", slow(bytes, long)),
        };
        RegistryError::Stuck { action, repository, host, reason }
    }
}

/// The error for an answer that is not believed, or not followed.
pub(super) fn refused(repository: &Repository, action: &str, reason: impl Into<String>) -> RegistryError {
    RegistryError::Refused {
        action: action.to_owned(),
        repository: repository.to_string(),
        host: repository.api_host().to_owned(),
        reason: reason.into(),
    }
}

impl Transport {
    pub(super) fn new(options: Options) -> Result<Self, RegistryError> {
        // Fails only if a provider is installed already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = || {
            let mut builder = reqwest::Client::builder()
                .user_agent(concat!("bundle/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .dns_resolver(Arc::new(Names))
                .connect_timeout(options.patience.connect);
            if let Some(pem) = &options.extra_ca {
                builder = builder.tls_certs_merge(reqwest::Certificate::from_pem_bundle(pem)?);
            }
            builder.build()
        };
        let client = client().map_err(RegistryError::Setup)?;
        let (bases, in_two) = (RefCell::default(), RefCell::default());
        Ok(Self { client, options, tokens: Tokens::default(), bases, in_two })
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
            self.client.get(url).timeout(self.options.patience.answer).send().await
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

    /// Sends a call with the right credentials: those that it has, and once more with new ones if they are refused.
    /// Answers that pass with time are errors; all others are the caller's.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Response, RegistryError> {
        let home = origin(&self.base(call.repository).await?);
        let slot = self.tokens.slot(&home, call);
        let known = self.known(&slot, &home, call).await?;
        let mut response = self.follow(call, known.value(), &home).await?;
        if response.status() == StatusCode::UNAUTHORIZED && origin(response.url()) == home {
            let renewed = self.renew(&slot, &known, &home, call, &response).await?;
            // The connection is free for the next request only without the rest of this answer.
            drop(response);
            response = self.follow(call, renewed.value(), &home).await?;
            if response.status() == StatusCode::UNAUTHORIZED {
                return Err(self.unauthorized(call).await?);
            }
        }
        if matches!(response.status().as_u16(), 403 | 408 | 429 | 500..) {
            return Err(self.wrong(call, response).await);
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
            if !self.is_allowed(call, &url) {
                return Err(call.refused(format!("it leads to `{}` without TLS", authority(&url))));
            }
            let mut request = self.client.request(call.method.clone(), url.clone());
            for (name, value) in &call.headers {
                request = request.header(name, value);
            }
            if let Some(authorization) = authorization.filter(|_| origin(&url) == home) {
                request = request.header(AUTHORIZATION, authorization.clone());
            }
            let mut sent = Counter::default();
            let mut size = 0;
            if let Some(outgoing) = &call.body {
                size = outgoing.blob.size;
                let progress = self.options.progress.clone();
                sent.told = progress.map(|progress| (progress, outgoing.blob.digest, size));
                request = request.body(self.open(outgoing, &sent).await?);
            }
            let answer = self.options.patience.answer(request.send(), size, &sent.sent).await;
            let response = answer.map_err(|stuck| call.stuck(&url, stuck))?;
            let reads = matches!(call.method, Method::GET | Method::HEAD);
            if !(reads && matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308)) {
                return Ok(response);
            }
            url = location(call, &response)?;
        }
        Err(call.refused(format!("it redirects more than {REDIRECTS} times")))
    }

    /// Without TLS only where that was asked for, or from this machine to this machine.
    fn is_allowed(&self, call: &Call<'_>, url: &Url) -> bool {
        let local = || call.repository.is_loopback() && url.host_str().is_some_and(is_loopback);
        match url.scheme() {
            "https" => true,
            "http" => self.options.plain_http || local(),
            _ => false,
        }
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

/// Where an answer sends us.
pub(super) fn location(call: &Call<'_>, response: &Response) -> Result<Url, RegistryError> {
    let text = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    text.and_then(|text| joined(response.url(), text))
        .ok_or_else(|| call.refused("it has no `Location` that is a URL"))
}

/// Where a `Location` (RFC 9110, section 10.2.2) leads from there.
pub(super) fn joined(from: &Url, text: &str) -> Option<Url> {
    from.join(text).ok()
}

/// Scheme, host and port: what a credential is good for.
pub(super) fn origin(url: &Url) -> String {
    format!("{}://{}", url.scheme(), authority(url))
}

pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
