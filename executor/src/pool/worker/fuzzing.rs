//! What a worker can send, for `executor/fuzz`.

use std::io::Write;
use std::os::unix::net::UnixStream as StdUnixStream;

use clutch_worker_link::{FromZygote, receive_with_descriptors};
use tokio::net::UnixStream;
use tokio::runtime::Builder;

use super::reader::Reader;

const MAX_PAYLOAD_BYTES: u64 = 1 << 20;

/// Takes in the bytes of a task line. Longer than a socket holds is not tried.
pub fn task_line(data: &[u8]) {
    let Some(line) = line_with(data) else { return };
    let Ok(runtime) = Builder::new_current_thread().enable_io().build() else { return };
    runtime.block_on(async {
        let Ok(line) = line.set_nonblocking(true).and_then(|()| UnixStream::from_std(line)) else {
            return;
        };
        let mut reader = Reader::new(MAX_PAYLOAD_BYTES);
        while reader.next(&line).await.is_ok() {}
    });
}

/// Takes in the bytes of a zygote's control line.
pub fn control_line(data: &[u8]) {
    let Some(line) = line_with(data) else { return };
    while receive_with_descriptors::<FromZygote>(&line).is_ok() {}
}

/// A line on which somebody said this and left.
fn line_with(data: &[u8]) -> Option<StdUnixStream> {
    let (mut there, here) = StdUnixStream::pair().ok()?;
    there.set_nonblocking(true).ok()?;
    there.write_all(data).ok()?;
    Some(here)
}
