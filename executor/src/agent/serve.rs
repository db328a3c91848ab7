//! From built to ended.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::build::Built;
use super::lifeline::Lifeline;
use super::ready;
use crate::blobs::Store;
use crate::dispatch::{DispatchHandle, DispatchOptions, Dispatcher};
use crate::exit_code::Ending;
use crate::machine::host_name;
use crate::pool::{PythonEnvironment, Reaper, Zygote};
use crate::service::{
    AgentIdentity, ClusterRoads, Entry, Environments, ExecutorService, GrpcPeers, Library,
    Resumable, serve_grpc,
};

/// How long workers get to leave at the end.
const LEAVE: Duration = Duration::from_secs(3);

/// How often cached content is looked through.
const SHORTEST_SWEEP: Duration = Duration::from_millis(50);
const LONGEST_SWEEP: Duration = Duration::from_secs(30);

/// How long drivers whose connections broke get to come back for theirs.
const COME_BACK: Duration = Duration::from_secs(3);

/// How long drivers get to take their last outcomes from an agent in a hurry.
const FAREWELL: Duration = Duration::from_secs(1);

/// The same from one that is in none.
const LONG_FAREWELL: Duration = Duration::from_secs(60);

/// How long drivers that are there get to fetch results from it.
const FETCH: Duration = Duration::from_secs(600);

/// Serves until it is asked to stop, and then drains.
pub(super) async fn serve(mut built: Built) -> io::Result<Ending> {
    let mut signals = Signals::new()?;
    let lifeline = built.lifeline.take();
    let reaper = Reaper::start()?;
    let zygotes = start_zygotes(&built, &reaper)?;
    let blobs = open_store(&built);
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
    let resumable = Resumable::default();
    let (asked, mut drain_asked) = watch::channel(());
    let served = built.environments.iter().cloned().zip(zygotes).collect();
    let service = ExecutorService {
        dispatch: dispatch.clone(),
        environments: Environments::new(served),
        identity: identity(&built),
        options: built.settings.session,
        shares: built.settings.shares,
        blobs,
        enforcement: built.enforcer.enforcement().clone(),
        resumable: resumable.clone(),
        drain: asked,
        library: Library::new(),
    };
    let (stop, stopped) = oneshot::channel();
    // On a task of its own it goes on while the agent drains, and whoever asks
    // for a session then is told why there is none.
    let access = built.access.as_ref();
    let entry =
        Entry::new(access.map(|access| access.server.clone()), built.settings.network.connections);
    let connections = built.listener.serve(dispatch.clone(), entry.clone())?;
    let mut server = tokio::spawn(serve_grpc(service, connections, entry, stopped));
    // Whoever finds the address is served. It is taken back at the end.
    let advertised = access.and_then(|access| access.advertise(&built.listener));
    ready::tell(&built, advertised.as_ref())?;
    let deadline = built.settings.drain.deadline;
    let mut parent = std::pin::pin!(parent_ended(lifeline));
    let mut farewell = FAREWELL;
    let ending = tokio::select! {
        served = &mut server => {
            served.map_err(io::Error::other)?.map_err(io::Error::other)?;
            return Ok(Ending::Internal);
        }
        () = &mut parent => Ending::Done,
        () = signals.next() => drain(&dispatch, deadline, &mut signals).await,
        Ok(()) = drain_asked.changed() => tokio::select! {
            () = drain_patiently(&dispatch) => {
                farewell = LONG_FAREWELL;
                Ending::Done
            }
            () = &mut parent => Ending::Done,
            () = signals.next() => drain(&dispatch, deadline, &mut signals).await,
        },
    };
    if timeout(COME_BACK, resumable.settled()).await.is_err() {
        tracing::warn!("a driver that was away did not take its last outcomes");
    }
    if timeout(LEAVE, dispatch.end_sessions()).await.is_err() {
        tracing::warn!("workers remain; they die with this process");
    }
    // The server may be ending for a reason of its own.
    stop.send(()).ok();
    tokio::select! {
        _ = &mut server => {}
        () = sleep(farewell) => tracing::warn!("a driver did not take its last outcomes"),
        // Whoever does not want to wait need not.
        () = signals.next() => {}
    }
    Ok(ending)
}

fn start_zygotes(built: &Built, reaper: &Reaper) -> io::Result<Vec<Zygote>> {
    let start = |environment: &PythonEnvironment| {
        Zygote::start(environment.clone(), built.zygote.clone(), reaper.clone())
    };
    built.environments.iter().map(start).collect()
}

/// Opens the store, which also gets content from other agents, and forgets what was
/// kept for too long.
fn open_store(built: &Built) -> Store {
    let roads = ClusterRoads {
        access: built.access.as_ref().map(|access| access.client.clone()),
        keepalive: built.settings.network.connections.keepalive,
    };
    let peers = Arc::new(GrpcPeers::new(Box::new(roads)));
    let blobs = Store::with_peers(built.settings.blobs.clone(), peers);
    tokio::spawn(expire(blobs.clone(), built.settings.blob_keep));
    blobs
}

/// Lets what runs finish, however long it takes, and drivers take the outcomes.
async fn drain_patiently(dispatch: &DispatchHandle) {
    tracing::info!("draining, with no deadline");
    dispatch.quiet().await;
    if timeout(FETCH, dispatch.taken()).await.is_err() {
        tracing::warn!("a driver does not take its outcomes");
    }
}

/// Lets what runs finish, until the deadline or a second signal; then kills it,
/// and lets the outcomes that say so go home.
async fn drain(dispatch: &DispatchHandle, deadline: Duration, signals: &mut Signals) -> Ending {
    tracing::info!(?deadline, "draining");
    let deadline = Instant::now() + deadline;
    dispatch.drain().await;
    tokio::select! {
        drained = timeout_at(deadline, dispatch.quiet()) => if drained.is_ok() {
            tokio::select! {
                _ = timeout_at(deadline, dispatch.taken()) => {}
                () = signals.next() => {}
            }
            return Ending::Done;
        },
        () = signals.next() => {}
    }
    dispatch.stop_all().await;
    if timeout(LEAVE, dispatch.quiet()).await.is_err() {
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
        Some(lifeline) => match lifeline.ended().await {
            Ok(()) => tracing::info!("the parent process has ended"),
            Err(error) => tracing::error!(%error, "the parent cannot be watched any more"),
        },
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
