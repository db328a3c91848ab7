//! A certificate authority that signs twice and is forgotten.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

use crate::file::Identity;
use crate::{AccessError, SERVER_NAME, SecretText};

/// How long certificates are valid: a cluster's life, and no more.
const VALIDITY: Duration = Duration::days(5 * 365);

/// Clocks differ: certificates begin this long before they are made.
const BACKDATED: Duration = Duration::days(1);

/// Certificates of one authority.
pub(crate) struct Signed {
    pub(crate) authority: String,
    pub(crate) agent: Identity,
    pub(crate) driver: Identity,
}

impl Signed {
    /// Makes all of it. The authority's key is dropped at the end.
    pub(crate) fn new() -> Result<Self, AccessError> {
        make().map_err(|error| AccessError::unusable("a new certificate", error))
    }
}

fn make() -> Result<Signed, rcgen::Error> {
    let mut params = parameters("clutch authority", Vec::new())?;
    // It signs for ends, never for other authorities.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate()?;
    let authority = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);
    let (server, client) =
        (ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth);
    Ok(Signed {
        authority,
        agent: sign(&issuer, SERVER_NAME, vec![server, client.clone()])?,
        driver: sign(&issuer, "driver.clutch.internal", vec![client])?,
    })
}

fn sign(
    issuer: &Issuer<'_, KeyPair>,
    name: &str,
    uses: Vec<ExtendedKeyUsagePurpose>,
) -> Result<Identity, rcgen::Error> {
    let mut params = parameters(name, vec![name.to_owned()])?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = uses;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?.pem();
    Ok(Identity { certificate, key: SecretText::new(key.serialize_pem()) })
}

fn parameters(name: &str, names: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, name);
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BACKDATED;
    params.not_after = now + VALIDITY;
    Ok(params)
}
