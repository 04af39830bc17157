//! `/etc/ssl/certs`, as `update-ca-certificates(8)` would have made it: a link and a hashed link for every certificate of
//! an authority, and all of them in one file.

use std::collections::BTreeMap;

use base64::Engine as _;
use sha1::{Digest as _, Sha1};
use x509_cert::Certificate;
use x509_cert::der::asn1::{Any, BmpString};
use x509_cert::der::{Decode, Encode, Tag, Tagged};
use x509_cert::name::{Name, RelativeDistinguishedName};

use super::DebianError;
use super::leftovers::{file, link};
use super::tree::Tree;

const FROM: &str = "usr/share/ca-certificates/";
const TO: &str = "etc/ssl/certs";
const BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";

/// Installs the authorities that packages bring, if any do.
pub(crate) fn install(tree: &mut Tree) -> Result<(), DebianError> {
    let mut bundle = Vec::new();
    let mut chosen = String::new();
    let mut hashes: BTreeMap<u32, u32> = BTreeMap::new();
    for (path, _) in tree.beginning(FROM) {
        let Some(name) = path.strip_prefix(FROM).filter(|name| name.strip_suffix(".crt").is_some()) else {
            continue;
        };
        let Some(pem) = tree.read(&path)? else { continue };
        chosen.push_str(name);
        chosen.push('\n');
        let base = name.rsplit('/').next().unwrap_or(name).trim_end_matches(".crt");
        let base = base.replace([' ', ','], "_").replace(['(', ')'], "=");
        link(tree, &format!("{TO}/{base}.pem"), &format!("/{path}"))?;
        if let Some(hash) = hash(&pem) {
            let number = hashes.entry(hash).or_default();
            link(tree, &format!("{TO}/{hash:08x}.{number}"), &format!("{base}.pem"))?;
            *number += 1;
        }
        bundle.extend_from_slice(&pem);
        if pem.last() != Some(&b'\n') {
            bundle.push(b'\n');
        }
    }
    if !bundle.is_empty() {
        file(tree, BUNDLE, bundle)?;
        file(tree, "etc/ca-certificates.conf", chosen.into_bytes())?;
    }
    Ok(())
}

/// The hash by which OpenSSL finds a certificate in a directory (`openssl-rehash(1)`); `None` for what is none.
fn hash(pem: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(pem).ok()?;
    let body = text.split_once("-----BEGIN CERTIFICATE-----")?.1.split_once("-----END CERTIFICATE-----")?.0;
    let body: String = body.split_whitespace().collect();
    let der = base64::engine::general_purpose::STANDARD.decode(body).ok()?;
    let certificate = Certificate::from_der(&der).ok()?;
    let digest = Sha1::digest(canonical(certificate.tbs_certificate().subject())?);
    Some(u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]))
}

/// OpenSSL's canonical form of a name (`x509_name_canon` in `crypto/x509/x_name.c`): every text in UTF-8, in lower case as
/// far as it is ASCII, without blanks around it and with single ones in it; the sets one after the other.
fn canonical(name: &Name) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for set in name.iter_rdn() {
        let mut same = Vec::new();
        for attribute in set.iter() {
            let mut attribute = attribute.clone();
            if let Some(text) = text(&attribute.value) {
                let words: Vec<_> = text.split_ascii_whitespace().map(str::to_ascii_lowercase).collect();
                attribute.value = Any::new(Tag::Utf8String, words.join(" ").into_bytes()).ok()?;
            }
            same.push(attribute);
        }
        let set: RelativeDistinguishedName = RelativeDistinguishedName::try_from(same).ok()?;
        bytes.extend(set.to_der().ok()?);
    }
    Some(bytes)
}

fn text(value: &Any) -> Option<String> {
    let bytes = value.value();
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::VisibleString => {
            String::from_utf8(bytes.to_vec()).ok()
        }
        Tag::TeletexString => Some(bytes.iter().map(|&byte| char::from(byte)).collect()),
        Tag::BmpString => BmpString::from_ucs2(bytes.to_vec()).ok().map(|text| text.chars().collect()),
        _ => None,
    }
}
