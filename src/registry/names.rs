//! What host names mean: `/etc/hosts` first, then the name servers of `/etc/resolv.conf`, and no others.
//!
//! A static binary cannot load the C library's name-service modules, so names are looked up here. Left to itself the
//! resolver asks name servers even for names that `/etc/hosts` knows, and a public service when it knows of none.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// A resolver for the client.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names;

/// Why a name means nothing.
#[derive(Debug, thiserror::Error)]
enum NameError {
    #[error("the name `{name}` is not in `/etc/hosts`, and `/etc/resolv.conf` names no server to ask")]
    NoServers { name: String },
    #[error("the name `{name}` is not known: {cause}")]
    Unknown { name: String, cause: String },
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let name = name.as_str();
            let mut addresses = match tokio::fs::read_to_string("/etc/hosts").await {
                Ok(text) => in_hosts(&text, name),
                // Without the file every name is the servers' business.
                Err(_) => Vec::new(),
            };
            if addresses.is_empty() {
                addresses = ask(name).await?;
            }
            let addresses: Vec<_> =
                addresses.into_iter().map(|address| SocketAddr::new(address, 0)).collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// The addresses that a hosts file (hosts(5)) gives to a name.
fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse().ok()) else { continue };
        if words.any(|word| word.eq_ignore_ascii_case(name)) {
            addresses.push(address);
        }
    }
    addresses
}

async fn ask(name: &str) -> Result<Vec<IpAddr>, Arc<NameError>> {
    let no_servers = || Arc::new(NameError::NoServers { name: name.to_owned() });
    let mut builder = TokioResolver::builder_tokio().map_err(|_| no_servers())?;
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    let resolver = builder.build().map_err(|_| no_servers())?;
    let unknown = |cause: String| Arc::new(NameError::Unknown { name: name.to_owned(), cause });
    let found = resolver.lookup_ip(name).await.map_err(|error| unknown(error.to_string()))?;
    Ok(found.iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_file_is_read_as_the_manual_says() {
        let text = "127.0.0.1 localhost\n# 10.0.0.9 registry.test\n10.0.0.1\tother Registry.Test # end\n::1 registry.test\n";
        let found: Vec<_> = in_hosts(text, "registry.test").iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.0.0.1", "::1"]);
        assert!(in_hosts(text, "registry").is_empty());
    }
}
