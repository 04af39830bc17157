//! The public listener on 443 as a client meets it, asked on this machine's own loopback.
//!
//! Who the certificate is from is not asked: the placeholder is signed by nobody, and what answers on loopback is this
//! machine. That whoever answers holds the certificate's key is checked, as in every handshake.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

const LIMIT: Duration = Duration::from_secs(5);
/// Where the public is served.
pub(super) const PUBLIC: ([u8; 4], u16) = ([127, 0, 0, 1], 443);

/// A client that trusts whoever holds the key of the certificate that is shown.
#[derive(Debug, Clone)]
pub(super) struct Tls(Arc<ClientConfig>);

/// A connection whose handshake is done.
pub(super) type Connection = StreamOwned<ClientConnection, TcpStream>;

impl Tls {
    pub(super) fn new() -> Self {
        let provider = Arc::new(ring::default_provider());
        let verifier = Arc::new(AnyIssuer(provider.clone()));
        let builder = ClientConfig::builder_with_provider(provider);
        // These versions are what `ring` has ciphers for, so they cannot be refused; and this is the only error.
        let builder =
            builder.with_safe_default_protocol_versions().unwrap_or_else(|error| unreachable!("{error}"));
        let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        // Every handshake is to show what serves now, not what did when a session began.
        config.resumption = rustls::client::Resumption::disabled();
        Self(Arc::new(config))
    }

    /// Connects and shakes hands as a client of `domain` would.
    pub(super) fn connect(&self, address: SocketAddr, domain: &str) -> Result<Connection, String> {
        let fail = |error: std::io::Error| format!("no answer from {address}: {error}");
        let name = ServerName::try_from(domain.to_owned())
            .map_err(|_| format!("`{domain}` is not a name that can be asked for"))?;
        let mut stream = TcpStream::connect_timeout(&address, LIMIT).map_err(fail)?;
        stream.set_read_timeout(Some(LIMIT)).map_err(fail)?;
        stream.set_write_timeout(Some(LIMIT)).map_err(fail)?;
        stream.set_nodelay(true).map_err(fail)?;
        let mut client = ClientConnection::new(self.0.clone(), name)
            .map_err(|error| format!("no TLS with {address}: {error}"))?;
        let end = Instant::now() + LIMIT;
        while client.is_handshaking() {
            if Instant::now() >= end {
                return Err(format!("no TLS with {address}: no handshake within {} s", LIMIT.as_secs()));
            }
            client.complete_io(&mut stream).map_err(|error| format!("no TLS with {address}: {error}"))?;
        }
        Ok(StreamOwned::new(client, stream))
    }

    /// The certificate that `address` shows to a client of `domain`, in DER.
    pub(super) fn certificate(&self, address: SocketAddr, domain: &str) -> Result<Vec<u8>, String> {
        let connection = self.connect(address, domain)?;
        let shown = connection.conn.peer_certificates().and_then(<[_]>::first);
        shown.map(|der| der.to_vec()).ok_or_else(|| format!("{address} shows no certificate"))
    }
}

/// Accepts every certificate, and no handshake that its key did not sign.
#[derive(Debug)]
struct AnyIssuer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyIssuer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::{ServerConfig, ServerConnection};

    use super::*;
    use crate::host::http;
    use crate::model::Digest;

    /// A server that shakes one hand and answers one request with `answer`; gives its address and its certificate.
    fn serve(answer: &'static str) -> (SocketAddr, Vec<u8>, std::thread::JoinHandle<()>) {
        let made = rcgen::generate_simple_self_signed(["bot.example.com".to_owned()]).unwrap();
        let der = made.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![der.clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let server = ServerConnection::new(Arc::new(config)).unwrap();
            let mut stream = StreamOwned::new(server, stream);
            let mut request = [0; 4096];
            // Whoever only wants to see the certificate goes away here.
            if matches!(stream.read(&mut request), Ok(read) if read > 0) {
                stream.write_all(answer.as_bytes()).unwrap();
                stream.flush().unwrap();
            }
        });
        (address, der.to_vec(), thread)
    }

    #[test]
    fn a_certificate_that_nobody_signed_is_shown_and_a_request_goes_through() {
        let (address, der, thread) = serve("");
        assert_eq!(Tls::new().certificate(address, "bot.example.com").unwrap(), der);
        thread.join().unwrap();
        let (address, _, thread) =
            serve("HTTP/1.1 200 OK\r\nX-Bundle-Slot: blue\r\nContent-Length: 0\r\n\r\n");
        let stream = Tls::new().connect(address, "bot.example.com").unwrap();
        let answer = http::ask(stream, &address, "/", "bot.example.com").unwrap();
        assert_eq!(answer.header("x-bundle-slot"), Some("blue"));
        assert_eq!(answer.ready(None, &Digest::of(b"")), Ok(()));
        thread.join().unwrap();
    }

    #[test]
    fn what_speaks_no_tls_is_an_error_in_words() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"SSH-2.0-OpenSSH\r\n").unwrap();
        });
        let why = Tls::new().connect(address, "bot.example.com").unwrap_err();
        assert!(why.starts_with("no TLS with 127.0.0.1:"), "{why}");
        thread.join().unwrap();
        let closed = Tls::new().connect(address, "bot.example.com").unwrap_err();
        assert!(closed.starts_with("no answer from"), "{closed}");
    }
}
