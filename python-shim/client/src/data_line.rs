//! The data line: shared memory of an agent on the same machine.

use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clutch_access::Address;
use clutch_protocol::v1::{self, data_request, data_response};
use prost::Message;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

const PREFACE: &[u8; 8] = b"CLUTCHD1";

/// Longest answer: it carries no content.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// How long an agent may take to answer. It allocates, which can mean to
/// evict, but never waits for anybody.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection on which descriptors travel.
#[derive(Debug)]
pub(crate) struct DataLine {
    stream: Mutex<UnixStream>,
}

/// Why a request was not granted.
#[derive(Debug)]
pub(crate) enum DataError {
    /// The line is broken.
    Broken(io::Error),
    /// The agent said no.
    Refused(Box<v1::Failure>),
}

impl From<io::Error> for DataError {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl DataLine {
    /// Opens the line of a session; `None` when descriptors do not reach this
    /// process, as through a tunnel or over TCP.
    pub(crate) fn open(address: &Address, session_id: &str) -> Option<Self> {
        let mut stream = UnixStream::connect_addr(address.unix()?).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.set_write_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(PREFACE).ok()?;
        let line = Self { stream: Mutex::new(stream) };
        let join = v1::JoinSession { session_id: session_id.to_owned() };
        let (_, probe) = line.ask(data_request::Body::Join(join)).ok()?;
        probe.map(|_| line)
    }

    /// Asks for room; what is written there becomes a blob by `commit`.
    pub(crate) fn allocate(
        &self,
        blob_id: u64,
        bytes: u64,
        writable: bool,
    ) -> Result<OwnedFd, DataError> {
        let allocate = v1::AllocateBlob { blob_id, bytes, writable };
        self.descriptor(data_request::Body::Allocate(allocate))
    }

    /// Says that the room is filled.
    pub(crate) fn commit(&self, blob_id: u64) -> Result<(), DataError> {
        self.ask(data_request::Body::Commit(v1::CommitBlob { blob_id })).map(drop)
    }

    /// Takes over the blob of a result.
    pub(crate) fn fetch(&self, blob_id: u64) -> Result<OwnedFd, DataError> {
        self.descriptor(data_request::Body::Fetch(v1::FetchBlob { blob_id }))
    }

    /// Whether workers would open the same file by that path.
    pub(crate) fn sees(&self, file: v1::SameFile) -> Result<bool, DataError> {
        match self.ask(data_request::Body::SameFile(file))?.0 {
            data_response::Body::FileIsSame(answer) => Ok(answer.same),
            data_response::Body::Done(_)
            | data_response::Body::Descriptor(_)
            | data_response::Body::Refused(_) => Err(unexpected()),
        }
    }

    fn descriptor(&self, body: data_request::Body) -> Result<OwnedFd, DataError> {
        match self.ask(body)? {
            (data_response::Body::Descriptor(_), Some(descriptor)) => Ok(descriptor),
            _ => Err(unexpected()),
        }
    }

    /// One question, one answer.
    fn ask(
        &self,
        body: data_request::Body,
    ) -> Result<(data_response::Body, Option<OwnedFd>), DataError> {
        let request = v1::DataRequest { body: Some(body) };
        let length = u32::try_from(request.encoded_len()).map_err(io::Error::other)?;
        let mut message = length.to_le_bytes().to_vec();
        request.encode(&mut message).map_err(io::Error::other)?;
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        stream.write_all(&message)?;
        let (answer, descriptor) = receive(&mut stream)?;
        match answer.body {
            Some(data_response::Body::Refused(failure)) => {
                Err(DataError::Refused(Box::new(failure)))
            }
            Some(body) => Ok((body, descriptor)),
            None => Err(unexpected()),
        }
    }
}

fn unexpected() -> DataError {
    DataError::Broken(io::Error::other("the agent answered something else"))
}

pub(crate) fn receive(
    stream: &mut UnixStream,
) -> Result<(v1::DataResponse, Option<OwnedFd>), DataError> {
    let mut prefix = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    // A descriptor comes with the first byte.
    let received = rustix::io::retry_on_intr(|| {
        let target = &mut [IoSliceMut::new(&mut prefix)];
        rustix::net::recvmsg(&*stream, target, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })
    .map_err(io::Error::from)?;
    if received.bytes == 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    let mut descriptor = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(mut rights) = message {
            descriptor = rights.next();
        }
    }
    stream.read_exact(&mut prefix[received.bytes..])?;
    let length = u32::from_le_bytes(prefix) as usize;
    if length > MAX_ANSWER_BYTES {
        return Err(io::Error::other(format!("an answer of {length} bytes")).into());
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    let answer = v1::DataResponse::decode(answer.as_slice()).map_err(io::Error::other)?;
    Ok((answer, descriptor))
}
