//! Paths and unit names that renderers spell out, and the questions that several of them ask of a spec.

use super::{Problem, RenderError, ServiceMount, Tree};
use crate::model::{SecretFile, SecretName, SecretSource, ServiceName, TreePath, UnitName, User};
use crate::spec::{Service, Spec};

/// A path in the tree.
pub(super) fn path(text: &str) -> Result<TreePath, RenderError> {
    text.parse().map_err(|error| fault(text, &error))
}

/// A unit's name.
pub(super) fn unit(text: &str) -> Result<UnitName, RenderError> {
    text.parse().map_err(|error| fault(text, &error))
}

fn fault(text: &str, error: &dyn std::fmt::Display) -> RenderError {
    RenderError::Format { path: text.to_owned(), reason: error.to_string() }
}

/// The service that a kind's table names.
pub(super) fn service<'a>(
    spec: &'a Spec,
    kind: &'static str,
    name: &ServiceName,
) -> Result<&'a Service, RenderError> {
    spec.services.get(name).ok_or_else(|| RenderError::NoService { kind, service: name.to_string() })
}

/// Who reads a service's secret files. An image without `user` runs as root.
pub(super) fn owner(service: &Service) -> User {
    service.user.unwrap_or(User { uid: 0, gid: 0 })
}

/// What a service may use of the memory, in bytes: its `mem_limit`, or what it gets without one.
pub(super) fn memory_limit(service: &Service) -> u64 {
    let said = match service.compose.get("mem_limit") {
        Some(serde_json::Value::String(text)) => match text.parse::<super::size::Size>() {
            Ok(size) => Some(size.bytes()),
            // Compose takes a bare number of bytes too.
            Err(_) => text.parse().ok(),
        },
        Some(other) => other.as_u64(),
        None => None,
    };
    said.unwrap_or(crate::spec::limits::MEMORY_MIB * 1024 * 1024)
}

/// How many processors a service can use: its `cpus`, rounded up, and no more than there are. To Docker `0` is no limit.
pub(super) fn processors(spec: &Spec, service: &Service) -> u32 {
    let said = service.compose.get("cpus").and_then(serde_json::Value::as_str);
    let text = said.unwrap_or(crate::spec::limits::CPUS);
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let whole: u32 = if whole.is_empty() { 0 } else { whole.parse().unwrap_or(1) };
    let more = u32::from(part.bytes().any(|digit| digit != b'0'));
    match whole.saturating_add(more) {
        0 => spec.droplet.vcpus.max(1),
        asked => asked.min(spec.droplet.vcpus.max(1)),
    }
}

/// Has a service read a secret, whether or not it is among those that its profile names; says where.
pub(super) fn reads(
    tree: &mut Tree,
    name: &ServiceName,
    service: &Service,
    secret: &SecretName,
) -> Result<String, RenderError> {
    let target = format!("/run/secrets/{secret}");
    if !service.secrets.contains(secret) {
        let source = tree.secret_file(SecretFile {
            path: path(&format!("{name}/{secret}"))?,
            source: SecretSource::Value(secret.clone()),
            owner: owner(service),
            link: None,
        })?;
        tree.mount(name, ServiceMount { source, target: target.clone() });
    }
    Ok(target)
}

/// What is wrong with a secret that a kind's table names.
pub(super) fn check_secret(spec: &Spec, at: Vec<String>, secret: &SecretName) -> Option<Problem> {
    (!spec.secrets.contains_key(secret)).then(|| Problem {
        at,
        message: format!("there is no secret `{secret}`"),
        hint: Some(format!("add `[secrets.{secret}]` with `generate = \"password\"`")),
    })
}

/// A finding about the value at `key` of the kind's table.
pub(super) fn problem(key: &str, message: String, hint: Option<String>) -> Problem {
    Problem { at: vec![key.to_owned()], message, hint }
}

/// What is wrong with a table that names `name` as its stateful service.
pub(super) fn check_service(spec: &Spec, name: &ServiceName) -> Option<Problem> {
    let Some(service) = spec.services.get(name) else {
        let names: Vec<&str> = spec.services.keys().map(ServiceName::as_str).collect();
        let hint = format!("the services are: {}", names.join(", "));
        return Some(problem("service", format!("there is no service `{name}`"), Some(hint)));
    };
    (service.placement != crate::spec::Placement::Data).then(|| {
        let hint = Some(format!("add `{name}` to `stateful`"));
        problem("service", format!("service `{name}` would be replaced by every release"), hint)
    })
}
