//! TLS on both sides: version 1.3 alone, and a certificate from each.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::{AccessError, Identity};

/// What is spoken below TLS.
const PROTOCOLS: [&[u8]; 1] = [b"h2"];

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// For who connects.
pub(crate) fn client(authority: &str, own: &Identity) -> Result<ClientConfig, AccessError> {
    let failed = |error: &dyn std::error::Error| AccessError::unusable("the certificate", error);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(authority)?, provider())
        .build()
        .map_err(|error| AccessError::unusable("the authority", error))?;
    let (chain, key) = identity(own)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| failed(&error))?
        .with_webpki_verifier(verifier)
        .with_client_auth_cert(chain, key)
        .map_err(|error| failed(&error))?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    // Nothing of a session is kept: connections are few and long.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// For who is connected to. Whoever has no certificate of the authority is
/// refused before a byte of HTTP is read.
pub(crate) fn server(authority: &str, own: &Identity) -> Result<ServerConfig, AccessError> {
    let failed = |error: &dyn std::error::Error| AccessError::unusable("the certificate", error);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(authority)?, provider())
        .build()
        .map_err(|error| AccessError::unusable("the authority", error))?;
    let (chain, key) = identity(own)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| failed(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| failed(&error))?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn roots(authority: &str) -> Result<Arc<RootCertStore>, AccessError> {
    let failed = |error: &dyn std::error::Error| AccessError::unusable("the authority", error);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        let certificate = certificate.map_err(|error| failed(&error))?;
        roots.add(certificate).map_err(|error| failed(&error))?;
    }
    if roots.is_empty() {
        return Err(AccessError::unusable("the authority", "there is no certificate in it"));
    }
    Ok(Arc::new(roots))
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(own: &Identity) -> Result<Pair, AccessError> {
    let chain = CertificateDer::pem_slice_iter(own.certificate.as_bytes());
    let chain = chain
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| AccessError::unusable("the certificate", error))?;
    if chain.is_empty() {
        return Err(AccessError::unusable("the certificate", "there is none in it"));
    }
    // What is wrong with it could tell of it.
    let key = PrivateKeyDer::from_pem_slice(own.key.expose().as_bytes());
    let key = key.map_err(|_| AccessError::unusable("the private key", "it is not in PEM"))?;
    Ok((chain, key))
}
