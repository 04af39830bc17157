//! A client that says exactly what it is told to, over the TLS that it is told to speak.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    SupportedProtocolVersion,
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// A connection to the door.
pub(crate) struct Client {
    stream: StreamOwned<ClientConnection, TcpStream>,
    host: String,
    rest: Vec<u8>,
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// How to connect.
pub(crate) struct Way<'a> {
    /// The address to connect to, which is also the one that one comes from.
    pub(crate) address: &'a str,
    /// The name to ask for.
    pub(crate) name: &'a str,
    pub(crate) versions: &'a [&'static SupportedProtocolVersion],
    /// What is said before TLS begins.
    pub(crate) before: &'a [u8],
    /// Whether HTTP/2 is spoken.
    pub(crate) two: bool,
}

impl<'a> Way<'a> {
    pub(crate) fn new(address: &'a str, name: &'a str) -> Self {
        Self { address, name, versions: rustls::ALL_VERSIONS, before: b"", two: false }
    }

    /// Connects and shakes hands.
    pub(crate) fn connect(&self) -> Result<Client, String> {
        let fail = |error: std::io::Error| error.to_string();
        let mut tcp = open(self.address, 443)?;
        tcp.write_all(self.before).map_err(fail)?;
        let provider = Arc::new(ring::default_provider());
        let verifier = Arc::new(Anybody(provider.clone()));
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![if self.two { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let name = ServerName::try_from(self.name.to_owned()).unwrap();
        let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut tcp).map_err(fail)?;
        }
        let stream = StreamOwned::new(connection, tcp);
        Ok(Client { stream, host: self.name.to_owned(), rest: Vec::new() })
    }
}

/// A plain connection.
pub(crate) fn open(address: &str, port: u16) -> Result<TcpStream, String> {
    let address = address.parse::<std::net::IpAddr>().unwrap();
    let tcp = TcpStream::connect((address, port)).map_err(|error| error.to_string())?;
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    tcp.set_nodelay(true).unwrap();
    Ok(tcp)
}

impl Client {
    pub(crate) fn connect(address: &str, name: &str) -> Result<Self, String> {
        Way::new(address, name).connect()
    }

    /// Asks for a path of the host name that the connection was made for.
    pub(crate) fn get(&mut self, path: &str) -> Result<Answer, String> {
        let host = self.host.clone();
        self.get_from(&host, path)
    }

    /// Asks for a path of another host name over this connection.
    pub(crate) fn get_from(&mut self, host: &str, path: &str) -> Result<Answer, String> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())?;
        self.answer()
    }

    /// Says these bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).and_then(|()| self.stream.flush()).map_err(|error| error.to_string())
    }

    /// How long it waits for something to come.
    pub(crate) fn patience(&mut self, limit: Duration) {
        self.stream.sock.set_read_timeout(Some(limit)).unwrap();
    }

    /// The certificate that was shown, in DER.
    pub(crate) fn certificate(&self) -> Vec<u8> {
        self.stream.conn.peer_certificates().unwrap()[0].to_vec()
    }

    /// Everything that comes until nothing comes for a while.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let (mut all, mut some) = (Vec::new(), [0; 16384]);
        while let Ok(length @ 1..) = self.stream.read(&mut some) {
            all.extend_from_slice(&some[..length]);
        }
        all
    }

    /// The next answer.
    pub(crate) fn answer(&mut self) -> Result<Answer, String> {
        read_answer(&mut self.stream, &mut self.rest)
    }
}

/// Reads one answer; what comes after it stays in `rest`.
pub(crate) fn read_answer(stream: &mut dyn Read, rest: &mut Vec<u8>) -> Result<Answer, String> {
    let mut more = |rest: &mut Vec<u8>| {
        let mut some = [0; 16384];
        match stream.read(&mut some) {
            Ok(0) => Err(format!("closed after {:?}", String::from_utf8_lossy(rest))),
            Ok(length) => {
                rest.extend_from_slice(&some[..length]);
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    };
    let (length, status, headers) = loop {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut fields);
        if let httparse::Status::Complete(length) = head.parse(rest).map_err(|error| error.to_string())? {
            let text = |header: &httparse::Header<'_>| {
                (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned())
            };
            break (length, head.code.unwrap(), head.headers.iter().map(text).collect::<Vec<_>>());
        }
        more(rest)?;
    };
    rest.drain(..length);
    let mut answer = Answer { status, headers, body: String::new() };
    if status == 100 {
        return Ok(answer);
    }
    let length = answer.header("content-length").map(|text| text.parse::<usize>().unwrap());
    let body = if let Some(length) = length {
        while rest.len() < length {
            more(rest)?;
        }
        rest.drain(..length).collect::<Vec<_>>()
    } else {
        while more(rest).is_ok() {}
        std::mem::take(rest)
    };
    answer.body = String::from_utf8_lossy(&body).into_owned();
    Ok(answer)
}

/// Believes every certificate.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
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
