//! TLS by rustls: server certificates and client trust; TLS 1.2 or newer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio_rustls::TlsAcceptor;

use super::wire::Stream;

/// How long a client may take for its handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Where operating systems keep the certificates that they trust; the first that exists counts.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// TLS of a listener.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// PEM file with the certificate chain.
    pub cert: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
    /// PEM file with certificate authorities. If set, clients must present a certificate signed by one of them.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
}

/// TLS towards a target: what is trusted, and what is shown.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Trust {
    /// PEM file with certificate authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// PEM file with the client certificate, if the server asks for one.
    pub cert: Option<PathBuf>,
    /// PEM file with the client's private key.
    pub key: Option<PathBuf>,
    /// Name to expect in the server's certificate, if it is not the host name.
    pub server_name: Option<String>,
    /// Whether the server's certificate is verified.
    pub verify: bool,
}

impl Default for Trust {
    fn default() -> Trust {
        Trust { ca: None, cert: None, key: None, server_name: None, verify: true }
    }
}

impl Config {
    /// The files that it names.
    pub fn files(&self) -> Vec<PathBuf> {
        [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()].into_iter().flatten().cloned().collect()
    }
}

impl Trust {
    /// The files that it names.
    pub fn files(&self) -> Vec<PathBuf> {
        [&self.ca, &self.cert, &self.key].into_iter().flatten().cloned().collect()
    }

    /// The file with the authorities that are trusted: the one named, else the operating system's. The error is for the
    /// operator.
    pub fn authorities(&self) -> Result<&Path, String> {
        let system = || SYSTEM_ROOTS.iter().map(Path::new).find(|path| path.exists());
        let found = self.ca.as_deref().or_else(system);
        found.ok_or_else(|| "this machine has no certificate authorities: set `tls.ca`".into())
    }
}

/// Reads the files of a listener's configuration. The error is for the operator.
pub fn server(config: &Config) -> Result<Arc<ServerConfig>, String> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("cannot set up TLS: {error}"))?;
    let builder = match &config.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(path)?), provider()).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| unusable(path, &error))?)
        }
    };
    let (key, chain) = match (private_key(&config.key), certificates(&config.cert)) {
        (Ok(key), Ok(chain)) => (key, chain),
        (key, chain) => return Err([chain.err(), key.err()].into_iter().flatten().collect::<Vec<_>>().join("; ")),
    };
    let mut server = builder
        .with_single_cert(chain, key)
        .map_err(|error| format!("`{}` and `{}` do not match: {error}", config.cert.display(), config.key.display()))?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(server))
}

/// Reads the files of a client's configuration; without a `ca`, the operating system's authorities are trusted. The
/// error is for the operator.
pub fn client(trust: &Trust) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("cannot set up TLS: {error}"))?;
    let builder = if trust.verify {
        builder.with_root_certificates(roots(trust.authorities()?)?)
    } else {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier { belief: Belief::Any, provider: provider() }))
    };
    match (&trust.cert, &trust.key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(cert), Some(key)) => {
            let private = private_key(key)?;
            builder
                .with_client_auth_cert(certificates(cert)?, private)
                .map_err(|error| format!("`{}` and `{}` do not match: {error}", cert.display(), key.display()))
        }
        _ => Err("set both `tls.cert` and `tls.key`, or neither".into()),
    }
}

/// A client that believes the first certificate of a file and no other, whatever name and authority are in it. The
/// error is for the operator.
pub fn client_of(cert: &Path) -> Result<ClientConfig, String> {
    believing(Belief::Itself(first_certificate(cert)?))
}

/// A client that believes what the authorities of a file have signed for the host's name, and the first certificate of
/// the file itself. The error is for the operator.
pub fn client_trusting(ca: &Path) -> Result<ClientConfig, String> {
    let authority = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(ca)?), provider()).build();
    let authority = authority.map_err(|error| unusable(ca, &error))?;
    believing(Belief::Signed(authority, first_certificate(ca)?))
}

fn believing(belief: Belief) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("cannot set up TLS: {error}"))?;
    let verifier = Arc::new(Verifier { belief, provider: provider() });
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

fn first_certificate(path: &Path) -> Result<CertificateDer<'static>, String> {
    certificates(path)?.into_iter().next().ok_or_else(|| format!("no certificate in `{}`", path.display()))
}

/// Shakes hands on an accepted connection, within [`HANDSHAKE_TIMEOUT`].
pub async fn accept(config: &Arc<ServerConfig>, stream: Stream) -> Result<Stream, String> {
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config.clone()).accept(stream)).await {
        Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream))),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the handshake took too long".into()),
    }
}

/// Which certificates of a server are believed; the handshake's own signature is checked whatever they are.
#[derive(Debug)]
enum Belief {
    /// For `verify: false`.
    Any,
    /// This one and no other, whatever name and authority are in it.
    Itself(CertificateDer<'static>),
    /// What an authority has signed for the host's name, and this one itself.
    Signed(Arc<WebPkiServerVerifier>, CertificateDer<'static>),
}

#[derive(Debug)]
struct Verifier {
    belief: Belief,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.belief {
            Belief::Itself(expected) if expected != end_entity => Err(CertificateError::UnknownIssuer.into()),
            Belief::Signed(authority, expected) if expected != end_entity => {
                authority.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            Belief::Any | Belief::Itself(_) | Belief::Signed(..) => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    // System bundles hold certificates that are no authorities by today's rules; those are left out.
    let (added, _) = store.add_parsable_certificates(certificates(path)?);
    if added == 0 {
        return Err(format!("no CA certificate in `{}`", path.display()));
    }
    Ok(store)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let parsed = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = parsed.map_err(|error| unusable(path, &error))?;
    if certificates.is_empty() {
        return Err(format!("no certificate in `{}`", path.display()));
    }
    Ok(certificates)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let text = std::fs::read(path).map_err(|error| unusable(path, &error))?;
    let is_encrypted = [&b"ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"]
        .iter()
        .any(|mark| memchr::memmem::find(&text, mark).is_some());
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match is_encrypted {
        true => {
            let path = path.display();
            format!("the key in `{path}` is encrypted: decrypt it with `openssl pkey -in {path} -out FILE`")
        }
        false => unusable(path, &error),
    })
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("cannot use `{}`: {error}", path.display())
}
