//! What a request is authorized with: tokens, one for each origin and scope, fetched once however many wait for them;
//! and the realms from which they may be fetched.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::RegistryError;
use super::auth::{Credentials, Lookup};
use super::challenge::{self, Challenge};
use super::reference::{Repository, is_loopback};
use super::transport::{Call, Transport, authority};

const MAX_TOKEN: usize = 1 << 20;

/// The authorizations of a client, which forgets them when it ends.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    /// By origin and scopes.
    slots: RefCell<BTreeMap<(String, String), Slot>>,
    /// What origins have asked for, so that the next scope needs no refusal first.
    challenges: RefCell<BTreeMap<String, Vec<Challenge>>>,
    /// What the credential helpers said, by registry.
    helped: Mutex<BTreeMap<String, Lookup>>,
}

/// Held while its authorization is being fetched.
type Slot = Arc<Mutex<Known>>;

/// What is known of an authorization, and which one it is.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    count: u64,
    value: Option<HeaderValue>,
}

impl Known {
    pub(super) fn value(&self) -> Option<&HeaderValue> {
        self.value.as_ref()
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Tokens {
    pub(super) fn slot(&self, home: &str, call: &Call<'_>) -> Slot {
        let key = (home.to_owned(), call.scopes().join(" "));
        Arc::clone(self.slots.borrow_mut().entry(key).or_default())
    }
}

impl Transport {
    /// The authorization for a call, if it is known, or known how to get it.
    pub(super) async fn known(
        &self,
        slot: &Slot,
        home: &str,
        call: &Call<'_>,
    ) -> Result<Known, RegistryError> {
        let mut known = slot.lock().await;
        let challenges = self.tokens.challenges.borrow().get(home).cloned();
        if let (None, Some(challenges)) = (&known.value, challenges) {
            let value = self.answer_to(call, &challenges, &call.url).await?;
            *known = Known { count: known.count + 1, value: Some(value) };
        }
        Ok(known.clone())
    }

    /// A new authorization after `used` was refused, unless somebody has fetched it meanwhile.
    pub(super) async fn renew(
        &self,
        slot: &Slot,
        used: &Known,
        home: &str,
        call: &Call<'_>,
        refusal: &Response,
    ) -> Result<Known, RegistryError> {
        let mut known = slot.lock().await;
        if known.count == used.count {
            let headers = refusal.headers().get_all(WWW_AUTHENTICATE);
            let texts = headers.iter().filter_map(|value| value.to_str().ok());
            let challenges: Vec<Challenge> = texts.flat_map(challenge::parse).collect();
            let value = self.answer_to(call, &challenges, refusal.url()).await?;
            self.tokens.challenges.borrow_mut().insert(home.to_owned(), challenges);
            *known = Known { count: known.count + 1, value: Some(value) };
        }
        Ok(known.clone())
    }

    /// Turns the challenges of a 401 into something to authorize with.
    async fn answer_to(
        &self,
        call: &Call<'_>,
        challenges: &[Challenge],
        registry: &Url,
    ) -> Result<HeaderValue, RegistryError> {
        let lookup = self.credentials(call.repository).await?;
        let bearer = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer { realm, service } => Some((realm, service.as_deref())),
            Challenge::Basic => None,
        });
        let basic = match &lookup {
            Lookup::Found(credentials) => credentials.basic(),
            _ => None,
        };
        let text = match (bearer, basic) {
            (Some((realm, service)), _) => {
                format!("Bearer {}", self.token(call, registry, realm, service, &lookup).await?)
            }
            (None, Some(basic)) if challenges.contains(&Challenge::Basic) => format!("Basic {basic}"),
            _ => return Err(unauthorized(call, &lookup)),
        };
        sensitive(&text).ok_or_else(|| call.refused("its token is not a header's text"))
    }

    /// Gets a token for this repository and access: with user and password by GET (distribution's "Token Authentication
    /// Specification"), with an identity token by POST ("`OAuth2` Token Authentication").
    async fn token(
        &self,
        call: &Call<'_>,
        registry: &Url,
        realm: &str,
        service: Option<&str>,
        lookup: &Lookup,
    ) -> Result<String, RegistryError> {
        let mut url = Url::parse(realm).map_err(|_| call.refused("its token realm is not a URL"))?;
        self.may_be_asked(call, registry, &url)?;
        let scopes = call.scopes();
        let request = if let Lookup::Found(Credentials::Identity { token }) = lookup {
            // A query is encoded as a form is (URL standard, "application/x-www-form-urlencoded").
            let mut form = url.clone();
            form.set_query(None);
            form.query_pairs_mut()
                .append_pair("grant_type", "refresh_token")
                .append_pair("client_id", "bundle")
                .append_pair("service", service.unwrap_or_default())
                .append_pair("scope", &scopes.join(" "))
                .append_pair("refresh_token", token);
            let form = form.query().unwrap_or_default().to_owned();
            self.client.post(url.clone()).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form)
        } else {
            url.query_pairs_mut()
                .extend_pairs(service.map(|service| ("service", service)))
                .extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
            let mut request = self.client.get(url.clone());
            if let Lookup::Found(credentials) = lookup
                && let Some(basic) = credentials.basic()
            {
                let value = sensitive(&format!("Basic {basic}"));
                request = request.header(AUTHORIZATION, value.ok_or_else(|| unauthorized(call, lookup))?);
            }
            request
        };
        let answer = self.options.patience.answer(request.send(), 0, &Arc::default()).await;
        let response = answer.map_err(|stuck| call.stuck(&url, stuck))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => return Err(unauthorized(call, lookup)),
            StatusCode::FORBIDDEN => {
                return Err(match self.wrong(call, response).await {
                    limited @ RegistryError::Status { .. } => limited,
                    _ => unauthorized(call, lookup),
                });
            }
            _ => return Err(self.wrong(call, response).await),
        }
        let bytes = self.read(call, response, MAX_TOKEN).await?;
        let token: Option<Token> = serde_json::from_slice(&bytes).ok();
        token
            .and_then(|token| token.token.or(token.access_token))
            .filter(|token| !token.is_empty())
            .ok_or_else(|| call.refused(format!("its token service at `{}` gives no token", authority(&url))))
    }

    /// A realm is the registry's to name, and gets the password: so only over TLS, and never inside of a network in
    /// which the registry is not itself, where it would be our hand that knocks (`169.254.169.254`).
    fn may_be_asked(&self, call: &Call<'_>, registry: &Url, realm: &Url) -> Result<(), RegistryError> {
        let host = realm.host_str().unwrap_or_default();
        let same = registry.host_str() == Some(host);
        let local = is_loopback(host) && call.repository.is_loopback();
        let plain = realm.scheme() == "http" && (local || same && self.options.plain_http);
        if !(realm.scheme() == "https" || plain) {
            let reason = format!("it wants credentials sent to `{}` without TLS", authority(realm));
            return Err(call.refused(reason));
        }
        let inside = |host: &str| is_inside(host.trim_matches(['[', ']']));
        if inside(host)
            && !same
            && !(local || registry.host_str().is_some_and(inside) && !is_link_local(host))
        {
            let reason = format!(
                "it wants credentials sent to `{}`, an address inside of a network that it is not part of itself",
                authority(realm)
            );
            return Err(call.refused(reason));
        }
        Ok(())
    }

    /// The credentials for a repository. A helper is asked once.
    async fn credentials(&self, repository: &Repository) -> Result<Lookup, RegistryError> {
        match self.options.environment.lookup(repository)? {
            Lookup::Helper { name, file } => {
                let mut helped = self.tokens.helped.lock().await;
                if let Some(said) = helped.get(repository.host()) {
                    return Ok(said.clone());
                }
                let said = self.options.environment.ask(&name, &file, repository.host()).await?;
                helped.insert(repository.host().to_owned(), said.clone());
                Ok(said)
            }
            lookup => Ok(lookup),
        }
    }

    /// The error for a call that stays unauthorized.
    pub(super) async fn unauthorized(&self, call: &Call<'_>) -> Result<RegistryError, RegistryError> {
        Ok(unauthorized(call, &self.credentials(call.repository).await?))
    }
}

fn is_link_local(host: &str) -> bool {
    match host.trim_matches(['[', ']']).parse() {
        Ok(IpAddr::V4(address)) => address.is_link_local(),
        Ok(IpAddr::V6(address)) => address.is_unicast_link_local(),
        Err(_) => false,
    }
}

/// Whether a host is an address that only some network, or some machine, knows.
fn is_inside(host: &str) -> bool {
    match host.parse() {
        Ok(IpAddr::V4(address)) => {
            address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified()
        }
        Ok(IpAddr::V6(address)) => {
            let mapped = address.to_ipv4_mapped().is_some_and(|address| is_inside(&address.to_string()));
            mapped
                || address.is_unique_local()
                || address.is_loopback()
                || address.is_unicast_link_local()
                || address.is_unspecified()
        }
        Err(_) => is_loopback(host),
    }
}

fn unauthorized(call: &Call<'_>, lookup: &Lookup) -> RegistryError {
    let host = call.repository.host().to_owned();
    let hint = match lookup {
        Lookup::Nothing | Lookup::Helper { .. } => format!("log in with `docker login {host}`"),
        Lookup::Found(credentials) => format!(
            "{} refused, or do not suffice here; log in again with `docker login {host}`",
            credentials.whose()
        ),
    };
    let (action, repository) = (call.action.to_owned(), call.repository.to_string());
    RegistryError::Unauthorized { action, repository, host, hint }
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_inside_of_a_network_are_known() {
        for inside in
            ["10.0.0.1", "169.254.169.254", "127.0.0.1", "fe80::1", "fd00::1", "::ffff:10.0.0.1", "localhost"]
        {
            assert!(is_inside(inside), "{inside}");
        }
        for outside in ["auth.docker.io", "203.0.113.7", "2001:db8::1"] {
            assert!(!is_inside(outside), "{outside}");
        }
        assert!(is_link_local("[fe80::1]") && is_link_local("169.254.1.1") && !is_link_local("10.0.0.1"));
    }
}
