//! `clutch access`: access files for drivers.

use std::io::Write;
use std::path::Path;

use clutch_access::{Access, AccessError, AccessFile, Address, Identity, Role, StoredFile};

use super::AccessArguments;
use crate::agent::credentials::{read, read_token, secret};

pub(super) fn write(arguments: &AccessArguments) -> Result<(), AccessError> {
    let mut file = match (&arguments.for_drivers, &arguments.token_file) {
        (Some(path), _) => StoredFile::at(path).read()?.for_drivers(),
        (None, Some(token)) => compose(arguments, token)?,
        // The command line is refused without either.
        (None, None) => return Err(AccessError::Missing("no token")),
    };
    if !arguments.agent.is_empty() {
        file.agents = addresses(&arguments.agent)?;
    }
    // Better now than at the first call.
    Access::new(&file, Role::Driver)?;
    if let Some(path) = &arguments.output {
        return StoredFile::at(path).create(&file);
    }
    let text = file.text();
    let written = std::io::stdout().write_all(text.as_bytes());
    written.map_err(|source| AccessError::File {
        doing: "write",
        path: "standard output".into(),
        source,
    })
}

fn compose(arguments: &AccessArguments, token: &Path) -> Result<AccessFile, AccessError> {
    let mut file = AccessFile::of_token(read_token(token)?);
    if let (Some(authority), Some(certificate), Some(key)) =
        (&arguments.tls_authority, &arguments.tls_certificate, &arguments.tls_key)
    {
        file.authority = Some(read(authority)?);
        file.driver = Some(Identity { certificate: read(certificate)?, key: secret(key)? });
    }
    Ok(file)
}

fn addresses(given: &[String]) -> Result<Vec<String>, AccessError> {
    for address in given {
        Address::parse(address).map_err(|error| AccessError::Unusable {
            what: "an agent's address",
            why: error.to_string(),
        })?;
    }
    Ok(given.to_vec())
}
