//! The RPCs: take apart, ask, put together.

use clutch_protocol::v1::executor_server::Executor;
use clutch_protocol::{PROTOCOL_MAJOR, v1};
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::attach;
use super::content::Library;
use super::encode;
use super::environments::Environments;
use super::resumable::Resumable;
use crate::blobs::Store;
use crate::dispatch::{DispatchHandle, Opening};
use crate::failure::{Failure, Kind};
use crate::limits::Enforcement;
use crate::session;
use crate::settings::{SessionOptions, ShareOptions};

/// What an agent says of itself.
#[derive(Debug, Clone)]
pub(crate) struct AgentIdentity {
    pub(crate) host: String,
    pub(crate) slots: u32,
}

/// Serves `clutch.v1.Executor`.
#[derive(Debug)]
pub(crate) struct ExecutorService {
    pub(crate) dispatch: DispatchHandle,
    pub(crate) environments: Environments,
    pub(crate) identity: AgentIdentity,
    pub(crate) options: SessionOptions,
    pub(crate) shares: ShareOptions,
    pub(crate) blobs: Store,
    pub(crate) enforcement: Enforcement,
    pub(crate) resumable: Resumable,
    /// Changes when an operator asks the agent to drain.
    pub(crate) drain: watch::Sender<()>,
    pub(crate) library: Library,
}

impl ExecutorService {
    async fn open(&self, request: v1::OpenSessionRequest) -> Result<v1::SessionOpened, Failure> {
        check_protocol(request.protocol, &request.client_version)?;
        let Some(driver) = request.environment else {
            let message = "field `environment` is missing";
            return Err(Failure::new(Kind::EnvironmentMismatch, message));
        };
        let share = session::share(request.weight, request.max_running, self.shares)?;
        let index = self.environments.choose(&driver, &request.python)?;
        let environment = self.environments.ready(index, &driver).await?;
        let silence = self.options.silence(request.silence_seconds);
        let opening = Opening { name: request.name, environment: index, silence, share };
        let session_id = self.dispatch.open(opening).await?;
        Ok(v1::SessionOpened {
            session_id,
            slots: share
                .max_running
                .map_or(self.identity.slots, |most| most.min(self.identity.slots)),
            environment: Some(environment),
            protocol: Some(v1::ProtocolVersion::CURRENT),
            agent_version: VERSION.to_owned(),
            host: self.identity.host.clone(),
            max_batch_bytes: self.options.max_batch_bytes,
            max_session_bytes: self.options.max_session_bytes,
            max_open_batches: u32::try_from(self.options.max_open_batches).unwrap_or(u32::MAX),
            silence_seconds: silence.as_secs_f64(),
        })
    }

    fn blob_status(&self) -> v1::BlobStatus {
        let (usage, limits) = self.blobs.usage();
        v1::BlobStatus {
            count: usage.blobs as u64,
            cached: usage.cached as u64,
            memory_bytes: usage.memory_bytes,
            memory_limit_bytes: limits.memory_bytes,
            spilled_bytes: usage.spilled_bytes,
            spill_limit_bytes: limits.spill_bytes,
        }
    }
}

#[tonic::async_trait]
impl Executor for ExecutorService {
    type AttachStream = ReceiverStream<Result<v1::AgentEnvelope, Status>>;

    async fn open_session(
        &self,
        request: Request<v1::OpenSessionRequest>,
    ) -> Result<Response<v1::OpenSessionResponse>, Status> {
        let result = match self.open(request.into_inner()).await {
            Ok(opened) => v1::open_session_response::Result::Opened(opened),
            Err(failure) => v1::open_session_response::Result::Refusal(v1::Refusal {
                kind: encode::kind(failure.kind).into(),
                fault: encode::fault(failure.kind.fault()).into(),
                message: failure.message,
                advice: failure.kind.advice().to_owned(),
                available: self.environments.describe(),
            }),
        };
        Ok(Response::new(v1::OpenSessionResponse { result: Some(result) }))
    }

    async fn attach(
        &self,
        request: Request<Streaming<v1::ClientEnvelope>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let ending = attach::Ending::of(request.extensions());
        let (dispatch, stream) = (self.dispatch.clone(), request.into_inner());
        let stream = attach::attach(dispatch, &self.resumable, stream, ending).await?;
        Ok(Response::new(stream))
    }

    type FetchContentStream = ReceiverStream<Result<v1::ContentPart, Status>>;

    async fn fetch_content(
        &self,
        request: Request<v1::FetchContentRequest>,
    ) -> Result<Response<Self::FetchContentStream>, Status> {
        let request = request.into_inner();
        Ok(Response::new(self.library.fetch(&self.blobs, &request).await?))
    }

    async fn drain(
        &self,
        _request: Request<v1::DrainRequest>,
    ) -> Result<Response<v1::DrainResponse>, Status> {
        let open = self.dispatch.drain().await;
        // The agent may be ending already.
        self.drain.send_replace(());
        Ok(Response::new(v1::DrainResponse {
            open_batches: u32::try_from(open).unwrap_or(u32::MAX),
        }))
    }

    async fn get_status(
        &self,
        _request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let snapshot = self.dispatch.snapshot().await;
        let snapshot = snapshot.ok_or_else(|| Status::unavailable("the agent is ending"))?;
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let sessions = snapshot.sessions.into_iter().map(|session| v1::SessionStatus {
            name: session.name,
            waiting: count(session.waiting),
            running: count(session.running),
            attached: session.attached,
            weight: session.weight.get(),
        });
        let workers = snapshot.workers.into_iter().map(|worker| v1::WorkerStatus {
            pid: worker.pid.0,
            executable: self.environments.executable(worker.environment),
            busy: worker.busy,
            batches: worker.batches,
        });
        Ok(Response::new(v1::GetStatusResponse {
            protocol: Some(v1::ProtocolVersion::CURRENT),
            agent_version: VERSION.to_owned(),
            pid: std::process::id(),
            host: self.identity.host.clone(),
            slots: self.identity.slots,
            environments: self.environments.status(),
            sessions: sessions.collect(),
            workers: workers.collect(),
            draining: snapshot.draining,
            blobs: Some(self.blob_status()),
            enforcement: Some(encode::enforcement(&self.enforcement)),
        }))
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn check_protocol(
    driver: Option<v1::ProtocolVersion>,
    client_version: &str,
) -> Result<(), Failure> {
    let spoken = v1::ProtocolVersion::CURRENT;
    let said = match driver {
        Some(driver) if driver.major == PROTOCOL_MAJOR => return Ok(()),
        Some(driver) => format!("{}.{}", driver.major, driver.minor),
        None => "no version".to_owned(),
    };
    let message = format!(
        "the driver (joblib-clutch {client_version}) speaks protocol {said}, the agent (clutch \
         {VERSION}) speaks {}.{}",
        spoken.major, spoken.minor
    );
    Err(Failure::new(Kind::ProtocolMismatch, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_major_is_refused_and_another_minor_is_not() {
        let version = |major, minor| Some(v1::ProtocolVersion { major, minor });
        assert!(check_protocol(version(PROTOCOL_MAJOR, 99), "9.9").is_ok());
        let failure = check_protocol(version(99, 7), "9.9").unwrap_err();
        assert_eq!(failure.kind, Kind::ProtocolMismatch);
        for named in ["99.7", "joblib-clutch 9.9", "1.1", VERSION] {
            assert!(failure.message.contains(named), "{}", failure.message);
        }
        assert!(check_protocol(None, "9.9").unwrap_err().message.contains("no version"));
    }
}
