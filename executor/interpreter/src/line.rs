//! The worker's end of the task line.
//!
//! Reads ahead into a small buffer, so a small frame costs one system call; a
//! large payload goes from the socket straight into the Python object.

use std::io::{Error, ErrorKind};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use clutch_worker_link::{
    FromWorker, LinkError, PREFIX_BYTES, Prefix, ToWorker, decode_header, encode_frame_head,
};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustix::net::SendFlags;

use crate::rights::{Arrived, send_with};

/// Size of the buffer, and the payload from which on copying is worse than one
/// more system call.
const BUFFER_BYTES: usize = 64 << 10;

/// The line.
#[derive(Debug)]
pub(crate) struct TaskLine {
    socket: OwnedFd,
    max_payload_bytes: u64,
    buffer: Box<[u8]>,
    begin: usize,
    end: usize,
    arrived: Arrived,
}

/// A frame from the agent. The payload is missing when there is no memory for
/// it; then it was read all the same, and the line goes on.
pub(crate) struct Order<'py> {
    pub(crate) message: ToWorker,
    /// It had been read before, with the one before it.
    pub(crate) at_once: bool,
    pub(crate) payload: PyResult<Bound<'py, PyBytes>>,
    /// Those of [`ToWorker::Map`], one for each of its blobs.
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl TaskLine {
    pub(crate) fn new(socket: OwnedFd, max_payload_bytes: u64) -> Self {
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        let arrived = Arrived::default();
        Self { socket, max_payload_bytes, buffer, begin: 0, end: 0, arrived }
    }

    /// Most bytes of a payload, either way.
    pub(crate) fn max_payload_bytes(&self) -> u64 {
        self.max_payload_bytes
    }

    /// Waits for the next frame, letting other Python threads run.
    pub(crate) fn receive<'py>(&mut self, py: Python<'py>) -> Result<Order<'py>, LinkError> {
        let at_once = self.begin < self.end;
        if !at_once {
            self.arrived.nothing_left()?;
            if self.fill(py)? == 0 {
                return Err(LinkError::Closed);
            }
        }
        let mut prefix = [0; PREFIX_BYTES];
        self.read(py, as_uninit(&mut prefix))?;
        let prefix = Prefix::parse(prefix, self.max_payload_bytes)?;
        let mut header = vec![0; prefix.header];
        self.read(py, as_uninit(&mut header))?;
        let message = decode_header(&header)?;
        let descriptors = match &message {
            ToWorker::Map(blobs) => self.arrived.take(blobs.len())?,
            ToWorker::Setup { .. } | ToWorker::Run(_) | ToWorker::Forget(_) | ToWorker::Retire => {
                Vec::new()
            }
        };
        Ok(Order { message, at_once, payload: self.payload(py, prefix.payload)?, descriptors })
    }

    /// Sends a frame, with a descriptor when there is one, letting other Python
    /// threads run.
    pub(crate) fn send(
        &self,
        py: Python<'_>,
        message: &FromWorker,
        payload: &[u8],
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), LinkError> {
        let mut head = encode_frame_head(message, payload.len() as u64)?;
        let rest = if payload.len() <= BUFFER_BYTES {
            head.extend_from_slice(payload);
            &[]
        } else {
            payload
        };
        py.detach(|| {
            let sent = match descriptor {
                Some(descriptor) => send_with(&self.socket, &head, descriptor)?,
                None => 0,
            };
            self.write(&head[sent..])?;
            self.write(rest)
        })
    }

    #[expect(unsafe_code, reason = "a bytes object is filled before anyone sees it")]
    fn payload<'py>(
        &mut self,
        py: Python<'py>,
        length: usize,
    ) -> Result<PyResult<Bound<'py, PyBytes>>, LinkError> {
        // pyo3's own constructor would zero the bytes first.
        // SAFETY: a null source asks for uninitialised bytes of that length.
        let made = unsafe {
            let length = pyo3::ffi::Py_ssize_t::try_from(length).unwrap_or(isize::MAX);
            let bytes = pyo3::ffi::PyBytes_FromStringAndSize(std::ptr::null(), length);
            Bound::from_owned_ptr_or_err(py, bytes)
        };
        let bytes = match made.and_then(|made| Ok(made.cast_into::<PyBytes>()?)) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.skip(py, length)?;
                return Ok(Err(error));
            }
        };
        // SAFETY: the object has that many bytes and nobody else knows it yet.
        let space = unsafe {
            let start = pyo3::ffi::PyBytes_AsString(bytes.as_ptr());
            std::slice::from_raw_parts_mut(start.cast::<MaybeUninit<u8>>(), length)
        };
        self.read(py, space)?;
        Ok(Ok(bytes))
    }

    /// Fills `target`, first from the buffer.
    fn read(&mut self, py: Python<'_>, target: &mut [MaybeUninit<u8>]) -> Result<(), LinkError> {
        let mut filled = 0;
        while filled < target.len() {
            let rest = &mut target[filled..];
            let got = if self.begin < self.end {
                let ready = &self.buffer[self.begin..self.end];
                let length = ready.len().min(rest.len());
                for (to, from) in rest.iter_mut().zip(ready) {
                    to.write(*from);
                }
                self.begin += length;
                length
            } else if rest.len() >= BUFFER_BYTES {
                receive_some(py, &self.socket, rest)?
            } else {
                match self.fill(py)? {
                    0 => 0,
                    _ => continue,
                }
            };
            if got == 0 {
                return Err(Error::from(ErrorKind::UnexpectedEof).into());
            }
            filled += got;
        }
        Ok(())
    }

    /// Refills the empty buffer; 0 at the end of the line.
    fn fill(&mut self, py: Python<'_>) -> Result<usize, LinkError> {
        (self.begin, self.end) = (0, 0);
        // A payload's own bytes bring no descriptors, so only this looks.
        self.end = py.detach(|| self.arrived.receive(&self.socket, &mut self.buffer))?;
        Ok(self.end)
    }

    fn skip(&mut self, py: Python<'_>, length: usize) -> Result<(), LinkError> {
        let mut left = length;
        let mut scratch = [0; 4096];
        while left > 0 {
            let step = left.min(scratch.len());
            self.read(py, as_uninit(&mut scratch[..step]))?;
            left -= step;
        }
        Ok(())
    }

    fn write(&self, bytes: &[u8]) -> Result<(), LinkError> {
        let mut left = bytes;
        while !left.is_empty() {
            // Without the signal: a task may have changed what it does.
            match rustix::net::send(&self.socket, left, SendFlags::NOSIGNAL) {
                Ok(sent) => left = &left[sent..],
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::from(error).into()),
            }
        }
        Ok(())
    }
}

fn receive_some(
    py: Python<'_>,
    socket: &OwnedFd,
    target: &mut [MaybeUninit<u8>],
) -> Result<usize, LinkError> {
    let got = py.detach(|| {
        rustix::io::retry_on_intr(|| {
            rustix::io::read(socket, &mut *target).map(|(got, _)| got.len())
        })
    });
    Ok(got.map_err(Error::from)?)
}

/// The same bytes, to be written only.
#[expect(unsafe_code, reason = "a view of the same memory")]
fn as_uninit(bytes: &mut [u8]) -> &mut [MaybeUninit<u8>] {
    // SAFETY: same layout; users in this file only ever write initialised
    // bytes through it.
    unsafe { &mut *(std::ptr::from_mut(bytes) as *mut [MaybeUninit<u8>]) }
}
