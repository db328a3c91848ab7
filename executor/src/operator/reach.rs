//! The way from a command line to agents.

use clutch_access::{
    Access, AccessError, Address, AddressError, Channel, ConnectError, Keepalive, KeepaliveError,
    Role, StoredFile, connect,
};
use clutch_protocol::MAX_MESSAGE_BYTES;
use clutch_protocol::v1::executor_client::ExecutorClient;
use tonic::Status;

use super::Which;
use crate::exit_code::Ending;

/// Answers are short.
const WINDOW_BYTES: u32 = 1 << 20;

/// Why an agent could not be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReachError {
    #[error("name the agents: `--access-file FILE`, or `--address unix:...`")]
    Nobody,
    #[error("the access file names no agent")]
    Empty,
    #[error(
        "the access file names {0} agents: say which one by `--agent HOST:PORT`, or give `--all`"
    )]
    Several(usize),
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Keepalive(#[from] KeepaliveError),
    #[error("cannot reach the agent at {address}")]
    Connect {
        address: String,
        #[source]
        source: Box<ConnectError>,
    },
    #[error("the agent at {address} answered {:?}: {}", status.code(), status.message())]
    Answer { address: String, status: Box<Status> },
}

impl ReachError {
    pub(super) const fn ending(&self) -> Ending {
        match self {
            Self::Nobody | Self::Several(_) | Self::Address(_) => Ending::Usage,
            Self::Empty | Self::Access(_) | Self::Keepalive(_) => Ending::Settings,
            Self::Connect { .. } | Self::Answer { .. } => Ending::Listen,
        }
    }
}

/// Agents, and what they ask for.
pub(super) struct Agents {
    pub(super) addresses: Vec<Address>,
    access: Option<Access>,
    keepalive: Keepalive,
}

pub(super) type Client = ExecutorClient<Channel>;

impl Agents {
    /// Those that are meant; at least one.
    pub(super) fn of(which: &Which) -> Result<Self, ReachError> {
        let keepalive = Keepalive::from_environment()?;
        if let Some(address) = &which.address {
            let address = Address::parse(address)?;
            if address.unix().is_some() {
                return Ok(Self { addresses: vec![address], access: None, keepalive });
            }
        }
        let path = which.access_file.as_ref().ok_or(ReachError::Nobody)?;
        let file = StoredFile::at(path).read()?;
        let given: Vec<_> = which.agent.iter().chain(&which.address).collect();
        let named = if given.is_empty() { file.agents.iter().collect() } else { given };
        let addresses = named.into_iter().map(|text| Address::parse(text));
        let addresses = addresses.collect::<Result<Vec<_>, _>>()?;
        if addresses.is_empty() {
            return Err(ReachError::Empty);
        }
        let access = Some(Access::new(&file, Role::Driver)?);
        Ok(Self { addresses, access, keepalive })
    }

    pub(super) async fn connect(&self, address: &Address) -> Result<Client, ReachError> {
        let channel = connect(address, self.access.as_ref(), self.keepalive, WINDOW_BYTES).await;
        let channel = channel.map_err(|error| ReachError::Connect {
            address: address.to_string(),
            source: Box::new(error),
        })?;
        Ok(ExecutorClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES))
    }
}

/// An agent's refusal in words.
pub(super) fn answered(address: &Address) -> impl FnOnce(Status) -> ReachError {
    let address = address.to_string();
    move |status| ReachError::Answer { address, status: Box::new(status) }
}
