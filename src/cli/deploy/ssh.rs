//! Commands on a droplet, over the user's own `ssh` with its configuration, keys and agent.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;

use tempfile::TempDir;

/// What `ssh` ends with when it is the connection that failed (ssh(1), EXIT STATUS).
pub(super) const LOST: i32 = 255;

/// A droplet as people name it: `[USER@]HOST[:PORT]`, where the host may be an alias of `~/.ssh/config`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Destination {
    user: Option<String>,
    host: String,
    port: Option<u16>,
}

/// A text that names no droplet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not `[USER@]HOST[:PORT]`: {reason}")]
pub(super) struct ParseDestinationError {
    text: String,
    reason: &'static str,
}

impl FromStr for Destination {
    type Err = ParseDestinationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |reason| ParseDestinationError { text: text.to_owned(), reason };
        let (user, rest) = match text.rsplit_once('@') {
            Some((user, rest)) => (Some(user.to_owned()), rest),
            None => (None, text),
        };
        let (host, port) = match rest.strip_prefix('[').map(|inside| inside.split_once(']')) {
            Some(Some((host, port))) => match port.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if port.is_empty() => (host, None),
                None => return Err(error("after `]` comes `:` and a port, or nothing")),
            },
            Some(None) => return Err(error("`[` has no `]`")),
            // Several colons are an IPv6 address.
            None => match rest.split_once(':') {
                Some((host, port)) if !port.contains(':') => (host, Some(port)),
                _ => (rest, None),
            },
        };
        let port = match port.map(str::parse::<u16>) {
            Some(Ok(0) | Err(_)) => return Err(error("the port is not a number from 1 to 65535")),
            Some(Ok(port)) => Some(port),
            None => None,
        };
        // They become words of a command line: none may be taken for an option.
        for word in user.as_deref().into_iter().chain([host]) {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-:%+".contains(c);
            if word.is_empty() || word.starts_with('-') || !word.chars().all(plain) {
                return Err(error(
                    "user and host have letters, digits and `._-:%+`, and do not start with `-`",
                ));
            }
        }
        Ok(Self { user, host: host.to_owned(), port })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        match self.port {
            Some(port) if self.host.contains(':') => write!(f, "[{}]:{port}", self.host),
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

/// How `ssh` is called: one connection to each droplet for all that is done there (a firewall of ours lets an address
/// open ten in a minute), and new ones where it is the connection that is to be proven.
#[derive(Debug)]
pub(super) struct Ssh {
    /// The operator's own options, each one word.
    options: Vec<String>,
    /// Where the sockets of shared connections are; nobody else's.
    sockets: TempDir,
}

/// Whether a connection may be one that is open already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connection {
    /// The one that is open, if there is one.
    Any,
    /// A new one, which proves that one can be made.
    Fresh,
}

/// What came of a command there.
#[derive(Debug)]
pub(super) struct Said {
    /// Its exit code; that of `ssh` is [`LOST`], also when a signal ended it.
    pub(super) code: i32,
    pub(super) out: String,
    pub(super) err: String,
}

impl Said {
    /// The end of what it complained of, on one line.
    pub(super) fn complaint(&self) -> String {
        let lines: Vec<_> = self.err.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let last = lines[lines.len().saturating_sub(4)..].join("; ");
        if last.is_empty() { format!("exit code {}, and not a word", self.code) } else { last }
    }
}

impl Ssh {
    /// With the operator's own options, each one word.
    pub(super) fn new(options: Vec<String>) -> Result<Self, String> {
        let sockets = tempfile::tempdir().map_err(|error| format!("no directory for sockets: {error}"))?;
        Ok(Self { options, sockets })
    }

    /// Ends the shared connection, if there is one.
    pub(super) fn hang_up(&self, to: &Destination) {
        let mut command = self.farewell(to);
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // It ends by itself after a while.
        drop(quiet.status());
    }

    fn farewell(&self, to: &Destination) -> Command {
        self.command(to, Connection::Any, &[])
    }

    fn socket(&self) -> String {
        format!("{}/%C", self.sockets.path().display())
    }

    fn command(&self, to: &Destination, connection: Connection, remote: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        // Of an option that is given twice, the first counts (ssh_config(5)); `-S` counts wherever it is.
        if connection == Connection::Fresh {
            command.args(["-o", "ControlMaster=no", "-o", "ControlPath=none"]);
        }
        command.args(&self.options).arg("-T");
        for option in ["ConnectTimeout=10", "ServerAliveInterval=10", "ServerAliveCountMax=6"] {
            command.args(["-o", option]);
        }
        if connection == Connection::Fresh {
            command.args(["-S", "none"]);
        } else {
            let path = format!("ControlPath={}", self.socket());
            command.args(["-o", "ControlMaster=auto", "-o", &path, "-o", "ControlPersist=300"]);
        }
        if remote.is_empty() {
            // Ours, whatever the operator's options name: their connection is theirs to end.
            command.args(["-S", &self.socket(), "-O", "exit"]);
        }
        if let Some(port) = to.port {
            command.args(["-p", &port.to_string()]);
        }
        if let Some(user) = &to.user {
            command.args(["-l", user]);
        }
        command.arg("--").arg(&to.host);
        if !remote.is_empty() {
            command.arg(quoted(remote));
        }
        command
    }

    /// Runs it there with `input`, which fits into a pipe, and waits for its end.
    pub(super) fn run(
        &self,
        to: &Destination,
        connection: Connection,
        remote: &[&str],
        input: &[u8],
    ) -> Result<Said, String> {
        let mut command = self.command(to, connection, remote);
        let mut child = piped(command.stdin(Stdio::piped()).stderr(Stdio::piped()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // Whoever does not read to the end says why by itself.
            drop(stdin.write_all(input));
        }
        let output =
            child.wait_with_output().map_err(|error| format!("`ssh` cannot be waited for: {error}"))?;
        Ok(Said {
            code: output.status.code().unwrap_or(LOST),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs it there without input, and hands on each line that it says on stderr when it says it.
    pub(super) fn follow(
        &self,
        to: &Destination,
        remote: &[&str],
        mut line: impl FnMut(&str),
    ) -> Result<Said, String> {
        let mut command = self.command(to, Connection::Any, remote);
        let mut child = piped(command.stdin(Stdio::null()).stderr(Stdio::piped()))?;
        let mut err = String::new();
        let mut stderr = child.stderr.take().map(BufReader::new);
        let mut bytes = Vec::new();
        while let Some(Ok(1..)) = stderr.as_mut().map(|stderr| stderr.read_until(b'\n', &mut bytes)) {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            line(text.trim_end());
            err.push_str(&text);
            bytes.clear();
        }
        end(child, err)
    }

    /// Runs it there with what `feed` writes as its input; its stderr is ours.
    pub(super) fn feed(
        &self,
        to: &Destination,
        remote: &[&str],
        feed: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<Said, String> {
        let mut command = self.command(to, Connection::Any, remote);
        let mut child = piped(command.stdin(Stdio::piped()).stderr(Stdio::inherit()))?;
        let written = match child.stdin.take() {
            Some(stdin) => {
                let mut stdin = std::io::BufWriter::with_capacity(1 << 18, stdin);
                feed(&mut stdin).and_then(|()| stdin.flush())
            }
            None => Ok(()),
        };
        let said = end(child, String::new())?;
        match written {
            // What ended there has said why.
            Err(error) if said.code == 0 => Err(format!("not everything was sent: {error}")),
            _ => Ok(said),
        }
    }
}

fn piped(command: &mut Command) -> Result<Child, String> {
    let spawned = command.stdout(Stdio::piped()).spawn();
    spawned.map_err(|error| format!("`ssh` cannot be run: {error}; is OpenSSH's client installed?"))
}

fn end(mut child: Child, err: String) -> Result<Said, String> {
    let mut out = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_end(&mut out).map_err(|error| format!("`ssh` cannot be read: {error}"))?;
    }
    let status = child.wait().map_err(|error| format!("`ssh` cannot be waited for: {error}"))?;
    let out = String::from_utf8_lossy(&out).into_owned();
    Ok(Said { code: status.code().unwrap_or(LOST), out, err })
}

/// One line that any login shell takes for these words: `ssh` joins its arguments with blanks, and a shell there reads
/// them again.
fn quoted(words: &[&str]) -> String {
    let plain = |word: &str| {
        !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:@=+,".contains(c))
    };
    let quote = |word: &&str| {
        if plain(word) { (*word).to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
    };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PROGRAM;

    #[test]
    fn a_droplet_is_named_as_people_name_it() {
        for (text, user, host, port) in [
            ("web1", None, "web1", None),
            ("root@203.0.113.7", Some("root"), "203.0.113.7", None),
            ("deploy@web1.example.com:2222", Some("deploy"), "web1.example.com", Some(2222)),
            ("2001:db8::1", None, "2001:db8::1", None),
            ("root@[2001:db8::1]:22", Some("root"), "2001:db8::1", Some(22)),
            ("fe80::1%eth0", None, "fe80::1%eth0", None),
        ] {
            let user = user.map(str::to_owned);
            let destination = Destination { user, host: host.to_owned(), port };
            assert_eq!(text.parse(), Ok(destination.clone()));
            assert_eq!(destination.to_string(), text);
        }
    }

    #[test]
    fn what_a_shell_or_ssh_could_take_for_something_else_is_no_droplet() {
        for text in [
            "",
            "@web1",
            "root@",
            "-oProxyCommand=x",
            "root@-x",
            "-l@web1",
            "web 1",
            "web1;reboot",
            "$(x)",
            "web1:0",
            "web1:70000",
            "web1:ssh",
            "[::1",
            "[::1]22",
            "a@b c@d",
            "web1\n",
            "ssh://web1",
            "'web1'",
        ] {
            assert!(text.parse::<Destination>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_shell_reads_back_the_words_that_were_meant() {
        let nasty = [
            "printf", "%s\\n", "", " ", "a b", "it's", "$HOME", "`id`", "!x", "a\\", "\"", "~", "*", ";",
            "\n|", "--",
        ];
        let line = quoted(&nasty);
        let output = Command::new("sh").args(["-c", &line]).output().unwrap();
        let expected = format!("{}\n", nasty[2..].join("\n"));
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected, "{line}");
        assert_eq!(
            quoted(&[PROGRAM, "switch", "--confirm", "120"]),
            format!("{PROGRAM} switch --confirm 120")
        );
    }

    #[test]
    fn a_fresh_connection_shares_nothing_whatever_the_user_says() {
        let options = ["-o", "ControlPath=/tmp/x", "-i", "key"].map(str::to_owned);
        let ssh = Ssh::new(options.to_vec()).unwrap();
        let to: Destination = "root@web1:2222".parse().unwrap();
        let words = |connection| -> Vec<String> {
            let command = ssh.command(&to, connection, &["sh", "-s"]);
            command.get_args().map(|word| word.to_string_lossy().into_owned()).collect()
        };
        let fresh = words(Connection::Fresh).join(" ");
        assert!(
            fresh.starts_with("-o ControlMaster=no -o ControlPath=none -o ControlPath=/tmp/x -i key -T"),
            "{fresh}"
        );
        assert!(fresh.ends_with("-S none -p 2222 -l root -- web1 sh -s"), "{fresh}");
        let any = words(Connection::Any).join(" ");
        assert!(!any.contains("none") && any.contains("-o ControlMaster=auto"), "{any}");
    }

    #[test]
    fn a_connection_of_the_operators_own_is_not_ended() {
        let ssh = Ssh::new(["-S", "/tmp/theirs"].map(str::to_owned).to_vec()).unwrap();
        let to: Destination = "root@web1".parse().unwrap();
        let command = ssh.farewell(&to);
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        // The last `-S` counts (ssh.c).
        let last = words.iter().rposition(|word| word == "-S").unwrap();
        assert_eq!(words[last + 1], ssh.socket());
        assert_eq!(words[last + 2..], ["-O", "exit", "-l", "root", "--", "web1"]);
    }
}
