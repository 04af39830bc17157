//! lego, the distribution's ACME client (go-acme.github.io/lego): it proves that a name is ours by HTTP (RFC 8555, section
//! 8.3) and leaves certificate and key in its own directory.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::command::Program;
use crate::activate::HostError;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// To whom the authority writes.
    pub email: &'a str,
    /// The address of the authority's directory.
    pub directory: &'a str,
    /// The file of those who signed the authority's door, if not everybody knows them.
    pub ca: Option<&'a str>,
    /// Where HAProxy sends the authority's question.
    pub listen: &'a str,
    /// The host name.
    pub name: &'a str,
    /// Where lego keeps accounts and what it obtained.
    pub home: &'a Path,
}

impl Order<'_> {
    /// Obtains a certificate with a new key, as one text in PEM: the chain, then the key.
    pub fn obtain(&self) -> Result<String, HostError> {
        let Self { name, home, .. } = *self;
        let forgotten = |error: &HostError| error.cause.contains("acme:error:accountDoesNotExist");
        let made = match self.run() {
            // An authority that has forgotten us is told again who we are.
            Err(error) if forgotten(&error) => {
                let accounts = home.join("accounts");
                fs::remove_dir_all(&accounts).map_err(|error| {
                    HostError::new(format!("removing `{}`", accounts.display()), error.to_string())
                })?;
                self.run()
            }
            made => made,
        };
        made.map_err(|error| {
            HostError::new(format!("obtaining a certificate for `{name}` with lego"), in_short(&error))
        })?;
        let read = |extension: &str| {
            let path = home.join("certificates").join(format!("{name}.{extension}"));
            let fail = |error: std::io::Error| {
                HostError::new(format!("reading `{}`", path.display()), error.to_string())
            };
            let text = fs::read_to_string(&path).map_err(fail)?;
            // A second copy of a key is one that can be lost.
            fs::remove_file(&path).map_err(fail)?;
            Ok(text)
        };
        let (chain, key) = (read("crt")?, read("key")?);
        Ok(joined(&[&chain, &key]))
    }

    fn run(&self) -> Result<String, HostError> {
        let Self { email, directory, ca, listen, name, home } = *self;
        let home = home.to_string_lossy();
        let ca = ca.map(|ca| format!("LEGO_CA_CERTIFICATES={ca}"));
        #[rustfmt::skip]
        let options = [
            "lego", "--accept-tos", "--email", email, "--server", directory, "--path", &home, "--domains", name,
            "--http", "--http.port", listen, "run",
        ];
        let all = ca.as_deref().into_iter().chain(options);
        Program::new("env").args(all).limit(Duration::from_mins(5)).run()
    }
}

/// Texts in PEM as one, without empty lines: on HAProxy's socket one ends the text.
fn joined(texts: &[&str]) -> String {
    let lines = texts.iter().flat_map(|text| text.lines()).map(str::trim).filter(|line| !line.is_empty());
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// What went wrong, out of what lego said: without its log of what went well.
fn in_short(error: &HostError) -> String {
    if error.cause.contains("env: ") && error.cause.contains("No such file") {
        return "there is no `lego` on this machine: `apt-get install lego`".to_owned();
    }
    let said = error.cause.split_once("exit status: 1: ").map_or(error.cause.as_str(), |(_, said)| said);
    let of_note = |line: &&str| {
        !["[INFO]", "No key found for account", "Saved key to"].iter().any(|start| line.starts_with(start))
    };
    let lines: Vec<&str> = said.lines().map(undated).filter(of_note).collect();
    let short = lines.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
    if short.is_empty() { error.cause.clone() } else { short }
}

/// A line of lego's log without `2026/11/21 17:00:00 ` before it: the journal has the time.
fn undated(line: &str) -> &str {
    let stamp = |b: u8| b.is_ascii_digit() || b"/: ".contains(&b);
    match line.split_at_checked(20) {
        Some((date, rest)) if date.bytes().all(stamp) => rest,
        _ => line.trim(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_went_wrong_is_kept() {
        let said = "ended with exit status: 1: 2026/11/21 17:00:00 [INFO] [a.test] acme: Obtaining\n\
                    2026/11/21 17:00:01 Could not obtain certificates:\n\terror: one or more domains had a problem:\n\
                    [a.test] acme: error: 400 :: urn:ietf:params:acme:error:connection :: refused\n";
        let short = in_short(&HostError::new("`env lego`", said));
        assert_eq!(
            short,
            "Could not obtain certificates: error: one or more domains had a problem: [a.test] acme: error: 400 :: \
             urn:ietf:params:acme:error:connection :: refused"
        );
        let none = HostError::new(
            "`env lego`",
            "ended with exit status: 127: env: 'lego': No such file or directory",
        );
        assert!(in_short(&none).contains("apt-get install lego"));
    }

    #[test]
    fn no_line_is_empty() {
        assert_eq!(joined(&["a\n\nb\n", "\nc"]), "a\nb\nc\n");
    }
}
