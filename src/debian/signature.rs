//! Who signed a suite's `InRelease`. The signature is checked by `gpgv`, or by `sqv` where that is all there is, as apt
//! itself does it; what the signature covers is what they give back, never what merely stands in the file.
#![expect(clippy::disallowed_methods, reason = "checking a signature is another program's work")]

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Output};

use base64::Engine as _;

use super::DebianError;

/// A text, and the fingerprints of the trusted keys that signed it, sorted.
#[derive(Debug)]
pub(crate) struct Signed {
    pub(crate) text: String,
    pub(crate) keys: Vec<String>,
}

/// Hash algorithms whose signatures count for nothing: MD5, SHA-1, RIPEMD-160 (RFC 4880, 9.4), as for apt.
const WEAK: [&str; 3] = ["1", "2", "3"];

/// Checks a clear-signed file against a keyring; `url` is what messages call it.
pub(crate) fn verify(url: &str, in_release: &[u8], keyring: &Path) -> Result<Signed, DebianError> {
    let begins = in_release
        .split(|&byte| byte == b'\n')
        .filter(|line| line.starts_with(b"-----BEGIN PGP SIGNED"))
        .count();
    if begins != 1 {
        return Err(distrust(url, format!("it has {begins} signed parts instead of one")));
    }
    let folder = tempfile::tempdir().map_err(DebianError::io("make a directory in", Path::new("/tmp")))?;
    let [keys, signed, text] = ["keys.gpg", "InRelease", "text"].map(|name| folder.path().join(name));
    fs::write(&keys, binary(keyring)?).map_err(DebianError::io("write", &keys))?;
    fs::write(&signed, in_release).map_err(DebianError::io("write", &signed))?;
    let mut gpgv = Command::new("gpgv");
    gpgv.args(["--status-fd", "1", "--keyring"]).arg(&keys).arg("--output").arg(&text).arg(&signed);
    let found = if let Some(output) = output(gpgv, url)? {
        of_gpgv(url, &output)?
    } else {
        let mut sqv = Command::new("sqv");
        sqv.arg("--keyring").arg(&keys).arg("--cleartext").arg("--output").arg(&text).arg(&signed);
        let output = output(sqv, url)?.ok_or_else(|| DebianError::NoVerifier { url: url.to_owned() })?;
        of_sqv(url, &output)?
    };
    let text = fs::read_to_string(&text).map_err(DebianError::io("read", &text))?;
    Ok(Signed { text, keys: found })
}

fn output(mut command: Command, url: &str) -> Result<Option<Output>, DebianError> {
    match command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LC_ALL", "C").output() {
        Ok(output) => Ok(Some(output)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(distrust(url, format!("`{}` cannot be run: {error}", command.get_program().display())))
        }
    }
}

fn distrust(url: &str, reason: String) -> DebianError {
    DebianError::Signature { url: url.to_owned(), reason }
}

/// What `gpgv` says for programs (`doc/DETAILS` of its source). A signature by a key that we do not have is no harm, as long as
/// another is good; a bad one is.
fn of_gpgv(url: &str, output: &Output) -> Result<Vec<String>, DebianError> {
    let status = String::from_utf8_lossy(&output.stdout);
    let mut keys = Vec::new();
    let mut against = Vec::new();
    let mut good = false;
    for line in status.lines().filter_map(|line| line.strip_prefix("[GNUPG:] ")) {
        let words: Vec<_> = line.split(' ').collect();
        let word = |at: usize| words.get(at).copied().unwrap_or_default();
        match word(0) {
            "NEWSIG" => good = false,
            "GOODSIG" => good = true,
            "VALIDSIG" if WEAK.contains(&word(8)) => {
                against.push(format!("the key {} signed a weak hash", word(1)));
            }
            "VALIDSIG" if good => keys.push(words.last().copied().unwrap_or_default().to_owned()),
            "BADSIG" => return Err(distrust(url, format!("the signature of the key {} is bad", word(1)))),
            "EXPSIG" | "EXPKEYSIG" => {
                against.push(format!("the signature or the key {} has expired", word(1)));
            }
            "REVKEYSIG" => against.push(format!("the key {} was revoked", word(1))),
            "NO_PUBKEY" => against.push(format!("the key {} is not in the keyring", word(1))),
            "NODATA" => against.push("it has no signature".to_owned()),
            _ => {}
        }
    }
    settle(url, keys, against, &output.stderr)
}

/// `sqv` prints the fingerprint of every key whose signature is good.
fn of_sqv(url: &str, output: &Output) -> Result<Vec<String>, DebianError> {
    let keys = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    let keys = if output.status.success() { keys } else { Vec::new() };
    settle(url, keys, Vec::new(), &output.stderr)
}

fn settle(
    url: &str,
    mut keys: Vec<String>,
    mut against: Vec<String>,
    said: &[u8],
) -> Result<Vec<String>, DebianError> {
    keys.sort();
    keys.dedup();
    let print = |key: &String| key.len() >= 40 && key.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !keys.is_empty() && keys.iter().all(print) {
        return Ok(keys);
    }
    if against.is_empty() {
        against.push(String::from_utf8_lossy(said).trim().to_owned());
    }
    against.dedup();
    Err(distrust(url, against.join("; ")))
}

/// The keyring as `gpgv` wants it: without armor (RFC 9580, 6).
fn binary(path: &Path) -> Result<Vec<u8>, DebianError> {
    const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
    const END: &str = "-----END PGP PUBLIC KEY BLOCK-----";
    let bytes = fs::read(path).map_err(DebianError::io("read", path))?;
    let Some(text) = std::str::from_utf8(&bytes).ok().filter(|text| text.contains(BEGIN)) else {
        return Ok(bytes);
    };
    let mut all = Vec::new();
    for block in text.split(BEGIN).skip(1) {
        let fault = |reason: String| DebianError::Keyring { path: path.to_owned(), reason };
        let (block, _) =
            block.split_once(END).ok_or_else(|| fault("a block of keys has no end".to_owned()))?;
        // Headers, a blank line, base64, and a checksum that begins with `=`.
        let lines = block.lines().map(str::trim).skip(1).skip_while(|line| line.contains(':'));
        let body: String = lines.filter(|line| !line.starts_with('=')).collect();
        let keys = base64::engine::general_purpose::STANDARD
            .decode(body)
            .map_err(|error| fault(error.to_string()))?;
        all.extend(keys);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    const KEY: &str = "41587F7DB8C774BCCF131416762F67A0B2C39DE4";

    fn judge(status: &str) -> Result<Vec<String>, String> {
        let stdout = status.replace("PRINT", KEY).into_bytes();
        let output = Output { status: ExitStatus::from_raw(0), stdout, stderr: Vec::new() };
        of_gpgv("u", &output).map_err(|error| error.to_string())
    }

    #[test]
    fn one_good_signature_is_enough_and_one_bad_is_too_much() {
        let good =
            "[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG 1 x\n[GNUPG:] VALIDSIG SUB 2026 1 0 4 0 1 10 00 PRINT\n";
        let unknown = "[GNUPG:] NEWSIG\n[GNUPG:] ERRSIG 9 1\n[GNUPG:] NO_PUBKEY 9\n";
        assert_eq!(judge(good).unwrap(), [KEY]);
        assert_eq!(judge(&format!("{unknown}{good}{good}")).unwrap(), [KEY]);
        for (status, why) in [
            (format!("{good}[GNUPG:] NEWSIG\n[GNUPG:] BADSIG 2 x\n"), "is bad"),
            (unknown.to_owned(), "not in the keyring"),
            (good.replace("GOODSIG", "EXPKEYSIG"), "expired"),
            (good.replace("GOODSIG", "REVKEYSIG"), "revoked"),
            (good.replace(" 1 10 00", " 1 2 00"), "weak"),
            (format!("gpgv: {good}").replace("\n[", "\ngpgv: ["), "not to be trusted"),
            (String::new(), "not to be trusted"),
        ] {
            let said = judge(&status).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }
}
