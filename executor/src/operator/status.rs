//! `clutch status`: what agents do now, as tables.

use clutch_protocol::v1;

use super::reach::{Agents, ReachError, answered};
use super::table::{row, table};
use super::{Which, because, plain, say};
use crate::exit_code::Ending;

pub(super) async fn status(which: &Which) -> Result<Ending, ReachError> {
    let agents = Agents::of(which)?;
    let mut table_of_agents = vec![row([
        &"agent",
        &"host",
        &"state",
        &"slots",
        &"sessions",
        &"waiting",
        &"running",
        &"workers",
        &"busy",
        &"blobs (MiB)",
    ])];
    let mut table_of_sessions =
        vec![row([&"session", &"agent", &"state", &"weight", &"waiting", &"running"])];
    let mut ending = Ending::Done;
    for address in &agents.addresses {
        let told = async {
            let mut client = agents.connect(address).await?;
            let request = v1::GetStatusRequest::default();
            let response = client.get_status(request).await.map_err(answered(address))?;
            Ok::<_, ReachError>(response.into_inner())
        };
        match told.await {
            Ok(status) => {
                table_of_agents.push(agent(&address.to_string(), &status));
                let sessions = status.sessions.iter();
                table_of_sessions.extend(sessions.map(|s| session(&address.to_string(), s)));
            }
            Err(error) => {
                table_of_agents.push(row([address, &"-", &because(&error)]));
                ending = error.ending();
            }
        }
    }
    say(&table(&table_of_agents));
    if table_of_sessions.len() > 1 {
        say("");
        say(&table(&table_of_sessions));
    }
    Ok(ending)
}

fn agent(address: &str, status: &v1::GetStatusResponse) -> Vec<String> {
    let sum = |count: fn(&v1::SessionStatus) -> u32| {
        status.sessions.iter().map(|session| u64::from(count(session))).sum::<u64>()
    };
    let blobs = status.blobs.as_ref().map_or(0, |blobs| blobs.memory_bytes + blobs.spilled_bytes);
    row([
        &address,
        &plain(&status.host),
        &if status.draining { "draining" } else { "serving" },
        &status.slots,
        &status.sessions.len(),
        &sum(|session| session.waiting),
        &sum(|session| session.running),
        &status.workers.len(),
        &status.workers.iter().filter(|worker| worker.busy).count(),
        &(blobs >> 20),
    ])
}

fn session(address: &str, session: &v1::SessionStatus) -> Vec<String> {
    row([
        &plain(&session.name),
        &address,
        &if session.attached { "attached" } else { "silent" },
        &session.weight,
        &session.waiting,
        &session.running,
    ])
}
