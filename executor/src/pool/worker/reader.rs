//! Frames from a worker: one system call brings what is there, be it part of a
//! frame or several.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use clutch_worker_link::{
    Frame, FromWorker, LinkError, PREFIX_BYTES, Prefix, decode_header, receive_once,
};
use rustix::buffer::spare_capacity;
use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Bytes that the buffer has room for, until a header needs more.
const BUFFER_BYTES: usize = 64 << 10;

/// Room for less than this is not worth a system call.
const LITTLE_ROOM: usize = 4 << 10;

/// Files that may have come ahead of their frames: a worker has two batches at
/// most.
const MAX_FILES: usize = 2;

/// What a worker says.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) frame: Frame<FromWorker>,
    /// The file with a result's buffers, if it has any.
    pub(super) file: Option<OwnedFd>,
}

/// Reads frames, and keeps what it has between calls.
#[derive(Debug)]
pub(super) struct Reader {
    max_payload: u64,
    /// Its bytes from `begin` to `end` are not part of a frame yet.
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
    partial: Option<Partial>,
    files: VecDeque<OwnedFd>,
}

/// A frame whose payload is not complete.
#[derive(Debug)]
struct Partial {
    answer: Answer,
    payload_bytes: usize,
}

impl Reader {
    pub(super) fn new(max_payload: u64) -> Self {
        let (buffer, files) = (Vec::new(), VecDeque::new());
        Self { max_payload, buffer, begin: 0, end: 0, partial: None, files }
    }

    /// The next frame of the line.
    ///
    /// # Cancel safety
    /// Cancel safe: what was read is kept for the next call.
    pub(super) async fn next(&mut self, line: &UnixStream) -> Result<Answer, LinkError> {
        loop {
            if let Some(answer) = self.take()? {
                return Ok(answer);
            }
            if line.async_io(Interest::READABLE, || self.receive(line)).await? == 0 {
                let between = self.partial.is_none() && self.begin == self.end;
                let inside = || io::Error::from(io::ErrorKind::UnexpectedEof).into();
                return Err(if between { LinkError::Closed } else { inside() });
            }
        }
    }

    /// Receives what is there; 0 at the end of the line.
    fn receive(&mut self, line: &UnixStream) -> io::Result<usize> {
        // The bytes of a large payload go where they stay. Its room ends where
        // it ends, so that no descriptor of a later frame is lost.
        if let Some(Partial { answer, .. }) = &mut self.partial {
            let room = spare_capacity(&mut answer.frame.payload);
            return Ok(rustix::net::recv(line, room, RecvFlags::DONTWAIT)?.0);
        }
        self.make_room();
        let (got, files) = receive_once(line, &mut self.buffer[self.end..])?;
        self.end += got;
        self.files.extend(files);
        if self.files.len() > MAX_FILES {
            let what = "more descriptors came than a worker has batches";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(got)
    }

    /// A frame, if all of it is there.
    fn take(&mut self) -> Result<Option<Answer>, LinkError> {
        if let Some(partial) = self.partial.take() {
            if partial.answer.frame.payload.len() == partial.payload_bytes {
                return Ok(Some(partial.answer));
            }
            self.partial = Some(partial);
            return Ok(None);
        }
        let ready = &self.buffer[self.begin..self.end];
        let Some((prefix, rest)) = ready.split_first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let prefix = Prefix::parse(*prefix, self.max_payload)?;
        let Some((header, rest)) = rest.split_at_checked(prefix.header) else { return Ok(None) };
        let message = decode_header(header)?;
        let here = &rest[..rest.len().min(prefix.payload)];
        let mut payload = Vec::new();
        payload.reserve_exact(prefix.payload);
        payload.extend_from_slice(here);
        self.begin += PREFIX_BYTES + prefix.header + here.len();
        let file = match &message {
            FromWorker::Done(_, lengths) if !lengths.is_empty() => {
                let missing = LinkError::Descriptors { expected: 1, got: 0 };
                Some(self.files.pop_front().ok_or(missing)?)
            }
            FromWorker::Done(..)
            | FromWorker::Failed(..)
            | FromWorker::Ready
            | FromWorker::SetupFailed(_)
            | FromWorker::Saved(_) => None,
        };
        let answer = Answer { frame: Frame { message, payload }, file };
        if answer.frame.payload.len() == prefix.payload {
            return Ok(Some(answer));
        }
        self.partial = Some(Partial { answer, payload_bytes: prefix.payload });
        Ok(None)
    }

    fn make_room(&mut self) {
        self.buffer.copy_within(self.begin..self.end, 0);
        self.end -= self.begin;
        self.begin = 0;
        if self.end == 0 && self.buffer.len() > BUFFER_BYTES {
            // A long traceback is not worth its memory any more.
            self.buffer = Vec::new();
        }
        if self.buffer.len() - self.end < LITTLE_ROOM {
            self.buffer.resize(self.end + BUFFER_BYTES, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use clutch_worker_link::{BatchReport, send_bytes_with_descriptors, write_frame_blocking};
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn done(batch: u64, payload: &[u8]) -> Vec<u8> {
        let report = BatchReport { batch, ..BatchReport::default() };
        let mut bytes = Vec::new();
        write_frame_blocking(&mut bytes, &FromWorker::Done(report, Vec::new()), payload).unwrap();
        bytes
    }

    fn told(answer: Answer) -> (u64, Vec<u8>) {
        let FromWorker::Done(report, _) = answer.frame.message else { panic!() };
        (report.batch, answer.frame.payload)
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

    fn with_buffers(batch: u64, payload: &[u8]) -> Vec<u8> {
        let report = BatchReport { batch, ..BatchReport::default() };
        let mut bytes = Vec::new();
        write_frame_blocking(&mut bytes, &FromWorker::Done(report, vec![5]), payload).unwrap();
        bytes
    }

    fn file(name: &str) -> OwnedFd {
        rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC).unwrap()
    }

    /// What the kernel calls a file, so that two can be told apart.
    fn inode(file: &OwnedFd) -> u64 {
        rustix::fs::fstat(file).unwrap().st_ino
    }

    #[tokio::test]
    async fn a_file_arrives_with_the_frame_that_speaks_of_it() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let files = [file("one"), file("two")];
        let large = vec![7; BUFFER_BYTES * 3];
        let frames = [
            (done(1, b"x"), None),
            (with_buffers(2, b"y"), Some(&files[0])),
            (done(3, &large), None),
            (with_buffers(4, &large), Some(&files[1])),
            (done(5, b"z"), None),
        ];
        let expected = frames.each_ref().map(|(_, file)| file.map(inode));
        let writing = async {
            for (bytes, file) in &frames {
                let file = file.map(AsFd::as_fd);
                send_bytes_with_descriptors(&theirs, bytes, file.as_slice()).await.unwrap();
            }
        };
        let reading = async {
            let mut reader = Reader::new(u64::MAX);
            for (batch, expected) in (1..).zip(expected) {
                let mut answer = reader.next(&ours).await.unwrap();
                let file = answer.file.take();
                assert_eq!((file.as_ref().map(inode), told(answer).0), (expected, batch));
            }
        };
        tokio::join!(writing, reading);
    }

    #[tokio::test]
    async fn a_file_that_is_missing_and_files_that_nobody_asked_for_break_the_line() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        send_bytes_with_descriptors(&theirs, &with_buffers(1, b""), &[]).await.unwrap();
        let error = Reader::new(9).next(&ours).await.unwrap_err();
        assert!(matches!(error, LinkError::Descriptors { expected: 1, got: 0 }), "{error:?}");

        let file = file("many");
        let files = [file.as_fd(), file.as_fd(), file.as_fd()];
        send_bytes_with_descriptors(&theirs, &done(1, b""), &files).await.unwrap();
        let error = Reader::new(9).next(&ours).await.unwrap_err();
        assert!(matches!(error, LinkError::Io(_)), "{error:?}");
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
