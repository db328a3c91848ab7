//! An agent's credentials, and its place in the access file.

use clutch_access::{Access, AccessError, AccessFile, Identity, Role, ServerAccess, StoredFile};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use super::credentials::{read, read_token, secret};
use crate::error_chain::chain;
use crate::machine::host_name;
use crate::service::BoundListener;
use crate::settings::Credentials;

/// What an agent on TCP has to show and to ask for.
#[derive(Debug)]
pub(super) struct AgentAccess {
    pub(super) server: ServerAccess,
    /// For calling other agents of the same cluster.
    pub(super) client: Access,
    /// Where to say how others reach this agent.
    file: Option<(StoredFile, Option<(String, u16)>)>,
}

/// Reads the credentials, or makes them; `None`: the kernel tells who calls.
///
/// # Errors
/// When they are not there, not complete, or others could have read them.
pub(super) fn prepare(credentials: &Credentials) -> Result<Option<AgentAccess>, AccessError> {
    let (contents, file) = match credentials {
        Credentials::Peer => return Ok(None),
        Credentials::AccessFile { path, advertise } => {
            hide();
            let stored = StoredFile::at(path);
            let (contents, made) = stored.read_or_generate()?;
            if made {
                tracing::info!(path = %path.display(), "made an access file");
            }
            (contents, Some((stored, advertise.clone())))
        }
        Credentials::Own { certificate, key, authority, token } => {
            hide();
            let mut contents = AccessFile::of_token(read_token(token)?);
            contents.authority = Some(read(authority)?);
            contents.agent = Some(Identity { certificate: read(certificate)?, key: secret(key)? });
            (contents, None)
        }
        Credentials::Token(token) => {
            hide();
            (AccessFile::of_token(read_token(token)?), None)
        }
    };
    Ok(Some(AgentAccess {
        server: ServerAccess::new(&contents)?,
        client: Access::new(&contents, Role::Agent)?,
        file,
    }))
}

/// Keeps secrets out of core files, and out of the hands of other processes of the
/// same user: nobody may attach to this one.
fn hide() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "processes of the same user may look into this one");
    }
}

impl AgentAccess {
    /// Writes into the access file how others reach this agent. A file that cannot
    /// be written serves all the same.
    pub(super) fn advertise(&self, listener: &BoundListener) -> Option<Advertised> {
        let (file, advertise) = self.file.as_ref()?;
        let address = reachable(listener, advertise.as_ref())?;
        let own = address.clone();
        let added = file.update(|contents| {
            if !contents.agents.contains(&own) {
                contents.agents.push(own);
            }
        });
        match added {
            Ok(()) => Some(Advertised { file: file.clone(), address, written: true }),
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(error, address, "the access file does not name this agent");
                Some(Advertised { file: file.clone(), address, written: false })
            }
        }
    }
}

fn reachable(listener: &BoundListener, advertise: Option<&(String, u16)>) -> Option<String> {
    let port = listener.port()?;
    if let Some((host, wanted)) = advertise {
        return Some(format!("{host}:{}", if *wanted == 0 { port } else { *wanted }));
    }
    let bound: std::net::SocketAddr = listener.address.parse().ok()?;
    if bound.ip().is_unspecified() {
        return Some(format!("{}:{port}", host_name()));
    }
    Some(listener.address.clone())
}

/// This agent's line in the access file, until it is dropped.
#[derive(Debug)]
pub(super) struct Advertised {
    file: StoredFile,
    address: String,
    written: bool,
}

impl Advertised {
    pub(super) const fn address(&self) -> &String {
        &self.address
    }
}

impl Drop for Advertised {
    fn drop(&mut self) {
        if !self.written {
            return;
        }
        let gone = self.file.update(|contents| contents.agents.retain(|a| *a != self.address));
        if let Err(error) = gone {
            let error = chain(&error);
            tracing::warn!(error, address = self.address, "the access file still names this agent");
        }
    }
}
