//! The groups of who calls on a Unix socket.

use std::os::fd::{AsFd, AsRawFd};

/// More than anybody is in.
const MAX_GROUPS: usize = 65_536;

/// Whether the peer is in a group besides its first one.
pub(super) fn is_member(stream: &impl AsFd, group: u32) -> bool {
    groups(stream).is_ok_and(|groups| groups.contains(&group))
}

#[expect(unsafe_code, reason = "no safe wrapper asks for the groups of a peer")]
fn groups(stream: &impl AsFd) -> std::io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; 64];
    loop {
        let room = groups.len() * size_of::<u32>();
        let mut bytes = libc::socklen_t::try_from(room).unwrap_or(0);
        // SAFETY: the kernel writes at most `bytes` bytes, which is the room that
        // `groups` has, and any bytes are numbers.
        let result = unsafe {
            libc::getsockopt(
                stream.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let needed = bytes as usize / size_of::<u32>();
        if result == 0 {
            groups.truncate(needed);
            return Ok(groups);
        }
        let error = std::io::Error::last_os_error();
        let grows = needed > groups.len() && needed <= MAX_GROUPS;
        if error.raw_os_error() != Some(libc::ERANGE) || !grows {
            return Err(error);
        }
        groups.resize(needed, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_in_its_own_groups_and_in_no_other() {
        let (here, _there) = std::os::unix::net::UnixStream::pair().unwrap();
        let own = rustix::process::getgroups().unwrap();
        assert!(own.iter().all(|group| is_member(&here, group.as_raw())), "{own:?}");
        assert!(!is_member(&here, 4_000_000_000));
    }
}
