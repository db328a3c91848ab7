//! Which blobs a worker has mapped, and what it has to be told about them.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;

use clutch_worker_link::{
    LinkError, MAX_DESCRIPTORS, MappedBlob, ToWorker, write_frame, write_with_descriptors,
};
use tokio::net::UnixStream;

use crate::blobs::{Held, Mapped};

/// What a worker has.
#[derive(Debug, Default)]
pub(super) struct Mapping {
    mapped: HashMap<u64, Mapped>,
}

impl Mapping {
    /// Takes note that the worker gets these; gives those that it lacks.
    pub(super) fn add<'a>(&mut self, held: &'a [Held]) -> Vec<&'a Held> {
        // Noted again also when it has it: whoever held it before may let go.
        let lacks = |held: &&Held| self.mapped.insert(held.blob().id(), held.mapped()).is_none();
        held.iter().filter(lacks).collect()
    }

    /// Takes note that the worker loses what no batch will use any more, or so
    /// many of that.
    pub(super) fn sweep(&mut self, most: usize) -> Vec<u64> {
        let gone = self.mapped.extract_if(|_, mapped| !mapped.is_wanted());
        gone.take(most).map(|(blob, _)| blob).collect()
    }
}

/// Gives the worker these blobs.
///
/// # Errors
/// What is wrong with its line.
pub(super) async fn give(line: &UnixStream, blobs: &[&Held]) -> Result<(), LinkError> {
    for some in blobs.chunks(MAX_DESCRIPTORS) {
        let blobs = some.iter().map(|held| held.blob());
        let named = blobs.clone().map(|blob| MappedBlob { blob: blob.id(), bytes: blob.bytes() });
        let descriptors: Vec<BorrowedFd<'_>> = blobs.map(|blob| blob.descriptor()).collect();
        write_with_descriptors(line, &ToWorker::Map(named.collect()), &descriptors).await?;
    }
    Ok(())
}

/// Has the worker forget these.
///
/// # Errors
/// What is wrong with its line.
pub(super) async fn take_back(line: &mut UnixStream, blobs: Vec<u64>) -> Result<(), LinkError> {
    if blobs.is_empty() {
        return Ok(());
    }
    write_frame::<_, _, &[u8]>(line, &ToWorker::Forget(blobs), &[]).await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::watch;

    use super::*;
    use crate::blobs::Store;
    use crate::settings::BlobOptions;

    async fn held(store: &Store) -> Held {
        let blob = store.allocate(1, false).await.unwrap().commit(None).unwrap();
        Held::new(blob, Arc::new(watch::Sender::new(())))
    }

    #[tokio::test]
    async fn a_worker_is_given_what_it_lacks_and_loses_what_nobody_holds() {
        let store = Store::new(BlobOptions {
            memory_bytes: 1 << 20,
            spill_directory: std::env::temp_dir(),
            spill_bytes: 0,
        });
        let mut mapping = Mapping::default();
        let (one, two) = (held(&store).await, held(&store).await);
        let both = [one.clone(), two.clone()];
        assert_eq!(mapping.add(&both[..1]).len(), 1);
        assert_eq!(mapping.add(&both).len(), 1, "it has the first already");
        drop(both);
        assert!(mapping.sweep(9).is_empty());
        let first = one.blob().id();
        drop(one);
        assert_eq!(store.usage().0.blobs, 2, "the worker has it still");
        assert_eq!(mapping.sweep(9), [first]);
        assert_eq!(store.usage().0.blobs, 1);
        assert!(mapping.sweep(9).is_empty());
    }

    #[tokio::test]
    async fn many_blobs_go_in_several_messages() {
        let store = Store::new(BlobOptions {
            memory_bytes: 1 << 20,
            spill_directory: std::env::temp_dir(),
            spill_bytes: 0,
        });
        let mut blobs = Vec::new();
        for _ in 0..=MAX_DESCRIPTORS {
            blobs.push(held(&store).await);
        }
        let (here, there) = UnixStream::pair().unwrap();
        give(&here, &blobs.iter().collect::<Vec<_>>()).await.unwrap();
        let there = there.into_std().unwrap();
        there.set_nonblocking(false).unwrap();
        for expected in [MAX_DESCRIPTORS, 1] {
            let (message, descriptors) =
                clutch_worker_link::receive_with_descriptors::<ToWorker>(&there).unwrap();
            let ToWorker::Map(named) = message else { panic!("{message:?}") };
            assert_eq!((named.len(), descriptors.len()), (expected, expected));
        }
    }
}
