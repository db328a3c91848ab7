//! `clutch drain`: empties an agent without losing work, and waits until it has
//! ended.

use std::io;
use std::time::Duration;

use clutch_access::{Address, ConnectError};
use clutch_protocol::v1;

use super::reach::{Agents, ReachError, answered};
use super::{Which, say};
use crate::cli::complain;
use crate::exit_code::Ending;

/// How often one looks whether it is done.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

pub(super) async fn drain(which: &Which, all: bool) -> Result<Ending, ReachError> {
    let agents = Agents::of(which)?;
    let count = agents.addresses.len();
    if count > 1 && !all {
        return Err(ReachError::Several(count));
    }
    let mut ending = Ending::Done;
    for address in &agents.addresses {
        match drain_one(&agents, address).await {
            // One that is gone is no reason to keep the others.
            Err(error) if all => {
                complain(&error);
                ending = Ending::Listen;
            }
            drained => drained?,
        }
    }
    Ok(ending)
}

async fn drain_one(agents: &Agents, address: &Address) -> Result<(), ReachError> {
    let mut client = agents.connect(address).await?;
    let drained = client.drain(v1::DrainRequest::default()).await.map_err(answered(address))?;
    let mut last = u64::from(drained.into_inner().open_batches);
    say(&format!("{address}: drains, {last} batches to go"));
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        let Ok(status) = client.get_status(v1::GetStatusRequest::default()).await else { break };
        let sessions = status.into_inner().sessions;
        let open = sessions.iter().map(|s| u64::from(s.waiting) + u64::from(s.running)).sum();
        if open != last {
            last = open;
            say(&format!("{address}: {last} batches to go"));
        }
    }
    // It closed the connection, or the network did.
    loop {
        match agents.connect(address).await {
            Err(ReachError::Connect { source, .. }) if is_gone(&source) => {
                say(&format!("{address}: has ended"));
                return Ok(());
            }
            Err(error) => return Err(error),
            Ok(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

/// Nobody listens there any more, as its machine says, or its socket file is gone.
fn is_gone(error: &ConnectError) -> bool {
    let ConnectError::Unreachable(error) = error else { return false };
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::UnexpectedEof
    )
}
