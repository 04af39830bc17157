//! The tables `[droplet]` and `[networks]`.

use ipnet::Ipv4Net;
use toml::Spanned;

use crate::spec::{Droplet, OsRelease};

use super::diagnostics::Diagnostics;
use super::read::{Fields, unknown};
use super::source::{Span, Table};

/// Where `daemon.json` lets Docker take subnets for networks that nobody declared.
pub(crate) const DOCKER_POOLS: &str = "172.20.0.0/14";

const RELEASES: [(&str, OsRelease); 3] = [
    ("debian-12-x64", OsRelease::Debian12),
    ("debian-13-x64", OsRelease::Debian13),
    ("ubuntu-24-04-x64", OsRelease::Ubuntu2404),
];

/// A subnet, and where the profile says it, if it does.
#[derive(Debug, Clone)]
pub(crate) struct Subnet {
    pub(crate) name: &'static str,
    pub(crate) net: Ipv4Net,
    pub(crate) span: Option<Span>,
}

/// Reads `[droplet]`; with the place of its size.
pub(crate) fn droplet(table: &Table<'_>, place: Span, faults: &mut Diagnostics) -> Option<(Droplet, Span)> {
    let mut fields = Fields::new("`droplet`", table, faults);
    for (key, example) in [
        ("size", "`size = \"s-2vcpu-4gb\"`"),
        ("region", "`region = \"fra1\"`"),
        ("image", "`image = \"debian-13-x64\"`"),
    ] {
        fields.require(key, Some(place.clone()), example);
    }
    let size = fields.string("size").and_then(|slug| size(fields.faults, slug));
    let region = fields.string("region").filter(|slug| {
        let text = slug.get_ref();
        let good = !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !good {
            fields
                .faults
                .error(slug.span(), format!("`{text}` is not a region"))
                .help("write a slug such as `fra1`");
        }
        good
    });
    let release = fields.string("image").and_then(|image| release(fields.faults, &image));
    let interface = match fields.string("public_interface") {
        Some(name) if !is_interface(name.get_ref()) => {
            fields
                .faults
                .error(name.span(), format!("`{}` is not the name of a network interface", name.get_ref()))
                .help("a name has at most 15 letters, digits, `-`, `_` and `.`; on a droplet it is `eth0`");
            None
        }
        Some(name) => Some(name.into_inner()),
        None => Some("eth0".to_owned()),
    };
    fields.finish();
    let (slug, memory_mib, vcpus) = size?;
    let span = slug.span();
    let droplet = Droplet {
        size: slug.into_inner(),
        region: region?.into_inner(),
        release: release?,
        memory_mib,
        vcpus,
        public_interface: interface?,
    };
    Some((droplet, span))
}

fn size(faults: &mut Diagnostics, slug: Spanned<String>) -> Option<(Spanned<String>, u64, u32)> {
    if let Some((memory, vcpus)) = parse_size(slug.get_ref()) {
        return Some((slug, memory, vcpus));
    }
    faults
        .error(slug.span(), format!("`{}` is not a droplet size that says its memory", slug.get_ref()))
        .help("write a slug such as `s-2vcpu-4gb`, `g-2vcpu-8gb` or `c-2`");
    None
}

/// Memory in MiB and vCPUs of a size slug: `s-2vcpu-4gb`, `s-1vcpu-512mb-10gb`, `g-2vcpu-8gb-intel`; the CPU-optimised
/// `c-4` has 2 GiB for each vCPU (`DigitalOcean` documentation, "Droplet plans").
fn parse_size(slug: &str) -> Option<(u64, u32)> {
    let mut parts = slug.split('-');
    let family = parts.next()?;
    let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if family.is_empty() || !family.bytes().all(known) {
        return None;
    }
    let count = parts.next()?;
    let (memory, vcpus) = match count.strip_suffix("vcpu") {
        Some(vcpus) => {
            let memory = parts.next()?;
            let mib = match (memory.strip_suffix("gb"), memory.strip_suffix("mb")) {
                (Some(number), _) => number.parse::<u64>().ok()?.checked_mul(1024)?,
                (None, Some(number)) => number.parse().ok()?,
                (None, None) => return None,
            };
            (mib, vcpus.parse::<u32>().ok()?)
        }
        None if family == "c" => {
            let vcpus: u32 = count.parse().ok()?;
            (u64::from(vcpus) * 2048, vcpus)
        }
        None => return None,
    };
    let suffixes_sound = parts.all(|part| !part.is_empty() && part.bytes().all(known));
    ((1..=1024).contains(&vcpus) && (256..=1 << 24).contains(&memory) && suffixes_sound)
        .then_some((memory, vcpus))
}

fn release(faults: &mut Diagnostics, image: &Spanned<String>) -> Option<OsRelease> {
    let text = image.get_ref();
    let found = RELEASES.iter().find(|(slug, _)| slug == text).map(|(_, release)| *release);
    if found.is_none() {
        let known = RELEASES.iter().map(|(slug, _)| *slug).collect();
        unknown(faults, image.span(), &format!("unknown droplet image `{text}`"), text, &known);
    }
    found
}

/// Linux, `dev_valid_name`; narrower, so that it needs no quoting anywhere.
fn is_interface(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// Reads `[networks]`, with defaults for what it does not say.
pub(crate) fn networks(table: Option<&Table<'_>>, faults: &mut Diagnostics) -> Option<[Subnet; 3]> {
    let empty = Table::new();
    let mut fields = Fields::new("`networks`", table.unwrap_or(&empty), faults);
    let subnets = [("data", 0), ("blue", 1), ("green", 2)].map(|(name, third)| match fields.string(name) {
        Some(text) => subnet(fields.faults, name, &text),
        None if fields.get(name).is_some() => None,
        None => Ipv4Net::new([10, 89, third, 0].into(), 24).ok().map(|net| Subnet { name, net, span: None }),
    });
    fields.finish();
    let [Some(data), Some(blue), Some(green)] = subnets else { return None };
    let subnets = [data, blue, green];
    overlaps(&subnets, faults);
    Some(subnets)
}

fn subnet(faults: &mut Diagnostics, name: &'static str, text: &Spanned<String>) -> Option<Subnet> {
    let span = text.span();
    let Ok(net) = text.get_ref().parse::<Ipv4Net>() else {
        faults
            .error(span, format!("`{}` is not an IPv4 subnet", text.get_ref()))
            .help("write an address and a prefix length, such as `10.89.0.0/24`");
        return None;
    };
    if net.trunc() != net {
        faults
            .error(span, format!("`{net}` has bits set beyond its prefix"))
            .help(format!("the subnet is `{}`", net.trunc()));
        return None;
    }
    if !(16..=28).contains(&net.prefix_len()) {
        faults.error(span, format!("`{net}` must have a prefix length from 16 to 28"));
        return None;
    }
    if !net.network().is_private() {
        faults
            .error(span, format!("`{net}` is not a private network"))
            .help("choose one inside `10.0.0.0/8`, `172.16.0.0/12` or `192.168.0.0/16` (RFC 1918)");
        return None;
    }
    Some(Subnet { name, net, span: Some(span) })
}

fn overlaps(subnets: &[Subnet; 3], faults: &mut Diagnostics) {
    let pools: Option<Ipv4Net> = DOCKER_POOLS.parse().ok();
    for (nth, subnet) in subnets.iter().enumerate() {
        let Subnet { name, net, span } = subnet;
        if let (Some(span), Some(_)) = (span, pools.filter(|pools| overlap(*pools, *net))) {
            faults
                .error(span.clone(), format!("network `{name}` overlaps `{DOCKER_POOLS}`"))
                .help("from there Docker takes subnets for networks that nobody declared; choose another");
        }
        for other in &subnets[..nth] {
            // Two defaults never overlap, so one of them has a place.
            let (Some(place), true) = (span.clone().or(other.span.clone()), overlap(other.net, *net)) else {
                continue;
            };
            let fault = faults.error(place, format!("networks `{}` and `{name}` overlap", other.name));
            match (span, &other.span) {
                (Some(_), Some(first)) => {
                    fault.label(format!("`{name}`")).also(first.clone(), format!("`{}`", other.name));
                }
                (Some(_), None) => {
                    fault.help(format!(
                        "`{}` is `{}` unless the profile says otherwise",
                        other.name, other.net
                    ));
                }
                (None, _) => {
                    fault.help(format!("`{name}` is `{net}` unless the profile says otherwise"));
                }
            }
        }
    }
}

fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b) || b.contains(&a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_says_memory_and_cpus() {
        assert_eq!(parse_size("s-2vcpu-4gb"), Some((4096, 2)));
        assert_eq!(parse_size("s-1vcpu-512mb-10gb"), Some((512, 1)));
        assert_eq!(parse_size("g-2vcpu-8gb-intel"), Some((8192, 2)));
        assert_eq!(parse_size("so1_5-2vcpu-16gb"), Some((16384, 2)));
        assert_eq!(parse_size("c-4"), Some((8192, 4)));
        for wrong in
            ["", "s", "s-2", "s-0vcpu-4gb", "s-2vcpu", "s-2vcpu-4tb", "c-99999999999", "s-2vcpu-4gb-"]
        {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
    }
}
