//! What an agent can send, for `executor/fuzz`.

use std::io::Write;
use std::os::unix::net::UnixStream;

use clutch_protocol::v1::{self, agent_frame::Body, batch_ended};
use prost::Message;

use crate::conversation::whole_value;
use crate::data_line::receive;
use crate::inbox::{Broken, Inbox};
use crate::link::Link;

/// Takes in an envelope of a session's conversation.
pub fn conversation(data: &[u8]) {
    if let Ok(envelope) = v1::AgentEnvelope::decode(data) {
        // A refusal is as good as an understanding.
        hear(envelope).ok();
    }
}

fn hear(envelope: v1::AgentEnvelope) -> Result<(), Broken> {
    let mut link = Link::new(true);
    link.reconnect();
    // Numbers that cannot be are refused.
    envelope.resumed.map(|resumed| link.resume(resumed).ok());
    link.acknowledge(envelope.acknowledged).ok();
    link.took(envelope.frames.len() as u64, envelope.encoded_len());
    let mut inbox = Inbox::default();
    for frame in envelope.frames {
        let whole = match frame.body {
            Some(Body::BatchEnded(ended)) => inbox.begin(ended)?,
            Some(Body::PayloadPart(part)) => inbox.resume(part)?,
            Some(Body::Output(_) | Body::Capacity(_) | Body::BlobState(_)) | None => None,
        };
        if let Some((ended, pieces)) = whole
            && let Some(batch_ended::Outcome::Value(value)) = ended.outcome
        {
            whole_value(None, value, pieces)?;
        }
    }
    Ok(())
}

/// Takes in the bytes of a data line.
pub fn data_line(data: &[u8]) {
    let Ok((mut there, mut here)) = UnixStream::pair() else { return };
    if there.set_nonblocking(true).and_then(|()| there.write_all(data)).is_err() {
        return;
    }
    drop(there);
    while receive(&mut here).is_ok() {}
}
