//! Frames from a worker: one system call brings what is there, be it part of a
//! frame or several.

use std::io;

use clutch_worker_link::{Frame, FromWorker, LinkError, PREFIX_BYTES, Prefix, decode_header};
use rustix::buffer::spare_capacity;
use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Bytes that the buffer has room for, until a header needs more.
const BUFFER_BYTES: usize = 64 << 10;

/// Room for less than this is not worth a system call.
const LITTLE_ROOM: usize = 4 << 10;

/// Reads frames, and keeps what it has between calls.
#[derive(Debug)]
pub(super) struct Reader {
    max_payload: u64,
    /// Bytes that are not part of a frame yet; those before `begin` are used up.
    buffer: Vec<u8>,
    begin: usize,
    partial: Option<Partial>,
}

/// A frame whose payload is not complete.
#[derive(Debug)]
struct Partial {
    frame: Frame<FromWorker>,
    payload_bytes: usize,
}

impl Reader {
    pub(super) const fn new(max_payload: u64) -> Self {
        Self { max_payload, buffer: Vec::new(), begin: 0, partial: None }
    }

    /// The next frame of the line.
    ///
    /// # Cancel safety
    /// Cancel safe: what was read is kept for the next call.
    pub(super) async fn next(&mut self, line: &UnixStream) -> Result<Frame<FromWorker>, LinkError> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(frame);
            }
            if line.async_io(Interest::READABLE, || self.receive(line)).await? == 0 {
                let between = self.partial.is_none() && self.begin == self.buffer.len();
                let inside = || io::Error::from(io::ErrorKind::UnexpectedEof).into();
                return Err(if between { LinkError::Closed } else { inside() });
            }
        }
    }

    /// Receives what is there; 0 at the end of the line.
    fn receive(&mut self, line: &UnixStream) -> io::Result<usize> {
        // The bytes of a large payload go where they stay.
        let Some(Partial { frame, payload_bytes }) = &mut self.partial else {
            self.make_room();
            return receive(line, &mut self.buffer);
        };
        let got = receive(line, &mut frame.payload)?;
        if frame.payload.len() > *payload_bytes {
            self.buffer.extend_from_slice(&frame.payload[*payload_bytes..]);
            frame.payload.truncate(*payload_bytes);
        }
        Ok(got)
    }

    /// A frame, if all of it is there.
    fn take(&mut self) -> Result<Option<Frame<FromWorker>>, LinkError> {
        if let Some(partial) = self.partial.take() {
            if partial.frame.payload.len() == partial.payload_bytes {
                return Ok(Some(partial.frame));
            }
            self.partial = Some(partial);
            return Ok(None);
        }
        let ready = &self.buffer[self.begin..];
        let Some((prefix, rest)) = ready.split_first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let prefix = Prefix::parse(*prefix, self.max_payload)?;
        let Some((header, rest)) = rest.split_at_checked(prefix.header) else { return Ok(None) };
        let message = decode_header(header)?;
        let here = &rest[..rest.len().min(prefix.payload)];
        let mut payload = Vec::with_capacity(prefix.payload);
        payload.extend_from_slice(here);
        self.begin += PREFIX_BYTES + prefix.header + here.len();
        let frame = Frame { message, payload };
        if frame.payload.len() == prefix.payload {
            return Ok(Some(frame));
        }
        self.partial = Some(Partial { frame, payload_bytes: prefix.payload });
        Ok(None)
    }

    fn make_room(&mut self) {
        self.buffer.drain(..self.begin);
        self.begin = 0;
        if self.buffer.is_empty() {
            // A long traceback is not worth its memory any more.
            self.buffer.shrink_to(BUFFER_BYTES);
        }
        if self.buffer.capacity() - self.buffer.len() < LITTLE_ROOM {
            self.buffer.reserve(BUFFER_BYTES);
        }
    }
}

fn receive(line: &UnixStream, into: &mut Vec<u8>) -> io::Result<usize> {
    Ok(rustix::net::recv(line, spare_capacity(into), RecvFlags::DONTWAIT)?.0)
}

#[cfg(test)]
mod tests {
    use clutch_worker_link::{BatchReport, write_frame_blocking};
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn done(batch: u64, payload: &[u8]) -> Vec<u8> {
        let report = BatchReport { batch, ..BatchReport::default() };
        let mut bytes = Vec::new();
        write_frame_blocking(&mut bytes, &FromWorker::Done(report, Vec::new()), payload).unwrap();
        bytes
    }

    fn told(frame: Frame<FromWorker>) -> (u64, Vec<u8>) {
        let FromWorker::Done(report, _) = frame.message else { panic!() };
        (report.batch, frame.payload)
    }

    #[tokio::test]
    async fn frames_arrive_whole_however_they_are_cut() {
        let payloads = [b"ab".to_vec(), Vec::new(), vec![7; BUFFER_BYTES * 3], b"c".to_vec()];
        let frames = (1..).zip(&payloads).map(|(batch, payload)| done(batch, payload));
        let bytes = frames.collect::<Vec<_>>().concat();
        for cut in [1, 5, PREFIX_BYTES, 20, 40, 50, 70_000, bytes.len() - 1] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let bytes = bytes.clone();
            let writing = tokio::spawn(async move {
                for piece in [&bytes[..cut], &bytes[cut..]] {
                    theirs.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            });
            let mut reader = Reader::new(u64::MAX);
            for (batch, payload) in (1..).zip(&payloads) {
                let frame = told(reader.next(&ours).await.unwrap());
                assert!(frame == (batch, payload.clone()), "cut at {cut}: batch {batch}");
            }
            assert!(matches!(reader.next(&ours).await, Err(LinkError::Closed)));
            writing.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_payload_over_its_bound_is_refused_and_a_cut_frame_is_an_error() {
        for (sent, expected) in [(done(1, b"1234567"), "TooLong"), (vec![0; 5], "Io")] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(&sent).await.unwrap();
            drop(theirs);
            let error = Reader::new(6).next(&ours).await.unwrap_err();
            assert!(format!("{error:?}").starts_with(expected), "{error:?}");
        }
    }
}
