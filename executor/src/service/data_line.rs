//! The data line: a second connection of a driver, on which descriptors of
//! blobs travel.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clutch_protocol::v1::{self, data_request, data_response};
use clutch_worker_link::send_bytes_with_descriptors;
use prost::Message;
use rustix::fs::MemfdFlags;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::encode;
use crate::dispatch::{DispatchHandle, Joined};
use crate::failure::{Failure, Kind};
use crate::session::{LineGuard, SessionBlobs};

/// What a data line begins with.
pub(super) const GREETING: &[u8; 8] = b"CLUTCHD1";

/// Bytes that a request may have.
const MAX_REQUEST_BYTES: usize = 64 << 10;

/// Data lines of one session.
const MAX_LINES: usize = 4;

/// How long a line may take to name its session.
const JOIN_WITHIN: Duration = Duration::from_secs(5);

/// An answer, and the descriptor that goes along.
struct Answer {
    body: data_response::Body,
    descriptor: Option<OwnedFd>,
}

impl Answer {
    fn plain(body: data_response::Body) -> Self {
        Self { body, descriptor: None }
    }

    fn with(body: data_response::Body, descriptor: OwnedFd) -> Self {
        Self { body, descriptor: Some(descriptor) }
    }

    fn refused(failure: Failure) -> Self {
        Self::plain(data_response::Body::Refused(encode::failure(failure)))
    }
}

/// Serves a line until it, or its session, ends. It counts as a stranger until
/// it has named a session.
pub(super) async fn serve_line(
    mut line: UnixStream,
    dispatch: DispatchHandle,
    stranger: OwnedSemaphorePermit,
) {
    let joined = match timeout(JOIN_WITHIN, join(&mut line, &dispatch)).await {
        Ok(Ok(joined)) => joined,
        Ok(Err(error)) => return tracing::info!(%error, "a data line did not begin"),
        Err(_) => return tracing::warn!("a data line that names no session was closed"),
    };
    drop(stranger);
    let Some((blobs, mut ended)) = joined else { return };
    tokio::select! {
        served = converse(&mut line, &blobs) => {
            if let Err(error) = served {
                tracing::info!(%error, "a data line ended");
            }
        }
        _ = ended.changed() => tracing::debug!("a data line ends with its session"),
    }
}

type Line = (LineGuard, tokio::sync::watch::Receiver<()>);

/// The first request names the session; `None` when it was refused.
async fn join(line: &mut UnixStream, dispatch: &DispatchHandle) -> io::Result<Option<Line>> {
    let mut greeting = [0; GREETING.len()];
    line.read_exact(&mut greeting).await?;
    let Some(request) = read_request(line).await? else { return Ok(None) };
    let Some(data_request::Body::Join(join)) = request.body else {
        return Err(invalid("the first request does not join a session"));
    };
    let joined = match dispatch.join(join.session_id).await {
        None => Err(Failure::new(Kind::Internal, "there is no such session")),
        Some(Joined { blobs, ended }) => {
            let guard = blobs.begin_line(MAX_LINES);
            guard.map(|guard| (guard, ended)).ok_or_else(|| {
                let message = format!("this session has {MAX_LINES} data lines already");
                Failure::new(Kind::QuotaExceeded, message)
            })
        }
    };
    match joined {
        Ok(joined) => {
            let probe = rustix::fs::memfd_create("clutch-probe", MemfdFlags::CLOEXEC)?;
            let done = data_response::Body::Done(v1::Done {});
            send(line, Answer::with(done, probe)).await?;
            Ok(Some(joined))
        }
        Err(failure) => {
            send(line, Answer::refused(failure)).await?;
            Ok(None)
        }
    }
}

async fn converse(line: &mut UnixStream, blobs: &LineGuard) -> io::Result<()> {
    while let Some(request) = read_request(line).await? {
        let answer = match request.body.ok_or_else(|| invalid("field `body` is missing"))? {
            data_request::Body::Join(_) => return Err(invalid("a line joins once")),
            data_request::Body::Allocate(wanted) => {
                let v1::AllocateBlob { blob_id, bytes, writable } = wanted;
                let allocated = blobs.allocate(blob_id, bytes, writable).await;
                allocated.map_or_else(Answer::refused, sent)
            }
            data_request::Body::Commit(filled) => {
                // The kernel may have to wait for pages.
                let session = blobs.session();
                let sealed = tokio::task::spawn_blocking(move || session.commit(filled.blob_id));
                match sealed.await.map_err(io::Error::other)? {
                    Ok(()) => Answer::plain(data_response::Body::Done(v1::Done {})),
                    Err(failure) => Answer::refused(failure),
                }
            }
            data_request::Body::Fetch(wanted) => fetch(blobs, wanted.blob_id),
            data_request::Body::SameFile(file) => {
                let same = tokio::task::spawn_blocking(move || is_same(&file));
                let same = same.await.map_err(io::Error::other)?;
                let same = v1::FileIsSame { same };
                Answer::plain(data_response::Body::FileIsSame(same))
            }
        };
        send(line, answer).await?;
    }
    Ok(())
}

/// A result's blob, which is the driver's from now on.
fn fetch(blobs: &SessionBlobs, number: u64) -> Answer {
    let Some(blob) = blobs.take_result(number) else {
        let message = format!("there is no result blob {number}, or it was fetched before");
        return Answer::refused(Failure::new(Kind::Internal, message));
    };
    blob.descriptor().try_clone_to_owned().map_or_else(
        |error| {
            let message = format!("no descriptor to be had: {error}");
            Answer::refused(Failure::new(Kind::Internal, message))
        },
        sent,
    )
}

fn sent(descriptor: OwnedFd) -> Answer {
    Answer::with(data_response::Body::Descriptor(v1::DescriptorSent {}), descriptor)
}

/// Whether that path leads to that file here; looks at the disk.
fn is_same(file: &v1::SameFile) -> bool {
    let path: PathBuf = Path::new(&file.path).to_owned();
    path.is_absolute()
        && rustix::fs::stat(&path).is_ok_and(|here| {
            here.st_dev == file.device
                && here.st_ino == file.inode
                && u64::try_from(here.st_size).is_ok_and(|bytes| bytes == file.bytes)
        })
}

/// The next request; `None` at the end of the line.
pub(super) async fn read_request(line: &mut UnixStream) -> io::Result<Option<v1::DataRequest>> {
    let mut length = [0; 4];
    if line.read(&mut length[..1]).await? == 0 {
        return Ok(None);
    }
    line.read_exact(&mut length[1..]).await?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_REQUEST_BYTES {
        let message = format!("a request of {length} bytes, at most {MAX_REQUEST_BYTES} may be");
        return Err(invalid(&message));
    }
    let mut request = vec![0; length];
    line.read_exact(&mut request).await?;
    let request = v1::DataRequest::decode(request.as_slice());
    request.map(Some).map_err(|error| invalid(&error.to_string()))
}

async fn send(line: &UnixStream, answer: Answer) -> io::Result<()> {
    let response = v1::DataResponse { body: Some(answer.body) };
    let length = u32::try_from(response.encoded_len()).map_err(io::Error::other)?;
    let mut bytes = length.to_le_bytes().to_vec();
    response.encode(&mut bytes).map_err(io::Error::other)?;
    let descriptor = answer.descriptor.as_ref().map(AsFd::as_fd);
    send_bytes_with_descriptors(line, &bytes, descriptor.as_slice()).await
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
