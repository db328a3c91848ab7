//! From built to ended.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::build::Built;
use super::lifeline::Lifeline;
use super::ready;
use crate::blobs::Store;
use crate::dispatch::{DispatchHandle, DispatchOptions, Dispatcher};
use crate::exit_code::Ending;
use crate::machine::host_name;
use crate::pool::{Reaper, Zygote};
use crate::service::{
    AgentIdentity, ClusterRoads, Entry, Environments, ExecutorService, GrpcPeers, Library,
    serve_grpc,
};

/// How long workers get to leave at the end.
const LEAVE: Duration = Duration::from_secs(3);

/// How often cached content is looked through.
const SHORTEST_SWEEP: Duration = Duration::from_millis(50);
const LONGEST_SWEEP: Duration = Duration::from_secs(30);

/// How long drivers get to take their last outcomes.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves until it is asked to stop, and then drains.
pub(super) async fn serve(mut built: Built) -> io::Result<Ending> {
    let mut signals = Signals::new()?;
    let lifeline = built.lifeline.take();
    let reaper = Reaper::start()?;
    let zygotes = built
        .environments
        .iter()
        .map(|environment| Zygote::start(environment.clone(), built.zygote.clone(), reaper.clone()))
        .collect::<io::Result<Vec<_>>>()?;
    let access = built.access.as_ref();
    let roads = ClusterRoads {
        access: access.map(|access| access.client.clone()),
        keepalive: built.settings.network.connections.keepalive,
    };
    let peers = Arc::new(GrpcPeers::new(Box::new(roads)));
    let blobs = Store::with_peers(built.settings.blobs.clone(), peers);
    tokio::spawn(expire(blobs.clone(), built.settings.blob_keep));
    let dispatch = Dispatcher::start(DispatchOptions {
        scheduler: built.settings.scheduler,
        pool: built.settings.pool.clone(),
        session: built.settings.session,
        limits: built.settings.limits.clone(),
        zygotes: zygotes.clone(),
        reaper,
        blobs: blobs.clone(),
        enforcer: built.enforcer.clone(),
    });
    let served = built.environments.iter().cloned().zip(zygotes).collect();
    let service = ExecutorService {
        dispatch: dispatch.clone(),
        environments: Environments::new(served),
        identity: identity(&built),
        options: built.settings.session,
        blobs,
        enforcement: built.enforcer.enforcement().clone(),
        library: Library::new(),
    };
    let (stop, stopped) = oneshot::channel();
    // On a task of its own it goes on while the agent drains, and whoever asks
    // for a session then is told why there is none.
    let entry =
        Entry::new(access.map(|access| access.server.clone()), built.settings.network.connections);
    let connections = built.listener.serve(dispatch.clone(), entry.clone())?;
    let mut server = tokio::spawn(serve_grpc(service, connections, entry, stopped));
    // Whoever finds the address is served. It is taken back at the end.
    let advertised = access.and_then(|access| access.advertise(&built.listener));
    ready::tell(&built, advertised.as_ref())?;
    let ending = tokio::select! {
        served = &mut server => {
            served.map_err(io::Error::other)?.map_err(io::Error::other)?;
            return Ok(Ending::Internal);
        }
        () = parent_ended(lifeline) => {
            tracing::info!("the parent process has ended");
            Ending::Done
        }
        () = signals.next() => {
            drain(&dispatch, built.settings.drain.deadline, &mut signals).await
        }
    };
    if timeout(LEAVE, dispatch.end_sessions()).await.is_err() {
        tracing::warn!("workers remain; they die with this process");
    }
    // The server may be ending for a reason of its own.
    stop.send(()).ok();
    if timeout(FAREWELL, server).await.is_err() {
        tracing::debug!("a driver did not take its last outcomes");
    }
    Ok(ending)
}

/// Lets what runs finish, until the deadline or a second signal; then kills it,
/// and lets the outcomes that say so go home.
async fn drain(dispatch: &DispatchHandle, deadline: Duration, signals: &mut Signals) -> Ending {
    tracing::info!(?deadline, "draining");
    tokio::select! {
        drained = timeout(deadline, dispatch.drain()) => if drained.is_ok() {
            return Ending::Done;
        },
        () = signals.next() => {}
    }
    dispatch.stop_all().await;
    if timeout(LEAVE, dispatch.drain()).await.is_err() {
        tracing::warn!("a worker does not die");
    }
    Ending::Killed
}

/// Lets content go that nobody has used for long.
async fn expire(blobs: Store, age: Duration) {
    let mut ticks = tokio::time::interval((age / 8).clamp(SHORTEST_SWEEP, LONGEST_SWEEP));
    loop {
        ticks.tick().await;
        blobs.expire(age);
    }
}

async fn parent_ended(lifeline: Option<Lifeline>) {
    match lifeline {
        None => std::future::pending().await,
        Some(lifeline) => {
            if let Err(error) = lifeline.ended().await {
                tracing::error!(%error, "the parent cannot be watched any more");
            }
        }
    }
}

fn identity(built: &Built) -> AgentIdentity {
    AgentIdentity {
        host: host_name(),
        slots: u32::try_from(built.settings.scheduler.slots).unwrap_or(u32::MAX),
    }
}

/// The signals that ask an agent to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
